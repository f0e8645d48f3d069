"""A number for each request, in all its log lines and in the answer, and one line that says how it went."""

import secrets
import time

import structlog
from flask import Flask, Response, g, request

log = structlog.get_logger()


def register(app: Flask) -> None:
    """Number and log every request."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(lambda _error: structlog.contextvars.unbind_contextvars("request_id"))


def _begin() -> None:
    g.began = time.perf_counter()
    g.request_id = secrets.token_hex(8)
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    # without the query: it may hold what people search for
    line = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "ms": round((time.perf_counter() - g.began) * 1000, 1),
    }
    # what comes all day and says nothing: probes, files, polls without news
    quiet = request.endpoint in ("health.alive", "health.ready", "static") or response.status_code == 304
    if quiet and response.status_code < 400:
        log.debug("request", **line)
    else:
        log.info("request", **line)
    return response
