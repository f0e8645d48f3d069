"""The figures as tables. They are read from the sums that `rollup` keeps ready, never from the messages themselves.

Times are kept in buckets, each a tenth longer than the one before: `bucket` and `seconds` turn one into the other. So a median
or a percentile is right within a tenth, and costs the same however many messages there are.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from flask_babel import gettext
from sqlalchemy import ColumnElement, Connection, func, select

from app.reports.state import State, Step
from app.storage.models import Figure

WIDTH = 1.1
AGES = [3600 * hours for hours in (1, 4, 24, 72, 168)]  # seconds: where one class of age ends and the next begins

Kind = Literal["hour", "day", "week", "text", "count", "seconds", "share"]
Value = datetime | str | int | float | None


@dataclass(frozen=True)
class Column:
    """`name` is for programs, `title` for people, in their language."""

    name: str
    title: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """The figures of one chart, for the page, the chart and every file.

    A value is what its column's kind says: "hour", "day" and "week" a `datetime` in the project's zone at which it begins;
    "text" a string; "count" an integer; "seconds" and "share" (0 to 1) numbers, None where there is nothing to tell it from.
    `summary` is what the chart shows, in a sentence or two. `links` has an address for each row, or is empty. `before` is
    the same table for the period before, when it was asked for.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    summary: str
    links: Sequence[str] = ()
    before: "Table | None" = None

    def values(self, name: str) -> list[Value]:
        """The column `name`, from top to bottom."""
        place = next(place for place, column in enumerate(self.columns) if column.name == name)
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class Spread:
    """How many there were of each bucket."""

    buckets: Counter[int] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many there were."""
        return self.buckets.total()

    def quantile(self, share: float) -> float | None:
        """What `share` of them took at most, in seconds, give or take half a bucket; None without any."""
        rank, passed = math.ceil(share * self.count), 0
        for number in sorted(self.buckets):
            passed += self.buckets[number]
            if passed >= rank:
                return seconds(number)
        return None

    def within(self, target: float) -> float | None:
        """Which share of them took up to `target` seconds; None without any."""
        if not self.count:
            return None
        return sum(n for number, n in self.buckets.items() if seconds(number) <= target) / self.count

    @classmethod
    def sum(cls, spreads: Iterable["Spread"]) -> "Spread":
        """All of them together."""
        total: Counter[int] = Counter()
        for spread in spreads:
            total.update(spread.buckets)
        return cls(total)


def bucket(duration: float) -> int:
    """The bucket of a time in seconds."""
    return math.ceil(math.log(max(duration, 1)) / math.log(WIDTH))


def seconds(number: int) -> float:
    """The middle of a bucket."""
    return float(WIDTH ** (number - 0.5))


def age(duration: float) -> int:
    """The class of an open request's age in seconds."""
    return bisect_right(AGES, duration)


def age_titles() -> list[str]:
    """What the classes of age are called."""
    return [
        gettext("up to 1 hour"),
        gettext("up to 4 hours"),
        gettext("up to 1 day"),
        gettext("up to 3 days"),
        gettext("up to 7 days"),
        gettext("older"),
    ]


def time_column(state: State) -> Column:
    """The first column of what is shown step by step."""
    titles = {Step.HOUR: gettext("Hour"), Step.DAY: gettext("Day"), Step.WEEK: gettext("Week from")}
    return Column("time", titles[state.step], state.step.value)


def counts(connection: Connection, state: State, *metrics: str) -> dict[str, list[int]]:
    """For each of `metrics`, how many there were in each step, in the order of `state.times`."""
    places = _places(state)
    found = {metric: [0] * len(places) for metric in metrics}
    of_state = select(Figure.metric, Figure.at, func.sum(Figure.n)).where(*_within(state), Figure.metric.in_(metrics))
    for metric, at, n in connection.execute(of_state.group_by(Figure.metric, Figure.at)):
        found[metric][places[at]] += int(n)
    return found


def spreads(connection: Connection, state: State, metric: str) -> list[Spread]:
    """For each step how many there were of each bucket, in the order of `state.times`."""
    places = _places(state)
    found = [Spread() for _ in places]
    of_state = select(Figure.at, Figure.bucket, Figure.n).where(*_within(state), Figure.metric == metric)
    for at, number, n in connection.execute(of_state):
        found[places[at]].buckets[number] += n
    return found


def by_part(connection: Connection, state: State, metric: str, parts: Sequence[str]) -> dict[str, Spread]:
    """For each of `parts`, values of `State.of`: how many of each bucket in the whole period."""
    found: dict[str, Counter[int]] = {part: Counter() for part in parts}
    of_parts = select(Figure.of, Figure.bucket, func.sum(Figure.n)).where(
        Figure.grain == state.step, Figure.metric == metric, Figure.of.in_(parts), Figure.at >= state.begin, Figure.at < state.end
    )
    for part, number, n in connection.execute(of_parts.group_by(Figure.of, Figure.bucket)):
        found[part][number] = int(n)
    return {part: Spread(counter) for part, counter in found.items()}


def topics(connection: Connection) -> list[str]:
    """Every topic that there was ever a request about, as `State.of` has it; the weeks know them all."""
    known = select(Figure.of).where(Figure.grain == Step.WEEK, Figure.metric == "opened", Figure.of != "")
    return list(connection.scalars(known.distinct().order_by(Figure.of)))


def _places(state: State) -> dict[datetime, int]:
    """The place of each step by its moment: in a zone's own time two hours in autumn would be the same."""
    return {at.astimezone(UTC): place for place, at in enumerate(state.times)}


def _within(state: State) -> tuple[ColumnElement[bool], ...]:
    return (Figure.grain == state.step, Figure.of == state.of, Figure.at >= state.begin, Figure.at < state.end)
