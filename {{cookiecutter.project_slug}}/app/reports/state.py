"""What somebody wants to see: which days, how finely, and of what. An address holds all of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask_babel import gettext

from app.settings import Settings

PRESETS = (1, 7, 30, 90, 365)  # days
DEFAULT = 30
LONGEST = 3660  # days
MOST_HOURS = 31  # days that are shown hour by hour
A_DAY = timedelta(days=1)
TOPIC, OPERATOR = "topic:", "operator:"


class Step(StrEnum):
    """How much one bar of a chart stands for."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


class StateError(ValueError):
    """The address asks for what cannot be shown; the message is a sentence in the language of the request."""


@dataclass(frozen=True)
class State:
    """Whole days of `zone`, both ends included; with the step of a week, whole weeks from Monday.

    `of` is empty for everything, "topic:NAME" or "operator:ID". `compare`: show the period before, too. `manager`: whoever
    looks may see the figures of single operators. `days` is the preset that it came from, if any.
    """

    first: date
    last: date
    zone: ZoneInfo
    step: Step = Step.DAY
    of: str = ""
    compare: bool = False
    manager: bool = False
    days: int | None = None
    # seconds that an answer and a request should take at most
    response_target: float = 900
    resolution_target: float = 86400

    @classmethod
    def over(cls, first: date, last: date, settings: Settings, *, step: Step | None = None, manager: bool = False) -> "State":
        """The days from `first` to `last`, with the step that suits their number unless one is given. Raises `StateError`."""
        return cls(
            first,
            last,
            settings.zone,
            manager=manager,
            response_target=settings.response_target_minutes * 60,
            resolution_target=settings.resolution_target_hours * 3600,
        )._by(step)

    @classmethod
    def until(
        cls, moment: datetime, days: int, settings: Settings, *, step: Step | None = None, manager: bool = False
    ) -> "State":
        """The last `days` days up to and with the one in which `moment` falls."""
        last = moment.astimezone(settings.zone).date()
        return replace(cls.over(last - (days - 1) * A_DAY, last, settings, step=step, manager=manager), days=days)

    @classmethod
    def read(cls, asked: Mapping[str, str], settings: Settings, moment: datetime, *, manager: bool = False) -> "State":
        """What the address asks for: `days` or `from` and `to`, `step`, `of`, `compare`. Raises `StateError`."""
        step = asked.get("step") or None
        if step is not None and step not in list(Step):
            raise StateError(gettext("The step is hour, day or week."))
        given = Step(step) if step else None
        if asked.get("from") or asked.get("to"):
            first, last = _range(asked, moment.astimezone(settings.zone).date())
            state = cls.over(first, last, settings, step=given, manager=manager)
        else:
            state = cls.until(moment, _preset(asked.get("days")), settings, step=given, manager=manager)
        of = asked.get("of", "")
        if of and not of.startswith(TOPIC) and not re.fullmatch(OPERATOR + "[0-9]{1,18}", of):
            raise StateError(gettext("There are figures of topics and of operators."))
        if of.startswith(OPERATOR) and not manager:
            raise StateError(gettext("Only managers see the figures of single operators."))
        return replace(state, of=of, compare=asked.get("compare") == "1")

    def _by(self, step: Step | None) -> "State":
        length = (self.last - self.first).days + 1
        if step is None:
            step = Step.HOUR if length <= 2 else Step.DAY if length <= 92 else Step.WEEK
        if step == Step.HOUR and length > MOST_HOURS:
            raise StateError(gettext("Hours can be shown for up to %(days)s days.", days=MOST_HOURS))
        first, last = self.first, self.last
        if step == Step.WEEK:
            first, last = first - first.weekday() * A_DAY, last + (6 - last.weekday()) * A_DAY
        return replace(self, step=step, first=first, last=last)

    def by_days(self) -> "State":
        """The same by days, if it is by hours: of some things there is no hour."""
        return replace(self, step=Step.DAY) if self.step == Step.HOUR else self

    @cached_property
    def begin(self) -> datetime:
        """The moment at which the first day begins."""
        return self.midnight(self.first)

    @cached_property
    def end(self) -> datetime:
        """The moment at which the last day is over."""
        return self.midnight(self.last + A_DAY)

    @cached_property
    def times(self) -> list[datetime]:
        """When each step begins, in order and in `zone`."""
        if self.step == Step.HOUR:
            count = int((self.end.timestamp() - self.begin.timestamp()) // 3600)
            return [datetime.fromtimestamp(self.begin.timestamp() + 3600 * number, self.zone) for number in range(count)]
        size = 7 if self.step == Step.WEEK else 1
        return [self.midnight(self.first + number * A_DAY) for number in range(0, (self.last - self.first).days + 1, size)]

    def after(self, begin: datetime) -> datetime:
        """When the step that begins at `begin` is over."""
        if self.step == Step.HOUR:
            return datetime.fromtimestamp(begin.timestamp() + 3600, self.zone)
        return self.midnight(begin.date() + (7 if self.step == Step.WEEK else 1) * A_DAY)

    def midnight(self, day: date) -> datetime:
        """The moment at which `day` begins."""
        return datetime.combine(day, time.min, self.zone)

    @property
    def before(self) -> "State":
        """The period of the same length just before."""
        length = self.last - self.first + A_DAY
        return replace(self, first=self.first - length, last=self.last - length, compare=False, days=None)

    def query(self, **changes: str) -> str:
        """The query of an address that leads here, with `changes`: an empty one takes a part away."""
        parts = {"days": str(self.days or ""), "from": "", "to": ""}
        if not self.days:
            parts = {"days": "", "from": self.first.isoformat(), "to": self.last.isoformat()}
        if "days" in changes:
            parts = dict.fromkeys(parts, "")
        parts |= {"step": str(self.step), "of": self.of, "compare": "1" if self.compare else "", **changes}
        return urlencode({name: value for name, value in parts.items() if value})

    def conversations(self, begin: datetime, **more: str) -> str:
        """The address of the list of conversations in which something happened in the step that begins at `begin`."""
        span = {"begin": begin.isoformat(), "end": self.after(begin).isoformat()}
        return "/reports/conversations?" + urlencode({**span, **({"of": self.of} if self.of else {}), **more})


def _preset(days: str | None) -> int:
    if days is None:
        return DEFAULT
    if days not in map(str, PRESETS):
        presets = ", ".join(map(str, PRESETS))
        raise StateError(gettext("There is no report for this number of days; choose one of %(presets)s.", presets=presets))
    return int(days)


def _range(asked: Mapping[str, str], today: date) -> tuple[date, date]:
    try:
        last = date.fromisoformat(asked["to"]) if asked.get("to") else today
        first = date.fromisoformat(asked["from"]) if asked.get("from") else last
    except ValueError:
        raise StateError(gettext("Write days as 2026-11-24.")) from None
    if not date(2000, 1, 1) <= first <= last <= date(2999, 12, 31) or (last - first).days >= LONGEST:
        raise StateError(gettext("The first day comes before the last, and they are not more than ten years apart."))
    return first, last
