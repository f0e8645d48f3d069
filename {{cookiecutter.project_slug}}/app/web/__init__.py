"""The web inbox: operators sign in, read and answer; the reports are shown through it."""

from datetime import timedelta
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from flask.sessions import SecureCookieSessionInterface
from flask_babel import Babel, get_locale
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from app import log
from app.settings import Settings, load
from app.web import (
    access,
    account,
    api,
    attachments,
    auth,
    callback,
    canned,
    connect,
    conversation,
    database,
    errors,
    events,
    files,
    health,
    inbox,
    metrics,
    operators,
    passwords,
    people,
    reports,
    status,
    times,
    tokens,
    trail,
    vk_id,
)

STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: https:",  # https: pictures that people send lie on VK's servers
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "form-action": "'self'",
}


def _content_security_policy(settings: Settings) -> dict[str, str]:
    if settings.app_env == "production":
        return CONTENT_SECURITY_POLICY
    return CONTENT_SECURITY_POLICY | {"img-src": f"{CONTENT_SECURITY_POLICY['img-src']} {attachments.LOCAL}"}


class _SessionCookie(SecureCookieSessionInterface):
    """A session cookie for https only, where the page came by https: on localhost there is none."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Without `settings`, as in a server's worker, it reads them and sets up the logs itself.

    Raises `SettingsError` when a secret is missing.
    """
    if settings is None:
        settings = load()
        log.setup(settings, "web")
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=settings.secret("secret_key"),
        SESSION_COOKIE_NAME="desk_session",
        PERMANENT_SESSION_LIFETIME=timedelta(days=14),
        SESSION_REFRESH_EACH_REQUEST=False,  # pages ask for news every few seconds: that must not count as use
        WTF_CSRF_TIME_LIMIT=None,  # a page left open overnight still sends; the token ends with the session
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(days=365),  # static addresses change with their content
        MAX_CONTENT_LENGTH=512 * 1024,
    )
    app.extensions["settings"] = settings
    app.session_interface = _SessionCookie()
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters |= {"clock": times.clock, "day": times.day, "moment": times.moment, "full": times.full}
    app.jinja_env.globals |= {
        "app_name": settings.app_name,
        "get_locale": get_locale,
        "has_reports": bool(settings.reports_url),
        "desk_state": status.state,
        "has_bot": connect.has_bot,
        "has_vk_id": bool(settings.vk_id_client_id),
        "POLL": "every 3s, visibilitychange from:document",
    }
    app.url_defaults(_static_version)
    app.after_request(_keep_private)

    if hops := settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    database.register(app, settings)
    access.register(app, settings)
    files.register(app)  # before Talisman, to have the last word on a file's headers
    Babel(app, default_timezone=settings.app_time_zone, locale_selector=lambda: g.get("language") or settings.app_language)
    Talisman(
        app,
        force_https=False,  # the proxy's work
        session_cookie_secure=False,  # _SessionCookie decides
        strict_transport_security_include_subdomains=False,  # other subdomains are not ours
        frame_options="DENY",
        content_security_policy=_content_security_policy(settings),
        content_security_policy_nonce_in=["script-src", "style-src"],
    )
    auth.register(app)  # before the forms are looked at: it knows the operator's language
    csrf = CSRFProtect(app)
    errors.register(app)
    for room in (
        health,
        auth,
        passwords,
        inbox,
        conversation,
        people,
        files,
        events,
        status,
        account,
        tokens,
        canned,
        operators,
        trail,
        connect,
    ):
        app.register_blueprint(room.blueprint)
    csrf.exempt(api.blueprint)  # it has tokens instead, and no session
    app.register_blueprint(api.blueprint)
    if settings.vk_id_client_id:
        app.register_blueprint(vk_id.blueprint(settings))
    if settings.metrics_token:
        app.register_blueprint(metrics.blueprint(settings))
    if settings.reports_url:
        app.register_blueprint(reports.blueprint(settings))
    if settings.vk_transport == "callback":
        way_in = callback.blueprint(settings)
        csrf.exempt(way_in)  # VK has a secret instead, and no session
        app.register_blueprint(way_in)
    return app


def _static_version(endpoint: str, values: dict[str, Any]) -> None:
    if endpoint == "static":
        values["v"] = _digest(values["filename"])


def _keep_private(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")  # after signing out, "back" must not show people's messages
    return response


@cache
def _digest(filename: str) -> str:
    return blake2b((STATIC / filename).read_bytes(), digest_size=6).hexdigest()
