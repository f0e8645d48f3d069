"""Signing in and out, and who may do what."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

import structlog
from argon2.exceptions import InvalidHashError, VerificationError
from flask import Blueprint, Flask, abort, g, make_response, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import format_timedelta, gettext
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from sqlalchemy import bindparam, select

from app.storage.engine import readiness
from app.storage.migrate import hasher
from app.storage.models import Operator, Role
from app.web import throttle
from app.web.audit import audit
from app.web.database import engine, reader, writer
from app.web.errors import error_page
from app.web.form import field
from app.web.live import is_htmx

log = structlog.get_logger()
blueprint = Blueprint("auth", __name__)

ANYBODY = None
# Who may do what: the least role that an endpoint needs; a blueprint's name stands for all of its others.
# What is not here is closed to everybody, and a test fails.
LEAST: dict[str, Role | None] = {
    "static": ANYBODY,
    "health": ANYBODY,
    "callback": ANYBODY,
    "metrics": ANYBODY,  # asks for a token
    "auth.login": ANYBODY,
    "auth.sign_in": ANYBODY,
    "invitation": ANYBODY,
    "vk_id": ANYBODY,
    "api": ANYBODY,  # it asks for a token, and for the role that the page of the same work needs
    "auth.logout": Role.OPERATOR,
    "inbox": Role.OPERATOR,
    "conversation": Role.OPERATOR,
    "files": Role.OPERATOR,
    "people": Role.OPERATOR,
    "reports": Role.OPERATOR,
    "status": Role.OPERATOR,
    "events": Role.OPERATOR,
    "events.dismiss": Role.MANAGER,
    "account": Role.OPERATOR,
    "tokens": Role.OPERATOR,
    "canned": Role.MANAGER,
    "operators": Role.ADMIN,
    "trail": Role.ADMIN,
    "connect": Role.ADMIN,
}
RANKS = list(Role)  # each may do what those before it may

# a path of this site: browsers read "//" and "/\" as another host, and drop control characters before they look
OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x1f\\]*")
# One at a time in each worker, and always by the same thread. A hash takes 19 MiB, and what the allocator had for a thread it
# keeps: the threads that answer would hold it each, 150 MB of the container's 384. A worker has one CPU, so none is faster.
hashing = ThreadPoolExecutor(1, "passwords")
# verified when there is no such login, so that the answer takes as long as for a wrong password
NOBODY = hasher.hash("nobody")


@dataclass(frozen=True)
class SignedIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """The operator of this request."""

    id: int
    login: str
    name: str
    role: Role
    language: str | None
    session_version: int

    def get_id(self) -> str:
        """What the session remembers; it is worth nothing once `Operator.session_version` was raised."""
        return f"{self.id}.{self.session_version}"


# in the order of SignedIn
COLUMNS = (Operator.id, Operator.login, Operator.name, Operator.role, Operator.language, Operator.session_version)
SIGNED_IN = select(*COLUMNS).where(
    Operator.id == bindparam("operator"), Operator.session_version == bindparam("version"), Operator.active
)


def register(app: Flask) -> None:
    """Let nobody in but where `LEAST` allows it."""
    manager = LoginManager()
    manager.init_app(app, add_context_processor=False)  # it asks the database for the operator of every page, also of an error's
    manager.session_protection = None  # it would end the session of a phone that changes networks
    manager.user_loader(_load)
    app.before_request(_guard)
    app.jinja_env.globals |= {"me": me, "may": may}


def me() -> SignedIn:
    """The operator of this request."""
    return cast("SignedIn", current_user)


def least(endpoint: str) -> Role | None:
    """The least role for `endpoint`, None when anybody may. Raises `KeyError` when nobody has decided that yet."""
    return LEAST[endpoint] if endpoint in LEAST else LEAST[endpoint.partition(".")[0]]


def may(endpoint: str) -> bool:
    """Whether the operator of this request may use `endpoint`."""
    role = least(endpoint)
    return role is None or RANKS.index(me().role) >= RANKS.index(role)


def _guard() -> ResponseReturnValue | None:
    if request.endpoint is None or least(request.endpoint) is ANYBODY:
        return None
    if not current_user.is_authenticated:
        return _ask_to_sign_in()
    g.language = me().language
    return None if may(request.endpoint) else abort(403)


def _load(user_id: str) -> SignedIn | None:
    operator_id, version = map(int, user_id.split("."))
    found = reader().execute(SIGNED_IN, {"operator": operator_id, "version": version}).one_or_none()
    return SignedIn(*found) if found else None


def _ask_to_sign_in() -> ResponseReturnValue:
    if is_htmx():
        # a redirect would put the whole sign-in page into a part of this one
        page = own_path(re.sub(r"^\w+://[^/]+", "", request.headers.get("HX-Current-URL", "")))
        return "", 401, {"HX-Redirect": _login_address(page)}
    if request.method == "POST":
        return error_page(401, text=field("text") or field("note"))
    return redirect(_login_address(own_path(request.full_path.rstrip("?"))))


def _login_address(page: str) -> str:
    return "/login" if page == "/" else f"/login?{urlencode({'next': page})}"


def own_path(path: str | None) -> str:
    """`path`, or the inbox when it leads out of this site."""
    return path if path and OWN_PATH.fullmatch(path) else "/"


@blueprint.get("/login")
def login() -> ResponseReturnValue:
    """The sign-in page; straight on to the page asked for when signed in already."""
    if current_user.is_authenticated:
        return redirect(own_path(request.args.get("next")))
    if readiness(engine()):
        abort(503)  # said before a password is typed in vain
    return render_template("login.html")


@blueprint.post("/login")
def sign_in() -> ResponseReturnValue:
    """Begin a session. A wrong login and a wrong password look the same from outside, in words and in time."""
    name = field("login")
    counted = throttle.names(name)
    with writer() as database:
        wait = throttle.count(database, counted)
    if wait:
        log.warning("sign-in held back", address=request.remote_addr)
        problem, headers = too_often(wait)
        return render_template("login.html", login=name, problem=problem), 429, headers
    found = reader().execute(select(Operator.password_hash, *COLUMNS).where(Operator.login == name, Operator.active))
    operator = found.one_or_none()
    right = verify(operator.password_hash if operator else NOBODY, request.form.get("password", ""))
    with writer() as database:
        if operator is None or not right:
            # the login of somebody unknown is not kept: it may be a password, typed into the wrong field
            audit(database, "session.refused", operator_id=operator.id if operator else None)
        else:
            throttle.take_back(database, counted)
            audit(database, "session.begin", operator_id=operator.id)
    if operator is None or not right:
        log.warning("sign-in refused", address=request.remote_addr)
        return render_template("login.html", login=name, problem=gettext("Wrong login or password.")), 401
    return begin_session(operator, own_path(request.args.get("next")))


def begin_session(operator: Any, page: str) -> ResponseReturnValue:
    """Sign in `operator`, who may be a row with `COLUMNS`, and go to `page`."""
    renew_session(operator)
    log.info("signed in", operator=operator.id, address=request.remote_addr)
    response = make_response(redirect(page, 303))
    throttle.remember_browser(response, operator.login)
    return response


def renew_session(operator: Any) -> None:
    """Make this browser's session a new one of `operator`, who may be a row with `COLUMNS`."""
    session.clear()  # nothing that was in the browser before goes on as somebody's session
    session.permanent = True
    login_user(SignedIn(*(getattr(operator, column.key) for column in COLUMNS)))


def too_often(wait: timedelta) -> tuple[str, dict[str, str]]:
    """What to say to one password too many, and the headers of that answer, 429."""
    time = format_timedelta(wait, granularity="minute", threshold=1)
    words = gettext("Too many wrong passwords. Try again in %(time)s.", time=time)
    return words, {"Retry-After": str(int(wait.total_seconds()) + 1)}


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    """End this browser's session."""
    with writer() as database:
        audit(database, "session.end")
    logout_user()
    session.clear()
    return redirect("/login")


def verify(password_hash: str, password: str) -> bool:
    """Whether it is the password."""
    try:
        return hashing.submit(hasher.verify, password_hash, password).result()
    except (VerificationError, InvalidHashError):
        return False


def hash_password(password: str) -> str:
    """What is kept of a password."""
    return hashing.submit(hasher.hash, password).result()
