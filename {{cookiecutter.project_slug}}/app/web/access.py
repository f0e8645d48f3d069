"""A number for each request, in all its log lines and in the answer, and one line that says how it went."""

import re
import secrets
import time

import structlog
from flask import Flask, Response, g, request

from app.settings import Settings

log = structlog.get_logger()
NUMBER = re.compile(r"[\w-]{8,64}", re.ASCII)


def register(app: Flask, settings: Settings) -> None:
    """Number and log every request. A proxy that is ours may have numbered it already, for its own log."""
    app.before_request(lambda: _begin(request.headers.get("X-Request-Id", "") if settings.trusted_proxies else ""))
    app.after_request(_end)
    app.teardown_request(lambda _error: structlog.contextvars.unbind_contextvars("request_id"))


def _begin(number: str) -> None:
    g.began = time.perf_counter()
    g.request_id = number if NUMBER.fullmatch(number) else secrets.token_hex(8)
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
