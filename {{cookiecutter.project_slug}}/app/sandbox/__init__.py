"""A VK of one's own: the part of its API that the bot uses, the long poll, and a page to chat with the bot in.

For development and tests. `methods` and `vk` speak as VK does, `control` is the way in for people and tests,
`store` remembers, `longpoll` waits, `callback` calls, `script` runs `execute`, `faults` go wrong on purpose.
"""

from flask import Flask, Response, render_template
from flask_babel import Babel

from app import log
from app.sandbox.control import control
from app.sandbox.state import Sandbox, sandbox
from app.sandbox.vk import vk
from app.settings import Settings, SettingsError, load
from app.storage.engine import reachable

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
UPLOAD_LIMIT = 50 * 1024 * 1024  # VK's, for a picture


def check(settings: Settings) -> None:
    """Raise `SettingsError` in production: whoever reaches this service can write as anybody."""
    if settings.app_env == "production":
        raise SettingsError("the sandbox is for development and tests: APP_ENV must not be production")


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application; without `settings` they are read, and logs are set up, as the server's worker needs it."""
    if settings is None:
        settings = load()
        log.setup(settings, "sandbox")
    check(settings)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = UPLOAD_LIMIT
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # of the default provider, not of its base
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["sandbox"] = Sandbox(settings)
    Babel(app, default_locale=settings.app_language)
    app.after_request(_protect)
    app.register_blueprint(vk)
    app.register_blueprint(control)
    app.add_url_rule("/", view_func=chat)
    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)
    return app


def chat() -> str:
    """The page on which a person talks with the community."""
    settings = sandbox().settings
    return render_template(
        "chat.html", community=settings.app_name, group_id=settings.vk_group_id, language=settings.app_language
    )


def healthz() -> str:
    """Alive."""
    return "ok"


def readyz() -> str | Response:
    """Whether the sandbox's file answers."""
    problem = reachable(sandbox().engine)
    return "ok" if problem is None else Response(problem, 503, mimetype="text/plain")


def _protect(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response
