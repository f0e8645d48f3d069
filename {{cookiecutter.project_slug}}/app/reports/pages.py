"""The pages, charts and files of the reports, fetched by web, which looks after login and layout."""

import hashlib
import hmac
from pathlib import Path

import structlog
from flask import Flask, abort, request, send_file
from flask_babel import Babel, format_date, format_decimal, gettext
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from app import log
from app.reports import archive, bundle, dashboard, health, orders
from app.reports.fragment import fragment, size
from app.reports.work import Works
from app.settings import Settings, load
from app.storage.engine import make_engine, readiness

LANGUAGES = ("ru", "en")
FREE = ("healthz", "readyz", "health.metrics")  # asked by the health check, which has no token, and by who has another
A_YEAR = 365 * 86400  # seconds
STYLE = Path(__file__).parent / "static" / "reports.css"


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Without `settings`, as the server calls it in its worker, it reads them and sets the logs up."""
    if settings is None:
        settings = load()
        log.setup(settings, "reports")
    app = Flask(__name__, static_folder=None)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # Flask's own provider has it, the type it declares has not
    Babel(app, locale_selector=lambda: _language(settings))
    app.jinja_env.filters |= {
        "number": format_decimal,
        "date": format_date,
        "bytes": size,
    }
    writer = make_engine(settings.database).execution_options(postgresql_readonly=False)
    engine = writer.execution_options(read_only=True)
    token = settings.secret("reports_token").encode()
    style, script = _style_name(), bundle.name()
    app.jinja_env.globals["style"] = style
    app.extensions["works"] = works = Works(app, settings, writer)
    for room in (dashboard, orders, archive, health):
        app.register_blueprint(room.blueprint(works))
    assets = {style: STYLE, script: bundle.prepare(settings.data_dir / "reports")}

    @app.before_request
    def let_in() -> None:
        """Only web knows the token."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if request.endpoint not in FREE and not hmac.compare_digest(given, token):
            abort(401)

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/readyz")
    def readyz() -> tuple[str, int]:
        problem = readiness(engine)
        return (problem, 503) if problem else ("ok", 200)

    @app.get("/static/<name>")
    def static(name: str) -> Response:
        if name not in assets:
            abort(404)
        response = send_file(assets[name], max_age=A_YEAR)
        response.cache_control.immutable = True
        return response

    _say_what_is_wrong(app)
    return app


def _say_what_is_wrong(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        match error.code:
            case 400 | 403 | 409 if error.description:
                text = error.description
            case 401:
                text = gettext("The reports are read through the inbox.")
            case 404:
                text = gettext("There is no such page.")
            case _:
                text = gettext("Something went wrong here; the log of the reports says what.")
        return _problem(text, error.code or 500)

    @app.errorhandler(SQLAlchemyError)
    def no_database(error: SQLAlchemyError) -> Response:
        structlog.get_logger().warning(f"no figures: {str(error).splitlines()[0]}")
        return _problem(gettext("The database does not answer at the moment. Try again in a minute."), 503)


def _style_name() -> str:
    """The style sheet's name, which changes with what is in it."""
    return f"reports-{hashlib.sha256(STYLE.read_bytes()).hexdigest()[:16]}.css"


def _language(settings: Settings) -> str:
    asked = request.headers.get("X-Language")
    return asked if asked in LANGUAGES else settings.app_language


def _problem(text: str, status: int) -> Response:
    return fragment("problem.html", gettext("Reports"), status, text=text)
