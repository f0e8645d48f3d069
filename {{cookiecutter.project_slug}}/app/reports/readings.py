"""How database, queues, figures and disk are, in figures: the health page, its lines and Prometheus show them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask_babel import format_decimal, format_percent, gettext
from sqlalchemy import ColumnElement, Engine, delete, func, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.reports import rollup
from app.reports.charts import duration
from app.reports.fragment import size
from app.settings import Settings
from app.storage.engine import insert_new
from app.storage.models import (
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Sample,
)
from app.storage.queues import FIRST_NEW, FIRST_UNFINISHED, last_poll, word

STEP, KEPT = 5, timedelta(days=1)  # minutes between two samples, and how long they are kept

POSTGRESQL = """
    SELECT pg_database_size(datname), numbackends, current_setting('max_connections')::float,
           blks_hit / greatest(blks_hit + blks_read, 1)::float,
           (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid())
    FROM pg_stat_database WHERE datname = current_database()
"""
SQLITE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"


@dataclass(frozen=True)
class Reading:
    """One figure: its number for programs, its words for people, and how good it is: "good", "doubtful" or "bad"."""

    name: str
    title: str
    value: float
    words: str
    level: str = "good"


def read(session: Session, settings: Settings, at: datetime) -> list[Reading]:
    """All of them at the moment `at`, in the language that is set."""
    return [*_database(session), *_queues(session, settings, at), *_figures(session), *_disk(settings)]


def sample(engine: Engine, settings: Settings, at: datetime) -> None:
    """Keep the figures of this moment for the lines; of several replicas one does it."""
    moment = at.replace(minute=at.minute - at.minute % STEP, second=0, microsecond=0)
    with Session(engine.execution_options(read_only=True)) as session:
        if session.scalar(select(Sample.at).where(Sample.at == moment).limit(1)):
            return
        rows = [{"name": reading.name, "at": moment, "value": reading.value} for reading in read(session, settings, at)]
    with Session(engine) as session, session.begin():
        insert_new(session, Sample, rows)
        session.execute(delete(Sample).where(Sample.at < at - KEPT))


def _database(session: Session) -> Iterator[Reading]:
    if session.get_bind().dialect.name != "postgresql":
        yield _size(session.scalar(text(SQLITE)) or 0)
        return
    row = session.execute(text(POSTGRESQL)).one()
    weight, used, most, hit, longest = map(float, row)
    yield _size(weight)
    words = gettext("%(used)s of %(most)s", used=format_decimal(used), most=format_decimal(most))
    yield Reading("database_connections", gettext("Connections"), used, words, _level(used / most, 0.7, 0.9))
    yield Reading("database_hit_ratio", gettext("Read from memory"), hit, str(format_percent(hit)), _level(1 - hit, 0.1, 0.5))
    yield _time("database_longest_transaction_seconds", gettext("Longest transaction"), longest, 60, 600)


def _size(weight: float) -> Reading:
    return Reading("database_bytes", gettext("Size of the database"), weight, size(int(weight)))


def _queues(session: Session, settings: Settings, at: datetime) -> Iterator[Reading]:
    def count(column: InstrumentedAttribute[int], where: ColumnElement[bool]) -> int:
        return session.scalar(select(func.count(column)).where(where)) or 0

    def since(moment: datetime | None) -> float:
        return max((at - moment).total_seconds(), 0) if moment else 0

    opened = count(Conversation.id, Conversation.status == ConversationStatus.OPEN)
    yield Reading("conversations_open", gettext("Open conversations"), opened, str(format_decimal(opened)))
    yield _time("events_oldest_seconds", gettext("What came in waits for"), since(session.scalar(FIRST_NEW)), 30, 180)
    yield _time("deliveries_oldest_seconds", gettext("What goes out waits for"), since(session.scalar(FIRST_UNFINISHED)), 30, 180)
    failed = count(Delivery.id, (Delivery.state == word(DeliveryState.FAILED)) & (Delivery.next_try_at > at - KEPT))
    yield Reading("deliveries_failed", gettext("Not sent within a day"), failed, str(format_decimal(failed)))
    polled = session.scalar(last_poll(settings.vk_group_id))
    if polled and settings.vk_transport == "longpoll":
        yield _time("longpoll_silence_seconds", gettext("VK was heard of before"), since(polled), 60, 300)


def _figures(session: Session) -> Iterator[Reading]:
    age, left, _ = rollup.lag(session)
    yield _time("figures_age_seconds", gettext("Figures are old by"), min(age, timedelta(days=999)).total_seconds(), 120, 900)
    yield Reading("figures_hours_left", gettext("Hours to be counted"), left, str(format_decimal(left)))


def _disk(settings: Settings) -> Iterator[Reading]:
    usage = shutil.disk_usage(settings.data_dir)
    free = usage.free / usage.total
    yield Reading("disk_free_ratio", gettext("Free on the disk"), free, str(format_percent(free)), _level(1 - free, 0.8, 0.9))


def _time(name: str, title: str, seconds: float, doubtful: float, bad: float) -> Reading:
    return Reading(name, title, seconds, duration(seconds), _level(seconds, doubtful, bad))


def _level(value: float, doubtful: float, bad: float) -> str:
    return "bad" if value > bad else "doubtful" if value > doubtful else "good"
