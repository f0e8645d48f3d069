"""What every page of the reports is: a part that web puts into its layout. And who asks for it, as web says."""

from typing import Any
from urllib.parse import quote

from babel.units import format_unit
from flask import Response, abort, render_template, request
from flask_babel import get_locale, gettext

from app.storage.models import Role

MANAGERS = (Role.MANAGER, Role.ADMIN)


def fragment(template: str, title: str, status: int = 200, **values: Any) -> Response:
    """A part of a page, which web puts into its layout."""
    response = Response(
        render_template(template, title=title, csrf=csrf(), manager=is_manager(), **values), status, mimetype="text/html"
    )
    response.headers["X-Title"] = quote(title)
    return response


def conditional(response: Response) -> Response:
    """Answers 304 when the browser has it already; it asks each time, because figures change."""
    response.add_etag()
    response.cache_control.private = True
    response.cache_control.no_cache = True
    response.make_conditional(request)
    return response


def to(page: str) -> Response:
    """After a form: on to another of our pages, `page` below `/reports/`."""
    return Response(status=303, headers={"Location": f"/reports/{page}"}, mimetype="text/plain")  # no fragment


def operator_id() -> int:
    """Who asks."""
    given = request.headers.get("X-Operator", "")
    if not given.isdecimal():
        abort(401)
    return int(given)


def is_manager() -> bool:
    """Whether who asks may see what operators do, and change the schedule."""
    return request.headers.get("X-Role") in MANAGERS


def need_manager() -> None:
    """End the request with 403 for others."""
    if not is_manager():
        abort(403, gettext("Only managers may do this."))


def csrf() -> str:
    """What web wants to find in a form, as `csrf_token`."""
    return request.headers.get("X-Csrf-Token", "")


def size(count: int) -> str:
    """So many bytes, in the language of the request: "3.4 MB"."""
    unit, part = ("megabyte", count / 1e6) if count >= 1e6 else ("kilobyte", count / 1e3)
    return str(format_unit(round(part, 1), f"digital-{unit}", "short", locale=get_locale()))
