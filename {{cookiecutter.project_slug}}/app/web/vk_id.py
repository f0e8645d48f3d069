"""Signing in by VK ID, for whom an admin has written the VK id into their account: OAuth 2.1 with PKCE, without a secret."""

import secrets
from hmac import compare_digest

import requests
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from flask import Blueprint, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select

from app.log import one_line
from app.settings import Settings
from app.storage.models import Operator
from app.web.audit import audit
from app.web.auth import COLUMNS, begin_session, own_path
from app.web.database import reader, writer

log = structlog.get_logger()
ADDRESS = "/login/vk"
UNDER_WAY = "vk_id"  # in the session: what was sent along to VK ID, and the page asked for
TIMEOUT = (3, 15)  # seconds to connect, and for an answer


def blueprint(settings: Settings) -> Blueprint:
    """The way to VK ID and back, for the application `VK_ID_CLIENT_ID`."""
    vk_id = Blueprint("vk_id", __name__)

    def line() -> OAuth2Session:
        back = f"{request.host_url.rstrip('/')}{ADDRESS}/back"
        public = {"token_endpoint_auth_method": "none", "code_challenge_method": "S256"}
        return OAuth2Session(settings.vk_id_client_id, redirect_uri=back, **public)

    @vk_id.get(ADDRESS)
    def leave() -> ResponseReturnValue:
        """To VK ID, with a word that only this browser's session knows to ask for."""
        verifier = secrets.token_urlsafe(48)
        address, state = line().create_authorization_url(f"{settings.vk_id_url}/authorize", code_verifier=verifier)
        session[UNDER_WAY] = [state, verifier, own_path(request.args.get("next"))]
        return redirect(address)

    @vk_id.get(f"{ADDRESS}/back")
    def come_back() -> ResponseReturnValue:
        """Begin a session, when VK ID says who this is and an operator has that VK id."""
        state, verifier, page = session.pop(UNDER_WAY, ["", "", ""])
        given = {name: request.args.get(name, "") for name in ("state", "code", "device_id")}
        if not state or not compare_digest(given["state"].encode(), state.encode()):
            return _refused(gettext("This sign-in was not begun here, or took too long. Begin again."))
        try:
            token = line().fetch_token(f"{settings.vk_id_url}/oauth2/auth", code_verifier=verifier, timeout=TIMEOUT, **given)
            number = int(token["user_id"])
        except (AuthlibBaseError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            log.warning("VK ID does not say who it is", reason=one_line(error))
            return _refused(gettext("VK ID did not say who you are. Try again, or use your password."))
        operator = reader().execute(select(*COLUMNS).where(Operator.vk_id == number, Operator.active)).one_or_none()
        with writer() as database:
            known = operator.id if operator else None
            audit(database, "session.begin" if operator else "session.refused", operator_id=known, vk_id=number)
        if operator is None:
            said = gettext("No operator has the VK id %(number)s. An admin can write it into your account.", number=number)
            return _refused(said)
        return begin_session(operator, page)

    return vk_id


def _refused(problem: str) -> ResponseReturnValue:
    return render_template("login.html", problem=problem), 401
