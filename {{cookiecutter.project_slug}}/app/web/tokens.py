"""One's own tokens for the JSON API, and the API's description as a page."""

from typing import Any

from flask import Blueprint, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from sqlalchemy import select

from app.storage.models import ApiToken, now
from app.storage.tokens import NAME_LIMIT, Scope, create
from app.web import problem
from app.web.api.describe import document
from app.web.audit import audit
from app.web.auth import me
from app.web.database import reader, writer
from app.web.form import field

blueprint = Blueprint("tokens", __name__, url_prefix="/tokens")
SCOPES = {
    Scope.READ: lazy_gettext("see what I may see"),
    Scope.ANSWER: lazy_gettext("answer, note, assign and close"),
    Scope.MANAGE: lazy_gettext("canned answers, set-aside events, operators and the trail, as far as my role goes"),
}


@blueprint.get("")
def page() -> ResponseReturnValue:
    """One's tokens, and a form for one more."""
    return _page()


@blueprint.post("")
def add() -> ResponseReturnValue:
    """Make a token. The answer shows it, once."""
    name, scopes = field("name"), [scope for scope in Scope if scope in request.form.getlist("scope")]
    if not 0 < len(name) <= NAME_LIMIT:
        return _page(problem=gettext("A name has 1 to %(most)s characters.", most=NAME_LIMIT)), 400
    if not scopes:
        return _page(problem=gettext("Choose what the token is good for.")), 400
    with writer() as session:
        token, secret = create(session, me().id, name, scopes)
        audit(session, "token.add", f"token {token.id}", name=name, scopes=token.scopes)
    return _page(secret=secret), 201


@blueprint.post(f"/<int(max={10**18 - 1}):token_id>/revoke")
def revoke(token_id: int) -> ResponseReturnValue:
    """From now on it opens nothing."""
    with writer() as session:
        token = session.get(ApiToken, token_id, with_for_update=True)
        if token is None or token.operator_id != me().id:
            abort(404)
        token.revoked_at = token.revoked_at or now()
        audit(session, "token.revoke", f"token {token_id}", name=token.name)
    return redirect("/tokens", 303)


@blueprint.get("/api")
def description() -> ResponseReturnValue:
    """What the API can do."""
    return render_template("api.html", document=document(), prefix=problem.PREFIX, scopes=SCOPES)


def _page(**more: Any) -> str:
    valid = select(ApiToken).where(ApiToken.operator_id == me().id, ApiToken.revoked_at.is_(None))
    tokens = reader().scalars(valid.order_by(ApiToken.id.desc())).all()
    return render_template("tokens.html", tokens=tokens, scopes=SCOPES, name_limit=NAME_LIMIT, prefix=problem.PREFIX, **more)
