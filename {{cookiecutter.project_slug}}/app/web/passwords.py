"""New passwords: what is asked of them, and the ways to get one: one's own choice, or an invitation that works once."""

import secrets
from datetime import timedelta

from flask import Blueprint, abort, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.storage.models import Operator
from app.web.audit import audit
from app.web.auth import begin_session, hash_password
from app.web.database import reader, writer

blueprint = Blueprint("invitation", __name__)
ADDRESS = "/invitation"
SHORTEST, LONGEST = 10, 200  # characters
VALID = timedelta(days=3)


def problem_with(password: str, again: str, login: str) -> str | None:
    """Why `password` will not do, in words, or None."""
    if not SHORTEST <= len(password) <= LONGEST:
        return str(gettext("A password has %(least)s to %(most)s characters.", least=SHORTEST, most=LONGEST))
    if len(set(password)) < SHORTEST // 2 or login.lower() in password.lower():
        return str(gettext("This password is too easy to guess."))
    if password != again:
        return str(gettext("The two passwords differ."))
    return None


def set_password(operator: Operator, password: str) -> None:
    """Give `operator` a new password. All their sessions end, and no invitation works any more."""
    operator.password_hash = hash_password(password)
    operator.session_version += 1


def forget_password(operator: Operator) -> None:
    """End the sessions and the password of `operator`: only a new invitation lets them in."""
    # the hash of something, so that a try takes as long as any
    set_password(operator, secrets.token_hex(32))


def invite(session: Session, operator: Operator) -> str:
    """An address at which `operator` chooses a password, once, within `VALID`."""
    session.flush()
    return f"{request.host_url.rstrip('/')}{ADDRESS}?key={_signer().dumps([operator.id, operator.session_version])}"


@blueprint.get(ADDRESS)
def page() -> ResponseReturnValue:
    """Ask for a password. The key stands in the query, which no log of ours holds."""
    _invited()
    return render_template("invitation.html", shortest=SHORTEST, longest=LONGEST)


@blueprint.post(ADDRESS)
def accept() -> ResponseReturnValue:
    """Set the password and begin a session."""
    operator_id, version = _invited()
    password = request.form.get("password", "")
    with writer() as session:
        operator = session.get_one(Operator, operator_id, with_for_update=True)
        if operator.session_version != version:
            abort(410)
        problem = problem_with(password, request.form.get("again", ""), operator.login)
        if problem is None:
            set_password(operator, password)
            audit(session, "password.chosen", f"operator {operator.id}", operator_id=operator.id)
            return begin_session(operator, "/")
    return render_template("invitation.html", shortest=SHORTEST, longest=LONGEST, problem=problem), 400


def _invited() -> tuple[int, int]:
    """Number and session version of whom the request's key invites; 410 when it is worth nothing, or nothing any more."""
    try:
        operator_id, version = _signer().loads(request.args.get("key", ""), max_age=int(VALID.total_seconds()))
    except BadSignature:
        abort(410)
    valid = select(Operator.id).where(Operator.id == operator_id, Operator.session_version == version, Operator.active)
    if reader().scalar(valid) is None:
        abort(410)
    return operator_id, version


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.secret_key or "", salt="invitation")
