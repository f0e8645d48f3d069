"""Error pages: short, in the operator's language, and with what to do. To htmx: one line of text, shown above the page."""

import structlog
from flask import Flask, Response, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from app.storage.engine import readiness
from app.web import problem
from app.web.database import engine
from app.web.form import field
from app.web.live import is_htmx

log = structlog.get_logger()
RETRY_SECONDS = 5

PAGES = {
    400: (lazy_gettext("This did not work"), lazy_gettext("The request could not be understood. Go back and try again.")),
    401: (lazy_gettext("Your session has ended"), lazy_gettext("Sign in again and send it once more.")),
    403: (lazy_gettext("Not allowed"), lazy_gettext("Your role does not allow this. Ask an administrator.")),
    404: (lazy_gettext("Nothing is here"), lazy_gettext("The address is wrong, or what it led to is gone.")),
    410: (lazy_gettext("Not valid any more"), lazy_gettext("An invitation works once and for three days. Ask for a new one.")),
    413: (lazy_gettext("Too much at once"), lazy_gettext("Make the text shorter, or the files smaller, and send it again.")),
    500: (lazy_gettext("Something broke"), lazy_gettext("It was our fault and is in the log. Try again in a moment.")),
    502: (
        lazy_gettext("The reports do not answer"),
        lazy_gettext("The inbox works as before. Try the reports again in a minute."),
    ),
    503: (lazy_gettext("One moment, please"), lazy_gettext("The database is not ready yet. This page tries again by itself.")),
}


def register(app: Flask) -> None:
    """Answer every error with a page."""
    app.register_error_handler(CSRFError, _stale_form)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)


def error_page(code: int, message: str | None = None, *, text: str = "") -> Response:
    """A page for `code`; `text` is what the operator had typed, which must not be lost."""
    title, usual = PAGES.get(code, PAGES[400])
    if problem.wanted():
        return problem.response(code, message)
    message = message or str(usual)
    if is_htmx():
        response = Response(message, code, content_type="text/plain; charset=utf-8")
    else:
        page = render_template("error.html", code=code, title=title, message=message, text=text)
        response = make_response(page, code)
    if code == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def _stale_form(_error: CSRFError) -> ResponseReturnValue:
    words = gettext("This page is out of date. Reload it and send again; your text is kept.")
    return error_page(400, words, text=field("text") or field("note"))


def _http_error(error: HTTPException) -> ResponseReturnValue:
    # the usual descriptions are English sentences for programmers; ours are given to `abort` and are not the class's own
    own = error.description if error.description != type(error).description else None
    return error_page(error.code or 500, own)


def _database_error(error: SQLAlchemyError) -> ResponseReturnValue:
    if reason := readiness(engine()):
        log.warning(f"waiting: {reason}")
        return error_page(503)
    log.error("the database refused", exc_info=error, path=request.path)
    return error_page(500)
