"""How the desk is: what the bot's loops say about themselves, how long the queues are, and what to do about it."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from typing import Any, cast

from flask import Blueprint, current_app, g, render_template
from flask.typing import ResponseReturnValue
from flask_babel import format_timedelta, gettext, lazy_gettext
from sqlalchemy import ColumnElement, Row, and_, func, select, union_all
from sqlalchemy.orm import InstrumentedAttribute

from app.settings import Settings
from app.storage.engine import schema_head, schema_revision
from app.storage.models import (
    Alert,
    Conversation,
    Delivery,
    DeliveryState,
    Event,
    EventState,
    Heartbeat,
    Message,
    Person,
    now,
)
from app.storage.queues import FIRST_NEW, FIRST_UNFINISHED, NEW, UNFINISHED, last_poll, word
from app.web import live, times
from app.web.database import engine, reader

blueprint = Blueprint("status", __name__)

COUNT_LIMIT = 1000  # beyond it a number says no more than "many"
LATE, LOST = timedelta(seconds=30), timedelta(seconds=60)  # since the last heartbeat, of which there is one every 10 seconds
SLOW, STUCK = timedelta(seconds=30), timedelta(minutes=3)  # that something waits in a queue, or that VK was not heard of
RECENT = timedelta(days=1)
LIST = 20

LOOPS = {
    "bot.receive": lazy_gettext("Receiving messages"),
    "bot.answer": lazy_gettext("The bot's answers"),
    "bot.deliver": lazy_gettext("Sending"),
}
# how a loop's problem begins, in the bot's own words, and what to do about it
CURES = {
    "VK refuses the token": lazy_gettext(
        "Write the community's key into secrets/vk_token and restart the bot. make vk-check says what VK thinks of the key."
    ),
    "VK does not answer": lazy_gettext("Nothing is lost. The bot goes on trying by itself."),
    "VK answers": lazy_gettext("Nothing is lost. The bot goes on trying by itself."),
    "the long poll does not work": lazy_gettext("See what make vk-check says."),
    "no answer from the database": lazy_gettext("See whether the database runs, and what make doctor says."),
}
TOKEN = next(iter(CURES))

SET_ASIDE = Event.state == word(EventState.FAILED)
HELD = Delivery.state == word(DeliveryState.HELD)


class Level(StrEnum):
    """Green, amber, red."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"


@dataclass(frozen=True)
class Light:
    """How one thing is, in words. `detail` is what it says itself, `cure` what to do about it, `page` where."""

    level: Level
    name: str
    words: str
    detail: str | None = None
    cure: str | None = None
    page: str | None = None


@dataclass(frozen=True)
class State:
    """All of it, and the number of events that are set aside."""

    lights: Sequence[Light]
    set_aside: int

    @property
    def bad(self) -> list[Light]:
        """What everybody must know of."""
        return [light for light in self.lights if light.level == Level.BAD]

    @property
    def etag(self) -> str:
        """A print of what the banner and the menu show of it."""
        return live.fingerprint([light.name for light in self.bad], self.set_aside)


def look() -> tuple[dict[str, Any], Any]:
    """The loops' last heartbeats by their names, and one row of `_facts`."""
    rows = reader().execute(select(Heartbeat.name, Heartbeat.at, Heartbeat.problem))
    return {row.name: row for row in rows}, reader().execute(_facts()).one()


def state() -> State:
    """How the desk is at this request: two queries."""
    if "state" not in g:
        beats, facts = look()
        lights = [*_loops(beats, facts, now()), *_queues(facts, now())]
        g.state = State(lights, facts.set_aside)
    return cast("State", g.state)


@blueprint.get("/health")
def page() -> ResponseReturnValue:
    """The lights, the answers that did not arrive, and the versions; to htmx, if there is news, the same without the frame."""
    lights = [*state().lights, *_alerts(), _database()]
    stuck = reader().execute(_stuck()).all()
    etag = live.fingerprint(lights, stuck)
    shown: dict[str, Any] = {"lights": lights, "stuck": stuck, "versions": _versions(), "etag": etag}
    if live.is_htmx():
        return live.answer(etag, lambda: render_template("_health.html", **shown))
    return render_template("health.html", **shown)


@blueprint.get("/health/banner")
def banner() -> ResponseReturnValue:
    """What every page shows of it, or 304."""
    return live.answer(state().etag, lambda: render_template("_banner.html", news=True))


def _settings() -> Settings:
    return cast("Settings", current_app.extensions["settings"])


def _facts() -> Any:
    """One row: the lengths of the queues and the time of the first in each."""
    return select(
        _count(Event.id, NEW).label("new"),
        FIRST_NEW.scalar_subquery().label("oldest_new"),
        _count(Event.id, SET_ASIDE).label("set_aside"),
        _count(Delivery.id, UNFINISHED).label("unsent"),
        FIRST_UNFINISHED.scalar_subquery().label("oldest_unsent"),
        _count(Delivery.id, HELD).label("held"),
        _count(Delivery.id, _refused()).label("refused"),
        last_poll(_settings().vk_group_id).scalar_subquery().label("polled"),
    )


