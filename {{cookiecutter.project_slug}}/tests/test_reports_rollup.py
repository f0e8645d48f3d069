"""The sums are what one counts by hand, whatever happens to the messages and to whoever counts."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, delete, event, func, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.reports import rollup
from app.reports.rollup import HOUR, Calendar, catch_up
from app.reports.state import Step
from app.reports.tables import age, bucket
from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.models import (
    Author,
    Changed,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Direction,
    DirtyHour,
    Figure,
    Message,
    Operator,
    Request,
    Role,
    Rollup,
    now,
)
from tests.conftest import on_postgresql, on_sqlite
from tests.histories import Line, write

Sums = Counter[tuple[str, str, str, datetime, int]]  # (grain, metric, of, at, bucket) → how many

KATHMANDU = ZoneInfo("Asia/Kathmandu")  # whose hours begin at a quarter past


def parts(topic: str | None, operator_id: int | None = None) -> list[str]:
    return ["", *([f"topic:{topic}"] if topic else []), *([f"operator:{operator_id}"] if operator_id else [])]


def counted(engine: Engine, zone: ZoneInfo) -> Sums:
    """Everything once more, row by row."""
    sums: Sums = Counter()

    def begins(at: datetime) -> dict[str, datetime]:
        local = at.astimezone(zone)
        day = datetime.combine(local.date(), clock.min, zone)
        week = datetime.combine(local.date() - timedelta(days=local.weekday()), clock.min, zone)
        return {
            "hour": at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond),
            "day": day.astimezone(UTC),
            "week": week.astimezone(UTC),
        }

    def add(metric: str, of: list[str], at: datetime, number: int = 0) -> None:
        for grain, begin in begins(at).items():
            for part in of:
                sums[grain, metric, part, begin, number] += 1

    with Session(engine) as session:
        topics = {row.id: row.topic for row in session.execute(select(Conversation.id, Conversation.topic))}
        messages: dict[int, list[Message]] = defaultdict(list)
        for message in session.scalars(select(Message).order_by(Message.id)):
            messages[message.conversation_id].append(message)
        requests = session.scalars(select(Request)).all()
        refused = session.scalars(select(Delivery).where(Delivery.state == DeliveryState.FAILED)).all()
    for conversation, lines in messages.items():
        first = last = handed_over = None
        days: dict[date, bool] = {}
        for message in lines:
            at, topic = message.created_at, topics[conversation]
            metric = {Author.PERSON: "in", Author.BOT: "bot", Author.OPERATOR: "out"}[message.author]
            add(metric, parts(topic, message.operator_id), at)
            if message.author == Author.PERSON:
                first, last = min(first or at, at), at  # times need not be in order
            elif message.author == Author.BOT and last:
                handed_over = max(handed_over or last, last)
            elif message.author == Author.OPERATOR and first:
                wait = max((at - (handed_over or first)).total_seconds(), 0)
                add("response", parts(topic, message.operator_id), at, bucket(wait))
                first = last = handed_over = None
        people = [message for message in lines if message.author == Author.PERSON]
        for number, message in enumerate(people):
            day = message.created_at.astimezone(zone).date()
            days[day] = days.get(day, False) or number == 0
        for day, new in days.items():
            at = datetime.combine(day, clock(12), zone)
            for grain in ("day", "week"):
                sums[grain, "new" if new else "returning", "", begins(at)[grain], 0] += 1
    for request in requests:
        add("opened", parts(request.topic), request.opened_at)
        if request.closed_at:
            took = (request.closed_at - request.opened_at).total_seconds()
            add("resolution", parts(request.topic, request.operator_id), request.closed_at, bucket(took))
    for delivery in refused:
        add("failed", [""], delivery.next_try_at, delivery.error_code or 0)
    return sums


def left_open(engine: Engine, zone: ZoneInfo, hours: list[datetime], at: datetime) -> Counter[tuple[str, datetime, int]]:
    """What was open at the end of `hours`; of the last one, whose ages go on, all in one."""
    sums: Counter[tuple[str, datetime, int]] = Counter()
    with Session(engine) as session:
        requests = session.scalars(select(Request)).all()
    current = Calendar(zone).hour(at)
    for request in requests:
        for hour in hours:
            end = min(hour + HOUR, at)
            if request.opened_at < end and (request.closed_at is None or request.closed_at >= end):
                for part in parts(request.topic):
                    sums[part, hour, -1 if hour == current else age((end - request.opened_at).total_seconds())] += 1
    return sums


def kept(engine: Engine, zone: ZoneInfo, at: datetime) -> tuple[Sums, Counter[tuple[str, datetime, int]]]:
    sums: Sums = Counter()
    opened: Counter[tuple[str, datetime, int]] = Counter()
    current = Calendar(zone).hour(at)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(DirtyHour)) == 0
        assert session.scalar(select(func.count()).select_from(Changed)) == 0
        for row in session.scalars(select(Figure)):
            if row.metric != "open":
                sums[row.grain, row.metric, row.of, row.at, row.bucket] = row.n
            elif row.grain == "hour":
                opened[row.of, row.at, -1 if row.at == current else row.bucket] += row.n
    return sums, opened


def check(engine: Engine, zone: ZoneInfo) -> None:
    """What is kept is what one counts."""
    catch_up(engine, zone)
    at = now()
    with Session(engine) as session:
        first = session.scalar(select(func.min(Request.opened_at))) or at
    sums, opened = kept(engine, zone, at)
    assert sums == counted(engine, zone)
    assert opened == left_open(engine, zone, list(Calendar(zone).hours(first, at)), at)


class Writer:
    """Does to the messages what may be done to them, one transaction after the other."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self._dice = random.Random(number)  # noqa: S311 - nothing secret
        self._number = number
        self._deeds: list[Callable[[Session], None]] = [
            *[self.write] * 6,
            *[self.hand_over] * 2,
            *[self.close] * 2,
            self.begin,
            self.rename,
            self.edit,
            self.erase,
            self.forget,
            self.refuse,
            self.move_request,
        ]

    def run(self, times: int) -> None:
        for _ in range(times):
            # what another has deleted meanwhile, and deadlocks among such deeds, are none of the reports' business
            with suppress(DBAPIError), Session(self._engine) as session:
                for deed in self._dice.sample(self._deeds, self._dice.randint(1, 3)):
                    deed(session)
                    session.flush()
                if self._dice.random() < 0.9:
                    session.commit()

    def _moment(self) -> datetime:
        back = self._dice.choice([0, 0, 60, 3000, 90_000, 700_000]) * self._dice.random()
        return now() - timedelta(seconds=back)

    def _any(self, session: Session, table: type, *where: object) -> int | None:
        found = session.scalars(select(table.id).where(*where)).all()  # type: ignore[attr-defined, arg-type]
        return self._dice.choice(found) if found else None

    def begin(self, session: Session) -> None:
        session.add(Conversation(peer_id=self._number * 10**6 + self._dice.randrange(10**6), topic=self._topic()))

    def _topic(self) -> str | None:
        return self._dice.choice([None, "returns", "delivery"])

    def write(self, session: Session) -> None:
        number = self._any(session, Conversation)
        if number is not None:
            author = self._dice.choices(list(Author), (4, 2, 2))[0]
            operator_id = self._any(session, Operator) if author == Author.OPERATOR else None
            direction = Direction.IN if author == Author.PERSON else Direction.OUT
            session.add(
                Message(
                    conversation_id=number, author=author, direction=direction, operator_id=operator_id, created_at=self._moment()
                )
            )

    def hand_over(self, session: Session) -> None:
        self._status(session, ConversationStatus.OPEN, opened_at=self._moment(), topic=self._topic())

    def close(self, session: Session) -> None:
        self._status(session, ConversationStatus.CLOSED, closed_at=now(), assignee_id=None)

    def _status(self, session: Session, status: ConversationStatus, **values: object) -> None:
        number = self._any(session, Conversation, Conversation.status != status)
        session.execute(update(Conversation).where(Conversation.id == number).values(status=status, **values))

    def rename(self, session: Session) -> None:
        number = self._any(session, Conversation)
        values = {"topic": self._topic(), "assignee_id": self._any(session, Operator)}
        session.execute(update(Conversation).where(Conversation.id == number).values(**values))

    def edit(self, session: Session) -> None:
        values = {"author": self._dice.choice(list(Author)), "created_at": self._moment()}
        session.execute(update(Message).where(Message.id == self._any(session, Message)).values(**values))

    def erase(self, session: Session) -> None:
        session.execute(delete(Message).where(Message.id == self._any(session, Message)))

    def forget(self, session: Session) -> None:
        if self._dice.random() < 0.3:
            session.execute(delete(Conversation).where(Conversation.id == self._any(session, Conversation)))

    def refuse(self, session: Session) -> None:
        session.add(Delivery(peer_id=1, random_id=1, state=DeliveryState.FAILED, error_code=901, next_try_at=self._moment()))
        number = self._any(session, Delivery)
        session.execute(update(Delivery).where(Delivery.id == number).values(state=DeliveryState.PENDING))

    def move_request(self, session: Session) -> None:
        number = self._any(session, Request)
        moved = update(Request).where(Request.id == number, Request.closed_at.is_not(None))
        session.execute(moved.values(opened_at=Request.opened_at, topic=self._topic()))


