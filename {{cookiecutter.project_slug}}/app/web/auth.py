"""Signing in and out."""

import re
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode

import structlog
from argon2.exceptions import InvalidHashError, VerificationError
from flask import Blueprint, Flask, abort, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from sqlalchemy import select

from app.storage.engine import readiness
from app.storage.migrate import hasher
from app.storage.models import Operator, Role
from app.web.database import engine, reader
from app.web.errors import error_page
from app.web.form import field
from app.web.live import is_htmx

log = structlog.get_logger()
blueprint = Blueprint("auth", __name__)

# a path of this site: browsers read "//" and "/\" as another host, and drop control characters before they look
OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x1f\\]*")
OPEN = ("auth.login", "auth.sign_in", "callback.receive", "health.alive", "health.ready", "static")
# verified when there is no such login, so that the answer takes as long as for a wrong password
NOBODY = hasher.hash("nobody")


@dataclass(frozen=True)
class SignedIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """The operator of this request."""

    id: int
    name: str
    role: Role
    session_version: int

    def get_id(self) -> str:
        """What the session remembers; it is worth nothing once `Operator.session_version` was raised."""
        return f"{self.id}.{self.session_version}"


def register(app: Flask) -> None:
    """Ask for a sign-in everywhere but at the few `OPEN` endpoints."""
    manager = LoginManager()
    manager.init_app(app, add_context_processor=False)  # it asks the database for the operator of every page, also of an error's
    manager.session_protection = None  # it would end the session of a phone that changes networks
    manager.user_loader(_load)
    app.before_request(_need_sign_in)
    app.jinja_env.globals["me"] = me


def me() -> SignedIn:
    """The operator of this request."""
    return cast("SignedIn", current_user)


def _need_sign_in() -> ResponseReturnValue | None:
    if request.endpoint is None or request.endpoint in OPEN or current_user.is_authenticated:
        return None
    return _ask_to_sign_in()


def _load(user_id: str) -> SignedIn | None:
    operator_id, version = map(int, user_id.split("."))
    row = reader().execute(
        select(Operator.id, Operator.name, Operator.role, Operator.session_version).where(
            Operator.id == operator_id, Operator.session_version == version, Operator.active
        )
    )
    found = row.one_or_none()
    return SignedIn(*found) if found else None


def _ask_to_sign_in() -> ResponseReturnValue:
    if is_htmx():
        # a redirect would put the whole sign-in page into a part of this one
        page = _own_path(re.sub(r"^\w+://[^/]+", "", request.headers.get("HX-Current-URL", "")))
        return "", 401, {"HX-Redirect": _login_address(page)}
    if request.method == "POST":
        return error_page(401, text=field("text"))
    return redirect(_login_address(_own_path(request.full_path.rstrip("?"))))


def _login_address(page: str) -> str:
    return "/login" if page == "/" else f"/login?{urlencode({'next': page})}"


def _own_path(path: str | None) -> str:
    """`path`, or the inbox when it leads out of this site."""
    return path if path and OWN_PATH.fullmatch(path) else "/"


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    """The sign-in page; straight on to the page asked for when signed in already."""
    if current_user.is_authenticated:
        return redirect(_own_path(request.args.get("next")))
    if readiness(engine()):
        abort(503)  # said before a password is typed in vain
    return render_template("login.html")


@blueprint.post("/login")
def sign_in() -> ResponseReturnValue:
    """Begin a session. A wrong login and a wrong password look the same from outside, in words and in time."""
    name = field("login")
    found = reader().execute(
        select(Operator.id, Operator.name, Operator.role, Operator.session_version, Operator.password_hash).where(
            Operator.login == name, Operator.active
        )
    )
    operator = found.one_or_none()
    right = _verify(operator.password_hash if operator else NOBODY, request.form.get("password", ""))
    if operator is None or not right:
        log.warning("sign-in refused", address=request.remote_addr)
        return render_template("login.html", login=name, problem=gettext("Wrong login or password.")), 401
    session.clear()  # nothing that was in the browser before goes on as somebody's session
    session.permanent = True
    login_user(SignedIn(operator.id, operator.name, operator.role, operator.session_version))
    log.info("signed in", operator=operator.id, address=request.remote_addr)
    return redirect(_own_path(request.args.get("next")))


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End this browser's session."""
    logout_user()
    session.clear()
    return redirect("/login")


def _verify(password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
