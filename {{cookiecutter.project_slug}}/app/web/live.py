"""Pages that keep themselves fresh: a part of a page carries a print of what it shows and asks again with it every few seconds.

The print goes out in the part's own `hx-headers` and comes back as `If-None-Match`. So "nothing new" is an answer
without a body, 304, which htmx leaves alone: nothing is drawn again, no focus, selection or scroll is lost.
"""

from collections.abc import Callable
from functools import reduce
from hashlib import blake2b
from operator import add
from typing import Any

from flask import Response, make_response, request
from flask_babel import get_locale
from sqlalchemy import ColumnElement, Select, String, cast, func, literal_column, select

from app.web.times import today

# what stands for no value, and ends each; written into the statement, for every value that goes along has its cost
NULL: ColumnElement[str] = literal_column("'\x1e'")
END: ColumnElement[str] = literal_column("'\x1f'")


def is_htmx() -> bool:
    """Whether htmx asks, which wants a part of the page."""
    return "HX-Request" in request.headers


def fingerprint(*shown: Any) -> str:
    """A print of what a part of a page shows. It is alike in all workers, and differs tomorrow, when "today" does."""
    return blake2b(repr((shown, today(), str(get_locale()))).encode(), digest_size=12).hexdigest()


def digest(rows: Select[*tuple[Any, ...]]) -> ColumnElement[str]:
    """All that `rows` would give, as one text: to compare it costs a fraction of reading and drawing the rows."""
    table = rows.subquery()
    cells = (func.coalesce(cast(column, String), NULL) + END for column in table.c)
    text = func.aggregate_strings(reduce(add, cells), END)  # type: ignore[arg-type]  # it takes any expression
    return select(text).scalar_subquery()


def answer(etag: str, render: Callable[[], str]) -> Response:
    """304 when the browser has what `etag` stands for, else what `render` gives."""
    response = Response(status=304) if request.if_none_match.contains(etag) else make_response(render())
    response.set_etag(etag)
    return response