@pytest.fixture
def operators(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(Operator(login=f"o{n}", name=f"O{n}", password_hash="", role=Role.OPERATOR) for n in range(2))


@on_sqlite
@pytest.mark.usefixtures("operators")
def test_after_every_change_the_sums_are_right(engine: Engine) -> None:
    writer = Writer(engine, 7)
    writer.run(30)
    for _ in range(40):
        writer.run(1)
        check(engine, KATHMANDU)


KEEP = "import sys; from app.reports import rollup; from app.storage.engine import make_engine; from sqlalchemy import make_url; \
from zoneinfo import ZoneInfo; rollup.PAUSE = 0.05; print('begun', flush=True); \
rollup.keep(make_engine(make_url(sys.argv[1])), ZoneInfo(sys.argv[2]))"


@pytest.mark.usefixtures("operators")
def test_nothing_is_lost_and_nothing_counted_twice_whoever_writes_and_whoever_dies(settings: Settings, engine: Engine) -> None:
    Writer(engine, 99).run(40)  # what was there before anybody counted
    sqlite = engine.dialect.name == "sqlite"
    writers = [
        threading.Thread(target=Writer(engine, number).run, args=(60 if sqlite else 100,)) for number in range(2 if sqlite else 6)
    ]
    for writer in writers:
        writer.start()
    kills = 0
    while any(writer.is_alive() for writer in writers) or kills < 2:
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEP, settings.database.render_as_string(hide_password=False), KATHMANDU.key],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"begun\n"
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(random.Random(kills).uniform(0.05, 0.6))  # noqa: S311 - nothing secret
        assert keeper.poll() is None
        keeper.send_signal(signal.SIGKILL)
        keeper.communicate()
        kills += 1
    for writer in writers:
        writer.join()
    check(engine, KATHMANDU)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Message)) > 50


