"""The list of conversations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, func, select, tuple_

from app.storage.models import Conversation, ConversationStatus, Operator, Person
from app.web import live
from app.web.auth import me
from app.web.database import reader

blueprint = Blueprint("inbox", __name__)
PAGE = 50
VIEWS = ("new", "mine", "all", "closed")
COUNT_LIMIT = 100  # beyond it a number says no more than "many"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPEN = Conversation.status == ConversationStatus.OPEN
UNASSIGNED = Conversation.assignee_id.is_(None)

ROWS = (
    select(
        Conversation.id,
        Conversation.peer_id,
        Conversation.status,
        Conversation.unread,
        Conversation.assignee_id,
        Conversation.last_message_at,
        Conversation.last_message_text,
        Person.name.label("person"),
        Operator.name.label("assignee"),
    )
    .outerjoin(Person, Person.id == Conversation.person_id)
    .outerjoin(Operator, Operator.id == Conversation.assignee_id)
)


@dataclass(frozen=True)
class Listing:
    """A page of the list. `here` is the query that leads to it, `older` the one that leads to the next, or None."""

    view: str
    here: str
    older: str | None
    rows: Sequence[Any]
    waiting: int
    mine: int
    empty: bool
    etag: str


def listing() -> Listing:
    """The page of the list that the request's `view` and `before` ask for; 404 when they make no sense."""
    view, before = _asked()
    query = ROWS.where(*_filters(view)).order_by(Conversation.last_message_at.desc(), Conversation.id.desc()).limit(PAGE + 1)
    if before:
        microseconds, last_id = map(int, before.split("-"))
        place = (EPOCH + timedelta(microseconds=microseconds), last_id)
        query = query.where(tuple_(Conversation.last_message_at, Conversation.id) < place)
    rows = reader().execute(query).all()
    waiting, mine = reader().execute(select(_count(*_filters("new")), _count(*_filters("mine")))).one()
    empty = not rows and reader().scalar(select(Conversation.id).limit(1)) is None
    older = None
    if len(rows) > PAGE:
        rows = rows[:PAGE]
        last = rows[-1]
        older = f"?view={view}&before={(last.last_message_at - EPOCH) // timedelta(microseconds=1)}-{last.id}"
    return Listing(view, here(), older, rows, waiting, mine, empty, live.fingerprint(rows, waiting, mine, older, empty))


def here() -> str:
    """The query that leads back to the page of the list that this request came from; 404 when it makes no sense."""
    view, before = _asked()
    return f"?view={view}&before={before}" if before else f"?view={view}"


def _asked() -> tuple[str, str]:
    """Which view, and the place after which the page begins: "MICROSECONDS-ID" of the row before it, or nothing."""
    view, before = request.args.get("view", "new"), request.args.get("before", "")
    if view not in VIEWS or not re.fullmatch(r"([0-9]{1,16}-[0-9]{1,18})?", before):
        abort(404)
    return view, before


def _filters(view: str) -> list[ColumnElement[bool]]:
    match view:
        case "new":
            return [OPEN, UNASSIGNED]
        case "mine":
            return [OPEN, Conversation.assignee_id == me().id]
        case "closed":
            return [Conversation.status == ConversationStatus.CLOSED]
        case _:
            return []


def _count(*where: ColumnElement[bool]) -> ColumnElement[int]:
    some = select(Conversation.id).where(*where).limit(COUNT_LIMIT).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The inbox, with nothing chosen yet."""
    return render_template("inbox.html", inbox=listing())


@blueprint.get("/inbox")
def news() -> ResponseReturnValue:
    """The list alone, or 304. `current` is the conversation that is open beside it."""
    inbox = listing()
    current = request.args.get("current", type=int)
    return live.answer(inbox.etag, lambda: render_template("_inbox.html", inbox=inbox, current=current))
