"""The list of conversations, and the search in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Select, String, bindparam, exists, false, func, literal_column, select, tuple_, union

from app.storage.models import Conversation, ConversationStatus, Message, Operator, Person
from app.web import live
from app.web.auth import me
from app.web.database import reader

blueprint = Blueprint("inbox", __name__)
PAGE = 50
COUNT_LIMIT = 100  # beyond it a number says no more than "many"
TOPICS = 100  # that the filter offers
WORDS = 8  # of a search that are looked for, and
SHORTEST = 3  # letters that the longest of them needs: the index is one of groups of three
NOTHING = -1  # instead of a number of words: what cannot be looked for is not found
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPEN = Conversation.status == ConversationStatus.OPEN
UNASSIGNED = Conversation.assignee_id.is_(None)
NAME = Person.first_name + literal_column("' '") + Person.last_name  # as it stands in the index
NEWEST_FIRST = (Conversation.last_message_at.desc(), Conversation.id.desc())

ROWS = (
    select(
        Conversation.id,
        Conversation.peer_id,
        Conversation.status,
        Conversation.topic,
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
FILTERS: dict[str, list[ColumnElement[bool]]] = {
    "new": [OPEN, UNASSIGNED],
    "mine": [OPEN, Conversation.assignee_id == bindparam("me", type_=Conversation.assignee_id.type)],
    "all": [],
    "closed": [Conversation.status == ConversationStatus.CLOSED],
}


@dataclass(frozen=True)
class Asked:
    """What the address asks for: a view, words, a topic, and the place after which the page begins.

    `before` is "MICROSECONDS-ID" of the row before it, or nothing.
    """

    view: str
    search: str
    topic: str
    before: str

    @property
    def words(self) -> list[str]:
        """The words looked for."""
        return self.search.lower().split()[:WORDS]

    @property
    def too_short(self) -> bool:
        """Whether there is a search, and no word in it that could be looked for."""
        return bool(self.words) and max(map(len, self.words)) < SHORTEST

    @property
    def query(self) -> str:
        """The part of the address that asks for this."""
        values = {"view": self.view, "q": self.search, "topic": self.topic, "before": self.before}
        return "?" + urlencode({name: value for name, value in values.items() if value})

    def at(self, **changes: str) -> str:
        """The query that leads to another view, or another page of this one."""
        return replace(self, **({"before": ""} | changes)).query


@dataclass(frozen=True)
class Listing:
    """A page of the list. `older` is the query that leads to the next, or None."""

    asked: Asked
    older: str | None
    rows: Sequence[Any]
    waiting: int
    mine: int
    empty: bool
    topics: Sequence[str]
    etag: str

    @property
    def here(self) -> str:
        """The query that leads to this page."""
        return self.asked.query


def listing() -> Listing:
    """The page of the list that the request asks for; 404 when that makes no sense."""
    asked = _asked()
    etag = _print(asked)  # before the rows: what changes in between is news the next time
    rows = reader().execute(page_of(asked), values_of(asked)).all()
    waiting, mine, some = reader().execute(_counts(), values_of(asked)).one()
    older = None
    if len(rows) > PAGE:
        rows = rows[:PAGE]
        last = rows[-1]
        older = asked.at(before=f"{(last.last_message_at - EPOCH) // timedelta(microseconds=1)}-{last.id}")
    return Listing(asked, older, rows, waiting, mine, not some, reader().scalars(_topics()).all(), etag)


def here() -> str:
    """The query that leads back to the page of the list that this request came from; 404 when it makes no sense."""
    return _asked().query


def _asked() -> Asked:
    view, before = request.args.get("view", "new"), request.args.get("before", "")
    if view not in FILTERS or not re.fullmatch(r"([0-9]{1,16}-[0-9]{1,18})?", before):
        abort(404)
    search, topic = (" ".join(request.args.get(name, "").replace("\0", "").split())[:200] for name in ("q", "topic"))
    return Asked(view, search, topic, before)


def page_of(asked: Asked) -> Select[Any]:
    """The statement whose rows are the page, and the first of the next one; it wants `values_of` the same."""
    return _rows(*_shape(asked))


def _shape(asked: Asked) -> tuple[str, int, bool, bool]:
    """What the statement for it depends on, beside values."""
    return asked.view, NOTHING if asked.too_short else len(asked.words), bool(asked.topic), bool(asked.before)


def values_of(asked: Asked) -> dict[str, Any]:
    """The values in the statements about `asked`."""
    values: dict[str, Any] = {"me": me().id, "topic": asked.topic}
    for number, word in enumerate(asked.words):
        values[f"word{number}"] = "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"
    if asked.before:
        microseconds, last_id = map(int, asked.before.split("-"))
        values |= {"before": EPOCH + timedelta(microseconds=microseconds), "before_id": last_id}
    return values


@cache  # a statement that is built once costs half of one that is built each time
def _rows(view: str, words: int, topic: bool, before: bool) -> Select[*tuple[Any, ...]]:
    where = [*FILTERS[view]]
    if topic:
        where.append(Conversation.topic == bindparam("topic"))
    if before:
        place = tuple_(bindparam("before", type_=Conversation.last_message_at.type), bindparam("before_id"))
        where.append(tuple_(Conversation.last_message_at, Conversation.id) < place)
    if words == NOTHING:
        where = [false()]
    elif words:
        # each way to find one gives its first page, in order; the first page of all is in these
        said = exists().where(Message.conversation_id == Conversation.id, *_like(Message.text, words))
        named = Conversation.person_id.in_(select(Person.id).where(*_like(NAME, words)))
        ways = [
            select(Conversation.id).where(*where, way).order_by(*NEWEST_FIRST).limit(PAGE + 1).subquery() for way in (said, named)
        ]
        where = [Conversation.id.in_(union(*(select(way.c.id) for way in ways)))]
    return ROWS.where(*where).order_by(*NEWEST_FIRST).limit(PAGE + 1)


def _like(text: Any, words: int) -> list[ColumnElement[bool]]:
    """That `text` holds all the words, as the index wants it.

    They are written into the statement: PostgreSQL plans for a rare word otherwise than for a frequent one, if it sees it.
    """
    low = func.lower(text)
    return [low.like(bindparam(f"word{n}", type_=String, literal_execute=True), escape="\\") for n in range(words)]


@cache
def _counts() -> Select[*tuple[Any, ...]]:
    """How many wait, how many are mine, and whether there is any conversation at all."""
    return select(_count(*FILTERS["new"]), _count(*FILTERS["mine"]), exists(select(Conversation.id)))


def _count(*where: ColumnElement[bool]) -> ColumnElement[int]:
    some = select(Conversation.id).where(*where).limit(COUNT_LIMIT).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


@cache
def _topics() -> Select[*tuple[Any, ...]]:
    """The topics that there are, in order. It leaps from one to the next in the index, however many conversations have it."""
    topics = select(func.min(Conversation.topic).label("topic")).cte("topics", recursive=True)
    following = select(func.min(Conversation.topic)).where(Conversation.topic > topics.c.topic).scalar_subquery()
    topics = topics.union_all(select(following).where(topics.c.topic.is_not(None)))
    return select(topics.c.topic).where(topics.c.topic.is_not(None)).limit(TOPICS)


def _print(asked: Asked) -> str:
    """A print of what the page shows, by one query."""
    # past the session, which has nothing to do here but costs time
    return live.fingerprint(*reader().connection().execute(_shown(*_shape(asked)), values_of(asked)).one())


@cache
def _shown(view: str, words: int, topic: bool, before: bool) -> Select[*tuple[Any, ...]]:
    return _counts().add_columns(live.digest(_rows(view, words, topic, before)))


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The inbox, with nothing chosen yet."""
    return render_template("inbox.html", inbox=listing())


@blueprint.get("/inbox")
def news() -> ResponseReturnValue:
    """The list alone, or 304. `current` is the conversation that is open beside it."""

    def render() -> str:
        return render_template("_inbox.html", inbox=listing(), current=request.args.get("current", type=int))

    return live.answer(_print(_asked()), render)
