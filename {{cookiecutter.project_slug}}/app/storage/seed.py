"""A believable month for a trial: people, conversations, messages and deliveries, up to a million conversations, in bulk.

People write by day more than by night and on weekdays more than at weekends. The bot answers at once; operators answer in
their hours, after a wait that is log-normal, as such waits are. A few answers fail, and of the newest conversations some are
still open. It all ends now, so that some of it is fresh. The same count and the same moment give the same month.
"""

import argparse
import random
import secrets
import time
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from math import log as ln
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Engine, Table, func, insert, select, text, update

from app.settings import Settings, SettingsError
from app.storage import triggers
from app.storage.engine import wait_for_database
from app.storage.migrate import hasher
from app.storage.models import (
    Author,
    Base,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Direction,
    Message,
    Operator,
    Person,
    Request,
    Role,
    Rollup,
    now,
)

log = structlog.get_logger()

DEFAULT, MOST = 300, 1_000_000
DAYS = 31
FIRST_PEER = 1_900_000_000  # numbers of people that VK has not given to anybody, and not those of group chats
BATCH = 2_000  # conversations that are held in memory
MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds

HOURS = [2, 1, 1, 1, 1, 2, 4, 8, 14, 22, 30, 32, 30, 28, 30, 30, 29, 28, 28, 30, 31, 26, 15, 6]  # how much people write
WEEKDAYS = [1.2, 1.1, 1.0, 1.0, 0.9, 0.6, 0.5]
OPENS, CLOSES, WORKING_DAYS = 10, 19, 5


def main(settings: Settings, words: Sequence[str]) -> None:
    """Fill the database as the command line `words` ask. Raises `SettingsError` when that would do harm."""
    parser = argparse.ArgumentParser(prog="python -m app.storage seed")
    parser.add_argument("count", nargs="?", type=int, default=DEFAULT, help=f"conversations, up to {MOST} (default: {DEFAULT})")
    parser.add_argument("--add", action="store_true", help="to the conversations that are there")
    parser.add_argument("--in-production", action="store_true", help="although APP_ENV is production")
    given = parser.parse_args(words)
    if not 0 < given.count <= MOST:
        raise SettingsError(f"{given.count} conversations cannot be made: say a number from 1 to {MOST}")
    if settings.app_env == "production" and not given.in_production:
        raise SettingsError("this is production, where nobody wants invented people; if you do, add --in-production")
    engine = wait_for_database(settings)
    with engine.connect() as connection:
        if not given.add and connection.scalar(select(Conversation.id).limit(1)) is not None:
            raise SettingsError("there are conversations already; to add invented ones to them: make seed ADD=1 (or --add)")
    fill(engine, settings, given.count, now())
    engine.dispose()


def fill(engine: Engine, settings: Settings, count: int, until: datetime) -> None:
    """Add `count` conversations of the month that ends at `until`: all of them, or none when it is stopped."""
    texts = tomllib.loads((Path(__file__).parent / "seed_texts" / f"{settings.app_language}.toml").read_text(encoding="utf-8"))
    began, said = time.monotonic(), 0.0
    with engine.begin() as connection:
        writer = Writer(connection)
        month = Month(texts, settings.zone, until, _operators(connection, texts), random.Random(writer.peer))  # noqa: S311
        with _in_bulk(connection):
            for done in writer.write(month.stories(count)):
                if time.monotonic() - said > 5 or done == count:
                    said = time.monotonic()
                    log.info(f"{done} of {count} conversations, {said - began:.0f} s")
        connection.execute(update(Rollup).values(hour=None))  # the reports count it all
        connection.execute(text("ANALYZE"))  # else the database plans as if there were nothing yet


@contextmanager
def _in_bulk(connection: Connection) -> Iterator[None]:
    """Without the triggers, and without the indexes that cost more row by row than made anew at the end."""
    words = [
        index for table in (Person, Message) for index in cast("Table", table.__table__).indexes if "words" in str(index.name)
    ]
    if connection.dialect.name == "sqlite":
        for trigger in triggers.TRIGGERS:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
        yield
        for trigger in triggers.TRIGGERS:
            triggers.put(connection, trigger)
        return
    tables = sorted({trigger.table for trigger in triggers.TRIGGERS})
    for table in tables:
        connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    for index in words:
        index.drop(connection)
    yield
    for index in words:
        index.create(connection)
    for table in tables:
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def _operators(connection: Connection, texts: dict[str, Any]) -> list[int]:
    """The numbers of all operators, with some colleagues whom nobody can sign in as before an admin gives them a password."""
    known = set(connection.scalars(select(Operator.login)))
    for login, name in texts["operators"]:
        if login not in known:
            values = {"login": login, "name": name, "role": Role.OPERATOR, "password_hash": hasher.hash(secrets.token_hex())}
            connection.execute(insert(Operator).values(values))
    return list(connection.scalars(select(Operator.id).where(Operator.active).order_by(Operator.id)))


