"""The figures and what they mean. Charts and pages take them from here and never ask the database themselves.

A *day* is a day of the project's time zone, from midnight to midnight, whatever its length; a message belongs to the day on
which it was written.

A *wait* is the time a person waits for an operator, in seconds. It begins with the message to which the bot replied last (the
one with which the bot handed the conversation over), or, if the bot has said nothing since the last operator's message, with
the first message the person wrote since then. It ends with the operator's answer and belongs to the day of that answer, so
that a day that is over does not change. The bot's own answers end no wait, and neither does an operator's second message in
a row.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Date, Select, case, column, func, select, values
from sqlalchemy.orm import aliased

from app.storage.models import Author, Conversation, ConversationStatus, Message, UtcDateTime


@dataclass(frozen=True)
class Period:
    """Whole days of `zone`, both ends included."""

    first: date
    last: date
    zone: ZoneInfo

    @classmethod
    def until(cls, moment: datetime, days: int, zone: ZoneInfo) -> "Period":
        """The last `days` days up to and with the one in which `moment` falls."""
        last = moment.astimezone(zone).date()
        return cls(last - timedelta(days=days - 1), last, zone)

    @cached_property
    def days(self) -> list[date]:
        """Each day, in order."""
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    def begin(self, day: date) -> datetime:
        """The moment at which `day` begins."""
        return datetime.combine(day, time.min, self.zone)

    def end(self, day: date) -> datetime:
        """The moment at which the next day begins."""
        return self.begin(day + timedelta(days=1))


@dataclass(frozen=True)
class Traffic:
    """How many messages were written, and by whom."""

    people: int = 0
    bot: int = 0
    operators: int = 0

    @property
    def out(self) -> int:
        """Everything the community wrote."""
        return self.bot + self.operators

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.people + other.people, self.bot + other.bot, self.operators + other.operators)


@dataclass(frozen=True)
class Waits:
    """How many waits ended, and how long half of them and nine in ten of them took at most; seconds, None without any."""

    count: int = 0
    median: float | None = None
    p90: float | None = None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Waits":
        """The summary of single waits."""
        ordered = sorted(seconds)
        return cls(len(ordered), _quantile(ordered, 0.5), _quantile(ordered, 0.9)) if ordered else cls()


@dataclass(frozen=True)
class Responses:
    """The waits that ended, for each day and for the period as a whole."""

    days: dict[date, Waits]
    total: Waits


@dataclass(frozen=True)
class Backlog:
    """The conversations that are open at this moment, and since when the oldest of them is."""

    count: int
    oldest: datetime | None


def traffic(connection: Connection, period: Period) -> dict[date, Traffic]:
    """The messages of each day of `period`."""
    bounds = (
        values(column("day", Date), column("begins", UtcDateTime), column("ends", UtcDateTime))
        .data([(day, period.begin(day), period.end(day)) for day in period.days])
        .cte("days")
    )
    rows = connection.execute(
        select(bounds.c.day, Message.author, func.count())
        .join_from(bounds, Message, (Message.created_at >= bounds.c.begins) & (Message.created_at < bounds.c.ends))
        .group_by(bounds.c.day, Message.author)
    )
    counts: dict[date, Counter[Author]] = defaultdict(Counter)
    for day, author, count in rows:
        counts[day][author] = count
    return {
        day: Traffic(counts[day][Author.PERSON], counts[day][Author.BOT], counts[day][Author.OPERATOR]) for day in period.days
    }


def responses(connection: Connection, period: Period) -> Responses:
    """The waits that ended in `period`."""
    days: dict[date, list[float]] = {day: [] for day in period.days}
    for asked, answered in connection.execute(_waits(period)):
        # VK's clock and ours are not the same
        days[answered.astimezone(period.zone).date()].append(max((answered - asked).total_seconds(), 0))
    return Responses(
        {day: Waits.of(seconds) for day, seconds in days.items()},
        Waits.of(second for seconds in days.values() for second in seconds),
    )


def backlog(connection: Connection) -> Backlog:
    """What is open now."""
    opened = select(func.count(), func.min(Conversation.opened_at)).where(Conversation.status == ConversationStatus.OPEN)
    count, oldest = connection.execute(opened).one()
    return Backlog(count, oldest)


def _waits(period: Period) -> Select[datetime, datetime]:
    """Rows (asked, answered). A turn is what was written up to and with an operator's message."""
    begin, end = period.begin(period.first), period.end(period.last)
    answer = aliased(Message)
    answered_within = select(answer.conversation_id).where(
        answer.author == Author.OPERATOR, answer.created_at >= begin, answer.created_at < end
    )
    lines = (
        select(
            Message.conversation_id,
            Message.author,
            Message.created_at,
            func.lead(Message.author).over(partition_by=Message.conversation_id, order_by=Message.id).label("next_author"),
            func.count(case((Message.author == Author.OPERATOR, 1)))
            .over(partition_by=Message.conversation_id, order_by=Message.id, rows=(None, -1))
            .label("turn"),
        )
        .where(Message.conversation_id.in_(answered_within))
        .subquery()
    )
    at = lines.c.created_at
    by_person = lines.c.author == Author.PERSON
    handed_over = func.max(case((by_person & (lines.c.next_author == Author.BOT), at)))
    asked = func.coalesce(handed_over, func.min(case((by_person, at))))
    answered = func.max(case((lines.c.author == Author.OPERATOR, at)))
    return (
        select(asked, answered)
        .group_by(lines.c.conversation_id, lines.c.turn)
        .having(asked.is_not(None), answered >= begin, answered < end)
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The value below which `share` of the values lie, between two of them in proportion (PostgreSQL's percentile_cont)."""
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
