"""The way to the reporting service: its pages appear inside this site, behind this site's sign-in."""

from http import HTTPStatus
from urllib.parse import quote, unquote

import requests
import structlog
from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import get_locale
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from app.settings import Settings
from app.web.audit import audit
from app.web.auth import me
from app.web.database import writer

log = structlog.get_logger()
TIMEOUT = (3, 60)  # seconds to connect, and between two pieces of the answer: a large document takes a while to begin
PASSED = ("Content-Type", "Content-Length", "Content-Disposition", "Cache-Control", "ETag")
PIECE = 64 * 1024


def blueprint(settings: Settings) -> Blueprint:
    """The pages under `/reports/`. Raises `SettingsError` when there is no token for the service."""
    passage = Blueprint("reports", __name__)
    service = (settings.reports_url or "").rstrip("/")
    token = settings.secret("reports_token")

    @passage.route("/reports/", defaults={"path": ""}, methods=["GET", "POST"])
    @passage.route("/reports/<path:path>", methods=["GET", "POST"])
    def page(path: str) -> ResponseReturnValue:
        """What the service answers: a fragment of HTML within this site's layout, anything else as it is.

        Its forms come back to this site, which has looked for the token in them that it had told the service.
        """
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Language": str(get_locale()),
            "X-Role": me().role.value,
            "X-Operator": str(me().id),
            "X-Csrf-Token": generate_csrf(),
            "Accept-Encoding": "identity",
        }
        if etag := request.headers.get("If-None-Match"):
            headers["If-None-Match"] = etag
        url = f"{service}/{quote(path)}?{request.query_string.decode()}".rstrip("?")
        posted = request.method == "POST"
        fields = [field for field in request.form.items(multi=True) if field[0] != "csrf_token"] if posted else None
        try:
            answer = requests.request(
                request.method, url, data=fields, headers=headers, timeout=TIMEOUT, stream=True, allow_redirects=False
            )
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                return _framed(answer)
        except requests.RequestException as error:
            log.warning("the reports do not answer", reason=type(error).__name__, url=service)
            abort(502)
        _refuse_trouble(answer)
        if posted:
            with writer() as session:
                audit(session, "report.order", f"reports/{path}"[:200], form=dict(fields or ()))
        headers = {name: answer.headers[name] for name in PASSED if name in answer.headers}
        if posted and (onwards := answer.headers.get("Location", "")).startswith("/reports/"):
            headers["Location"] = onwards
        response = Response(answer.iter_content(PIECE), answer.status_code, headers)
        response.call_on_close(answer.close)
        return response

    return passage


def _refuse_trouble(answer: requests.Response) -> None:
    """A failure of the service is not the browser's: 401 would mean that both sides hold different tokens."""
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code == HTTPStatus.UNAUTHORIZED:
        log.warning("the reports refused", status=answer.status_code, url=answer.url)
        answer.close()
        abort(502)


def _framed(answer: requests.Response) -> ResponseReturnValue:
    _refuse_trouble(answer)
    # the service is ours, and its fragments are made of escaped templates
    fragment = Markup(answer.content.decode())  # noqa: S704
    title = unquote(answer.headers.get("X-Title", ""))
    return render_template("reports.html", title=title, fragment=fragment), answer.status_code