@dataclass
class Line:
    """A message; `at` is in seconds since 1970. `error` of an answer is why VK refused it."""

    author: Author
    text: str
    at: float
    operator: int | None = None
    attachments: list[dict[str, Any]] = field(default_factory=list)
    state: DeliveryState = DeliveryState.SENT
    error: tuple[int | None, str] | None = None


@dataclass
class Asked:
    """A time that the operators had the word."""

    topic: str
    opened_at: float
    operator: int | None = None
    closed_at: float | None = None


@dataclass
class Story:
    """A person and all that was said with them."""

    first_name: str
    last_name: str
    lines: list[Line] = field(default_factory=list)
    status: ConversationStatus = ConversationStatus.BOT
    topic: str | None = None
    assignee: int | None = None
    reachable: bool = True
    requests: list["Asked"] = field(default_factory=list)


class Month:
    """Invents conversations."""

    def __init__(self, texts: dict[str, Any], zone: ZoneInfo, until: datetime, operators: list[int], rng: random.Random) -> None:
        self._texts = texts
        self._until = until.timestamp()
        self._operators = operators
        self._rng = rng
        self._topic_weights = [topic["weight"] for topic in texts["topics"]]
        local = until.astimezone(zone)
        midnights = [datetime(local.year, local.month, local.day, tzinfo=zone) + timedelta(days=n) for n in range(-DAYS, 8)]
        self._hours = [
            (day.replace(hour=hour).timestamp(), HOURS[hour] * WEEKDAYS[day.weekday()])
            for day in midnights[: DAYS + 1]
            for hour in range(24)
            if day.replace(hour=hour) < local
        ]
        working = [day for day in midnights if day.weekday() < WORKING_DAYS]
        self._opens = [day.replace(hour=OPENS).timestamp() for day in working]
        self._closes = [day.replace(hour=CLOSES).timestamp() for day in working]

    def stories(self, count: int) -> Iterator[Story]:
        """So many conversations, in the order in which they begin."""
        total, reached, made = sum(weight for _, weight in self._hours), 0.0, 0
        for begin, weight in self._hours:
            reached += weight
            due = round(count * reached / total)
            for at in sorted(begin + self._rng.random() * min(HOUR, self._until - begin) for _ in range(due - made)):
                yield self._story(at)
            made = due

    def _story(self, at: float) -> Story:
        names, surnames = self._texts["first_names"], self._texts["last_names"]
        which = self._rng.randrange(len(names))
        ending = self._texts["female_ending"] if which < len(names) // 2 else ""
        story = Story(names[which], self._rng.choice(surnames) + ending)
        while at < self._until:
            at = self._question(story, at) if self._rng.random() < 0.3 else self._request(story, at)
            if story.status == ConversationStatus.OPEN or not story.reachable or self._rng.random() > 0.25:
                break
            at += self._rng.expovariate(1 / (6 * DAY))  # some come back
        return story

    def _question(self, story: Story, at: float) -> float:
        """The bot knows the answer. Returns when it was over."""
        question = self._rng.choice(self._texts["questions"])
        self._say(story, Author.PERSON, self._rng.choice(question["ask"]), at)
        self._say(story, Author.BOT, question["answer"], at + self._rng.uniform(0.5, 3))
        if self._rng.random() < 0.3:
            at += self._wait(MINUTE)
            self._say(story, Author.PERSON, self._rng.choice(self._texts["thanks"]), at)
        story.status = ConversationStatus.BOT
        return at

    def _request(self, story: Story, at: float) -> float:
        """The bot hands over; operators answer, and close it when it is settled. Returns when it was over."""
        topic = self._rng.choices(self._texts["topics"], self._topic_weights)[0]
        words = {"name": story.first_name, "order": f"№ {self._rng.randrange(10_000, 99_999)}"}
        greeting = self._rng.choice(self._texts["greetings"])
        ask = greeting + self._rng.choice(topic["ask"]).format(**words)
        self._say(story, Author.PERSON, ask[0].upper() + ask[1:], at)
        self._say(story, Author.BOT, self._texts["handed_over"], at + self._rng.uniform(0.5, 3))
        story.status, story.topic, story.assignee = ConversationStatus.OPEN, topic["title"], None
        story.requests.append(Asked(story.topic, at))
        fresh = self._until - at < 2 * DAY
        if fresh and self._rng.random() < 0.2:
            return at  # nobody has got to it yet
        operator = self._rng.choice(self._operators)
        answers, follow = self._shuffled(topic["answer"]), self._shuffled(topic["follow"])
        while at < self._until:
            at = self._at_work(at) + self._wait(5 * MINUTE)
            if self._say(story, Author.OPERATOR, answers.pop().format(**words), at, operator):
                story.assignee = story.requests[-1].operator = operator
            if not self._arrives(story) or not answers or self._rng.random() > 0.45:
                break
            at += self._wait(4 * MINUTE)
            self._say(story, Author.PERSON, follow.pop(), at)
        return at if fresh and self._rng.random() < 0.3 else self._settle(story, at, operator, words)

    def _settle(self, story: Story, at: float, operator: int, words: dict[str, str]) -> float:
        if story.reachable and self._rng.random() < 0.6:
            at += self._wait(3 * MINUTE)
            self._say(story, Author.PERSON, self._rng.choice(self._texts["thanks"]), at)
            if self._rng.random() < 0.5:
                at = self._at_work(at) + self._wait(2 * MINUTE)
                self._say(story, Author.OPERATOR, self._rng.choice(self._texts["welcome"]).format(**words), at, operator)
        at = self._at_work(at) + self._wait(10 * MINUTE)
        if at < self._until:
            story.status, story.requests[-1].closed_at, story.assignee = ConversationStatus.CLOSED, at, None
            if story.reachable:
                self._say(story, Author.BOT, self._texts["closed"], at + 1)
        return at

    def _say(self, story: Story, author: Author, words: str, at: float, operator: int | None = None) -> bool:
        """Whether it was said yet."""
        if at >= self._until:
            return False
        sent = author == Author.PERSON and self._rng.random() < 0.03
        size = self._rng.randrange(20_000, 4_000_000) if sent else 0
        attachments = [{"type": "doc", "doc": {"title": f"scan-{size % 1000}.pdf", "size": size}}] if sent else []
        story.lines.append(Line(author, words, at, operator, attachments))
        return True

    def _arrives(self, story: Story) -> bool:
        """Whether the last answer did: a few people have forbidden the community to write, and sometimes nobody knows."""
        line, chance = story.lines[-1], self._rng.random()
        if line.author == Author.OPERATOR and chance < 0.01:
            line.state, line.error = DeliveryState.FAILED, (901, "Can't send messages for users without permission")
            story.reachable = False
        elif line.author == Author.OPERATOR and chance < 0.012:
            line.state, line.error = DeliveryState.HELD, (None, "no answer from VK for an hour: it may have been sent")
        return line.error is None

    def _wait(self, median: float) -> float:
        """Seconds: half of them more than `median`, one in ten more than four times that."""
        return self._rng.lognormvariate(ln(median), 1.1)

    def _shuffled(self, words: list[str]) -> list[str]:
        return self._rng.sample(words, len(words))

    def _at_work(self, at: float) -> float:
        """`at`, or when the operators get to it who come next and find that much was written."""
        today = bisect_right(self._opens, at) - 1
        if today >= 0 and at < self._closes[today]:
            return at
        return self._opens[today + 1] + self._rng.expovariate(1 / HOUR) if today + 1 < len(self._opens) else self._until


