"""Errors of the JSON API as RFC 9457 has them: `application/problem+json`."""

import json
from http import HTTPStatus

from flask import Response, request

PREFIX = "/api/v1"
TYPE = "application/problem+json"


def wanted() -> bool:
    """Whether a program asks, and no browser."""
    return request.path.startswith(f"{PREFIX}/")


def response(code: int, detail: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that went wrong; `detail` says what to do about it."""
    title = HTTPStatus(code).phrase
    if code == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": "5"}
    body = {"type": "about:blank", "title": title, "status": code, "detail": detail or title}
    return Response(json.dumps(body, ensure_ascii=False), code, headers, content_type=TYPE)
