"""Who may sign in, and as what. Nobody is ever deleted: their answers and what they did stay theirs."""

import re
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.storage.models import ApiToken, Conversation, ConversationStatus, Operator, Role, now
from app.storage.wake import Channel, wake
from app.web import passwords
from app.web.audit import audit
from app.web.auth import me
from app.web.database import reader, writer
from app.web.form import NAME_LIMIT, field, language

blueprint = Blueprint("operators", __name__, url_prefix="/operators")
ONE = f"/<int(max={10**18 - 1}):operator_id>"
LOGIN = re.compile(r"[A-Za-z0-9._@-]{1,100}")
VK_ID = re.compile(r"(?:id)?([1-9][0-9]{0,17})")

ROLES = {
    Role.OPERATOR: lazy_gettext("operator"),
    Role.MANAGER: lazy_gettext("manager"),
    Role.ADMIN: lazy_gettext("admin"),
}


class Refused(Exception):
    """What was asked for cannot be; the text is for the operator."""


@blueprint.get("")
def page() -> ResponseReturnValue:
    """All of them, those who may sign in first, and a form for one more."""
    return _page()


@blueprint.post("")
def add() -> ResponseReturnValue:
    """Add somebody. The answer shows the invitation, once."""
    try:
        with writer() as session:
            _operator, invitation = add_one(session, _login(), _asked())
    except Refused as refusal:
        return _page(problem=str(refusal)), 400
    except IntegrityError:
        return _page(problem=gettext("Somebody has this login or this VK id already.")), 409
    return _page(invitation=invitation, invited=field("name")), 201


@blueprint.get(ONE)
def one(operator_id: int) -> ResponseReturnValue:
    """One of them, to be changed."""
    return _one(operator_id)


@blueprint.post(ONE)
def change(operator_id: int) -> ResponseReturnValue:
    """Name, role, VK id and language."""
    try:
        with writer() as session:
            change_one(session, operator_id, _asked())
    except Refused as refusal:
        return _one(operator_id, problem=str(refusal)), 400
    except IntegrityError:
        return _one(operator_id, problem=gettext("Somebody has this login or this VK id already.")), 409
    flash(gettext("Saved."))
    return redirect(f"/operators/{operator_id}", 303)


@blueprint.post(f"{ONE}/invite")
def invite(operator_id: int) -> ResponseReturnValue:
    """A new invitation, shown once, in place of the password. Their sessions and tokens end."""
    with writer() as session:
        invitation = invite_one(session, operator_id)
    return _one(operator_id, invitation=invitation)


@blueprint.post(f"{ONE}/deactivate")
def deactivate(operator_id: int) -> ResponseReturnValue:
    """They may not sign in any more, and all their sessions end. What they had in hand is for the others."""
    try:
        with writer() as session:
            deactivate_one(session, operator_id)
    except Refused as refusal:
        return _one(operator_id, problem=str(refusal)), 400
    return redirect(f"/operators/{operator_id}", 303)


@blueprint.post(f"{ONE}/activate")
def activate(operator_id: int) -> ResponseReturnValue:
    """They may sign in again, with the password they had."""
    with writer() as session:
        activate_one(session, operator_id)
    return redirect(f"/operators/{operator_id}", 303)


def add_one(session: Session, login: str, values: Mapping[str, Any]) -> tuple[Operator, str]:
    """Add an operator; the other one is the invitation. Raises `IntegrityError` when the login or the VK id is taken."""
    operator = Operator(login=login, session_version=0, **values)
    passwords.forget_password(operator)
    session.add(operator)
    invitation = passwords.invite(session, operator)
    audit(session, "operator.add", f"operator {operator.id}", login=operator.login, role=operator.role)
    return operator, invitation


def change_one(session: Session, operator_id: int, values: Mapping[str, Any]) -> None:
    """Set these columns. Raises `Refused` when no admin would be left."""
    operator = _locked(session, operator_id)
    if values.get("role", Role.ADMIN) != Role.ADMIN:
        _keep_an_admin(session, operator)
    changed = {name: value for name, value in values.items() if getattr(operator, name) != value}
    for name, value in changed.items():
        setattr(operator, name, value)
    if changed:
        audit(session, "operator.change", f"operator {operator_id}", **changed)