def lines(engine: Engine, settings: Settings) -> list[Line]:
    """A few conversations of the last days, which are written and counted."""
    at = now()
    told = [
        (peer, author, at - timedelta(days=peer, minutes=30 - minute))
        for peer in range(1, 6)
        for author, minute in ((Author.PERSON, 0), (Author.BOT, 0), (Author.OPERATOR, 7 * peer))
    ]
    write(engine, told, {9: at - timedelta(days=2)})
    catch_up(engine, settings.zone)
    return told


def test_all_is_counted_anew_when_somebody_asks_or_the_zone_is_another(settings: Settings, engine: Engine) -> None:
    lines(engine, settings)
    with Session(engine) as session, session.begin():
        session.execute(update(Figure).values(n=Figure.n + 1))
        session.add(Figure(grain="day", metric="in", of="", at=datetime(2001, 1, 1, tzinfo=UTC), bucket=0, n=1))
    catch_up(engine, settings.zone)
    assert kept(engine, settings.zone, now())[0] != counted(engine, settings.zone)
    shown: list[tuple[int, int]] = []
    rollup.rebuild(engine, settings.zone, lambda left, total: shown.append((left, total)))
    check(engine, settings.zone)
    assert [left for left, _ in shown] == sorted((left for left, _ in shown), reverse=True)
    assert {total for _, total in shown} == {shown[0][0] + rollup.AT_ONCE}
    check(engine, KATHMANDU)
    check(engine, settings.zone)


def test_a_count_that_was_stopped_goes_on(engine: Engine, settings: Settings) -> None:
    class Stop(Exception):
        pass

    def stop(_left: int, _total: int) -> None:
        raise Stop

    lines(engine, settings)
    for _ in range(2):
        with pytest.raises(Stop):
            rollup.rebuild(engine, settings.zone, stop)
    with Session(engine) as session:
        age, left, total = rollup.lag(session)
        assert age < timedelta(minutes=1)
        assert 0 < left < total
    check(engine, settings.zone)
    with Session(engine) as session:
        assert rollup.lag(session)[1:] == (0, 0)