def _refused() -> ColumnElement[bool]:
    """Of late: that people do not want to be written to is no reason to look at it for ever."""
    return and_(Delivery.state == word(DeliveryState.FAILED), Delivery.next_try_at > now() - RECENT)


def _count(column: InstrumentedAttribute[int], where: Any) -> Any:
    some = select(column).where(where).limit(COUNT_LIMIT).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


def _loops(beats: Mapping[str, Any], facts: Row[Any], at: datetime) -> Iterator[Light]:
    """What the loops say. A problem that has lasted is bad; how long it has, the loop's own queue shows."""
    waits = {"bot.receive": facts.polled, "bot.answer": facts.oldest_new, "bot.deliver": facts.oldest_unsent}
    for loop, name in LOOPS.items():
        if loop == "bot.receive" and _settings().vk_transport == "callback":
            yield Light(Level.GOOD, str(name), gettext("VK calls this site with every event."))
        else:
            yield _loop(str(name), beats.get(loop), waits[loop], at)


def _loop(name: str, beat: Any, since: datetime | None, at: datetime) -> Light:
    if beat is None:
        return Light(Level.DOUBTFUL, name, gettext("The bot has not run yet."), cure=_start())
    if at - beat.at > LATE:
        level = Level.BAD if at - beat.at > LOST else Level.DOUBTFUL
        return Light(level, name, gettext("Not running: last seen %(when)s.", when=times.full(beat.at)), beat.problem, _start())
    if beat.problem is None:
        return Light(Level.GOOD, name, gettext("Works."))
    lasting = since is not None and at - since > STUCK
    level = Level.BAD if lasting or beat.problem.startswith(TOKEN) else Level.DOUBTFUL
    cure = next((str(cure) for start, cure in CURES.items() if beat.problem.startswith(start)), None)
    return Light(level, name, gettext("Does not work."), beat.problem, cure)


def _start() -> str:
    return str(gettext("Start it with make up, or without Docker with make run. The logs of the bot say why it ended."))


def _queues(facts: Row[Any], at: datetime) -> Iterator[Light]:
    yield _queue(gettext("Waiting for the bot"), facts.new, facts.oldest_new, at)
    yield _queue(gettext("Waiting to be sent"), facts.unsent, facts.oldest_unsent, at)
    if facts.set_aside:
        yield Light(
            Level.DOUBTFUL,
            gettext("Set aside"),
            _many(facts.set_aside),
            cure=gettext("The bot could not deal with these events. They are kept: look at them and run them again."),
            page="/events",
        )
    if facts.held:
        yield Light(
            Level.DOUBTFUL,
            gettext("Held back"),
            _many(facts.held),
            cure=gettext("Nobody knows whether these answers have arrived. Somebody has to decide, in the conversation."),
        )
    if facts.refused:
        words = gettext("%(count)s within a day", count=_many(facts.refused))
        yield Light(Level.GOOD, gettext("Refused by VK"), words)


def _queue(name: str, count: int, oldest: datetime | None, at: datetime) -> Light:
    if oldest is None:
        return Light(Level.GOOD, name, gettext("Nothing."))
    age = max(at - oldest, timedelta(0))
    words = gettext("%(count)s, the first for %(time)s", count=_many(count), time=format_timedelta(age, threshold=1.5))
    level = Level.BAD if age > STUCK else Level.DOUBTFUL if age > SLOW else Level.GOOD
    return Light(level, name, words)


def _many(count: int) -> str:
    return str(count) if count < COUNT_LIMIT else f"{COUNT_LIMIT}+"


def _alerts() -> Iterator[Light]:
    """What the reports have found, in the project's language."""
    for words in reader().scalars(select(Alert.words).where(Alert.ended_at.is_(None)).order_by(Alert.id)):
        yield Light(Level.BAD, gettext("Reports"), words, page="/reports/health")


def _database() -> Light:
    revision, head = schema_revision(engine()), schema_head()
    if revision == head:
        return Light(Level.GOOD, gettext("Database"), gettext("Answers, at revision %(revision)s.", revision=revision))
    words = gettext("At revision %(revision)s; this version needs %(head)s.", revision=revision, head=head)
    return Light(Level.BAD, gettext("Database"), words, cure=gettext("Run make migrate."))


def _stuck() -> Any:
    """The newest answers that did not arrive, with their conversations."""
    stuck = union_all(select(Delivery.id).where(HELD), select(Delivery.id).where(_refused()))
    return (
        select(
            Conversation.id,
            Conversation.peer_id,
            Person.name.label("person"),
            Message.id.label("message_id"),
            Delivery.state,
            Delivery.created_at,
        )
        .select_from(Delivery)
        .join(Message, Message.id == Delivery.message_id)
        .join(Conversation, Conversation.id == Message.conversation_id)
        .outerjoin(Person, Person.id == Conversation.person_id)
        .where(Delivery.id.in_(stuck))
        .order_by(Delivery.id.desc())
        .limit(LIST)
    )


def _versions() -> dict[str, str]:
    number = ".".join(str(part) for part in (engine().dialect.server_version_info or ()))
    kind = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[engine().dialect.name]
    packages = {name: version(name) for name in ("Flask", "SQLAlchemy")}
    return {kind: number, "Python": platform.python_version(), **packages}