class Writer:
    """Writes stories into the tables; `peer` is the number that the first person gets."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        invented = select(func.max(Person.vk_id)).where(Person.vk_id.between(FIRST_PEER, FIRST_PEER + 99_999_999))
        self.peer = (connection.scalar(invented) or FIRST_PEER - 1) + 1
        self._rng = random.Random(self.peer)  # noqa: S311
        self._people = Bulk(connection, Person, "id vk_id first_name last_name reachable created_at")
        self._conversations = Bulk(
            connection,
            Conversation,
            "id peer_id person_id status topic assignee_id unread last_message_at last_message_text"
            " opened_at closed_at created_at",
        )
        self._messages = Bulk(
            connection, Message, "id conversation_id direction author operator_id cmid text attachments created_at"
        )
        self._requests = Bulk(connection, Request, "conversation_id topic operator_id opened_at closed_at")
        self._deliveries = Bulk(
            connection,
            Delivery,
            "message_id peer_id text random_id state attempts next_try_at first_tried_at sent_at error_code error created_at",
        )

    def write(self, stories: Iterator[Story]) -> Iterator[int]:
        """How many are written, each time that some are."""
        done = 0
        while batch := list(islice(stories, BATCH)):
            self._write(batch)
            done += len(batch)
            yield done

    def _write(self, stories: list[Story]) -> None:
        person_id, conversation_id = self._people.reserve(len(stories)), self._conversations.reserve(len(stories))
        message_id = self._messages.reserve(sum(len(story.lines) for story in stories))
        for number, story in enumerate(stories):
            self._write_dialog(story, conversation_id + number, person_id + number, self.peer + number)
            for cmid, line in enumerate(story.lines, 1):
                self._write_line(line, conversation_id + number, message_id, self.peer + number, cmid)
                message_id += 1
        self.peer += len(stories)
        for table in (self._people, self._conversations, self._requests, self._messages, self._deliveries):
            table.flush()

    def _write_dialog(self, story: Story, conversation_id: int, person_id: int, peer: int) -> None:
        lines, began = story.lines, _moment(story.lines[0].at)
        people = [line.author == Author.PERSON for line in lines]
        answered = max((place for place, line in enumerate(lines) if line.author == Author.OPERATOR), default=0)
        human = next(line.text for line in reversed(lines) if line.author != Author.BOT)
        unread = 0 if story.status == ConversationStatus.CLOSED else sum(people[answered:])
        self._people.add(person_id, peer, story.first_name, story.last_name, story.reachable, began)
        self._conversations.add(
            conversation_id,
            peer,
            person_id,
            story.status,
            story.topic,
            story.assignee,
            unread,
            _moment(lines[-1].at),
            human[:200],
            _moment(max((asked.opened_at for asked in story.requests), default=None)),
            _moment(max((asked.closed_at for asked in story.requests if asked.closed_at), default=None)),
            began,
        )
        for asked in story.requests:
            opened, closed = _moment(asked.opened_at), _moment(asked.closed_at)
            self._requests.add(conversation_id, asked.topic, asked.operator, opened, closed)

    def _write_line(self, line: Line, conversation_id: int, message_id: int, peer: int, cmid: int) -> None:
        at, sent = _moment(line.at), line.state == DeliveryState.SENT
        direction = Direction.IN if line.author == Author.PERSON else Direction.OUT
        number = cmid if sent else None
        self._messages.add(
            message_id, conversation_id, direction, line.author, line.operator, number, line.text, line.attachments, at
        )
        if direction == Direction.OUT:
            tried = _moment(line.at + self._rng.uniform(0.05, 1))
            code, why = line.error or (None, None)
            random_id = self._rng.randrange(1, 2**31)
            self._deliveries.add(
                message_id, peer, line.text, random_id, line.state, 1, tried, tried, tried if sent else None, code, why, at
            )


class Bulk:
    """Rows of one table with these `columns`; the model's defaults fill some of the others. Kept until `flush`."""

    def __init__(self, connection: Connection, model: type[Base], columns: str) -> None:
        self._connection = connection
        self._table = cast("Table", model.__table__)
        given = columns.split()
        defaults = {column.name: _default(column) for column in self._table.columns if column.default is not None}
        self._rest = tuple(value for name, value in defaults.items() if name not in given)
        self._names = [*given, *(name for name in defaults if name not in given)]
        types = [self._table.columns[name].type.dialect_impl(connection.dialect) for name in self._names]
        self._processors = [kind.bind_processor(connection.dialect) for kind in types]
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        """One row, in the order of the columns."""
        self._rows.append(
            tuple(
                process(value) if process else value
                for process, value in zip(self._processors, chain(values, self._rest), strict=True)
            )
        )

    def reserve(self, count: int) -> int:
        """The first of `count` numbers in a row that nobody else gets."""
        if self._connection.dialect.name == "sqlite":  # this transaction is the only one that writes
            return (self._connection.scalar(select(func.max(self._table.c.id))) or 0) + 1
        query = text(
            "SELECT min(n), max(n) FROM (SELECT nextval(pg_get_serial_sequence(:t, 'id')) n FROM generate_series(1, :count)) s"
        )
        while True:
            first, last = self._connection.execute(query, {"t": self._table.name, "count": count}).one()
            if last - first == count - 1:  # else somebody else took one of these: let them go
                return int(first)

    def flush(self) -> None:
        """Write what was added: with COPY on PostgreSQL."""
        driver: Any = self._connection.connection.driver_connection
        names = ", ".join(f'"{name}"' for name in self._names)
        if self._connection.dialect.name == "sqlite":
            places = ", ".join("?" for _ in self._names)
            driver.executemany(f'INSERT INTO "{self._table.name}" ({names}) VALUES ({places})', self._rows)  # noqa: S608
        else:
            with driver.cursor() as cursor, cursor.copy(f'COPY "{self._table.name}" ({names}) FROM STDIN') as copy:
                for row in self._rows:
                    copy.write_row(row)
        self._rows.clear()


def _default(column: Any) -> Any:
    return column.default.arg(None) if column.default.is_callable else column.default.arg


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