def invite_one(session: Session, operator_id: int) -> str:
    """An invitation in place of the password and the tokens; 400 for oneself, and for somebody who may not sign in."""
    if operator_id == me().id:
        abort(400, gettext("Change your own password on your account's page."))
    operator = _locked(session, operator_id)
    if not operator.active:
        abort(400)
    passwords.forget_password(operator)
    # whoever had the password may have made some, and nobody but the owner sees them
    valid = update(ApiToken).where(ApiToken.operator_id == operator_id, ApiToken.revoked_at.is_(None))
    session.execute(valid.values(revoked_at=now()))
    audit(session, "password.reset", f"operator {operator_id}")
    return passwords.invite(session, operator)


def deactivate_one(session: Session, operator_id: int) -> None:
    """End their sessions and give what they had in hand to the others. Raises `Refused` when no admin would be left."""
    operator = _locked(session, operator_id)
    _keep_an_admin(session, operator)
    operator.active = False
    operator.session_version += 1
    in_hand = update(Conversation).where(Conversation.assignee_id == operator_id)
    session.execute(in_hand.where(Conversation.status == ConversationStatus.OPEN).values(assignee_id=None))
    wake(session, Channel.INBOX)
    audit(session, "operator.deactivate", f"operator {operator_id}")


def activate_one(session: Session, operator_id: int) -> None:
    """Let them sign in again."""
    _locked(session, operator_id).active = True
    audit(session, "operator.activate", f"operator {operator_id}")


def _page(**more: Any) -> str:
    rows = reader().scalars(select(Operator).order_by(Operator.active.desc(), Operator.name, Operator.id)).all()
    return render_template("operators.html", operators=rows, roles=ROLES, name_limit=NAME_LIMIT, **more)


def _one(operator_id: int, **more: Any) -> str:
    operator = reader().get(Operator, operator_id) or abort(404)
    return render_template("operator.html", operator=operator, roles=ROLES, name_limit=NAME_LIMIT, **more)


def _login() -> str:
    """The new login. Raises `Refused`."""
    if not LOGIN.fullmatch(field("login")):
        raise Refused(gettext("A login has 1 to 100 Latin letters, digits, and . _ @ -"))
    return field("login")


def _asked() -> dict[str, Any]:
    """What the form says of an operator. Raises `Refused`."""
    name, vk_id = field("name"), VK_ID.fullmatch(field("vk_id"))
    if not 0 < len(name) <= NAME_LIMIT:
        raise Refused(gettext("A name has 1 to %(most)s characters.", most=NAME_LIMIT))
    if field("vk_id") and vk_id is None:
        raise Refused(gettext("A VK id is a number, as in vk.com/id123."))
    if field("role") not in list(Role):
        abort(400)
    return {
        "name": name,
        "role": Role(field("role")),
        "vk_id": int(vk_id[1]) if vk_id else None,
        "language": language(),
    }


def _locked(session: Session, operator_id: int) -> Operator:
    """The operator. All admins are held until the transaction ends: two must not take the role from each other at once.

    `key_share`: what refers to them, as an answer does, is written meanwhile; else each would wait for the other.
    """
    query = select(Operator).where((Operator.role == Role.ADMIN) | (Operator.id == operator_id))
    held = session.scalars(query.order_by(Operator.id).with_for_update(key_share=True)).all()
    return next((operator for operator in held if operator.id == operator_id), None) or abort(404)


def _keep_an_admin(session: Session, operator: Operator) -> None:
    """Raise `Refused` when `operator`, held by `_locked`, is the last one who may manage the others."""
    admins = session.scalars(select(Operator.id).where(Operator.role == Role.ADMIN, Operator.active)).all()
    if list(admins) == [operator.id]:
        raise Refused(gettext("This is the last admin: make somebody else an admin first."))