@on_sqlite
def test_a_restored_database_goes_on_where_it_was(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    lines(engine, settings)
    write(engine, [(7, Author.PERSON, now() - timedelta(hours=9))])  # marked, and not counted yet
    with sqlite3.connect(str(engine.url.database)) as source, sqlite3.connect(tmp_path / "restored.db") as backup:
        source.backup(backup)
    write(engine, [(8, Author.PERSON, now())])
    catch_up(engine, settings.zone)
    restored = make_engine(make_url(f"sqlite:///{tmp_path}/restored.db"))
    check(restored, settings.zone)
    restored.dispose()


@on_sqlite
def test_nothing_is_written_while_there_is_nothing_to_do(settings: Settings, engine: Engine) -> None:
    assert rollup._behind(engine, settings.zone)
    lines(engine, settings)
    assert not rollup._behind(engine, settings.zone)
    write(engine, [(8, Author.PERSON, now())])
    assert rollup._behind(engine, settings.zone)


@on_postgresql
def test_who_wrote_before_anything_was_marked_is_waited_for(settings: Settings, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Conversation(peer_id=1))
        session.flush()
        counting = threading.Thread(target=catch_up, args=(engine, settings.zone))
        counting.start()
        with Session(engine) as other:
            while other.get(Rollup, 1) is None:
                other.rollback()
                time.sleep(0.01)
        session.add(
            Message(conversation_id=1, author=Author.PERSON, direction=Direction.IN, created_at=now() - timedelta(days=3))
        )
        session.commit()
    counting.join()
    check(engine, settings.zone)


@on_postgresql
def test_of_a_long_conversation_no_more_is_read_than_the_turn(engine: Engine) -> None:
    at = now()
    authors = (Author.PERSON, Author.OPERATOR)
    told: list[Line] = [(1, authors[number % 2], at - timedelta(days=30, minutes=number)) for number in range(4000, 0, -1)]
    write(engine, [*told, (1, Author.PERSON, at - timedelta(minutes=5)), (1, Author.OPERATOR, at)])
    query = rollup._waits(at - HOUR, at + HOUR)
    asked: list[tuple[str, Any]] = []
    with engine.connect() as connection:
        connection.execute(text("ANALYZE message"))
        event.listen(connection, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
        assert [row[1] - row[0] for row in connection.execute(query)] == [timedelta(minutes=5)]
        words, values = asked[0]
        (top,) = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {words}", values).scalar_one()
    assert 0 < rows_read(top["Plan"]) < 50


def rows_read(plan: dict[str, Any]) -> int:
    """How many rows of tables were looked at."""
    own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return int(own * plan["Actual Loops"]) + sum(map(rows_read, plan.get("Plans", [])))


@on_sqlite
def test_time_goes_on_after_a_clock_was_ahead(settings: Settings, engine: Engine) -> None:
    lines(engine, settings)
    ahead = Calendar(settings.zone).hour(now() + timedelta(days=2))
    with Session(engine) as session, session.begin():
        session.execute(update(Rollup).values(hour=ahead))
        session.add(Figure(grain="hour", metric="open", of="", at=ahead, bucket=0, n=1))
    assert rollup._behind(engine, settings.zone)
    check(engine, settings.zone)
    with Session(engine) as session:
        assert session.scalars(select(Rollup.hour)).one() == Calendar(settings.zone).hour(now())
        assert session.scalar(select(func.max(Figure.at))) <= now()


@pytest.mark.parametrize("zone", ["Europe/Moscow", "Asia/Kathmandu", "America/New_York", "America/Santiago"])
def test_hours_and_days_follow_the_clocks_of_the_zone(zone: str) -> None:
    calendar = Calendar(ZoneInfo(zone))
    begin = datetime(2026, 10, 30, tzinfo=UTC)
    hours = list(calendar.hours(begin, begin + timedelta(days=5)))
    assert all(later - earlier == HOUR for earlier, later in pairwise(hours))
    assert all(hour.astimezone(ZoneInfo(zone)).minute == 0 for hour in hours)
    for hour in hours:
        first, end = calendar.span(Step.DAY, hour)
        assert first <= hour < end
        assert (calendar.hour(first), calendar.hour(end)) == (first, end)
        assert calendar.span(Step.DAY, end)[0] == end
        monday, sunday = calendar.span(Step.WEEK, hour)
        assert monday.astimezone(ZoneInfo(zone)).weekday() == 0
        assert monday <= first < end <= sunday
