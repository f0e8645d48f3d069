"""The few figures at the top of the page and of every document, and how they were in the period before."""

from collections.abc import Iterator
from dataclasses import dataclass

from flask_babel import format_decimal, format_percent, gettext
from sqlalchemy import Connection

from app.reports import board
from app.reports.charts import duration
from app.reports.state import State
from app.reports.tables import Spread, counts, spreads
from app.storage.models import now


@dataclass(frozen=True)
class Tile:
    """One figure: its `value` as people read it, and a few words about it."""

    name: str
    title: str
    value: str
    detail: str = ""


def tiles(connection: Connection, state: State) -> list[Tile]:
    """Those whose charts are shown in `state`, in the language of the request."""
    shown = {chart.name for chart in board.charts(state)}
    return [tile for name, make in MAKERS if name in shown for tile in make(connection, state)]


def _messages(connection: Connection, state: State) -> Iterator[Tile]:
    sums, before = (
        {metric: sum(numbers) for metric, numbers in counts(connection, period, "in", "bot", "out").items()}
        for period in (state, state.before)
    )
    out, out_before = (found["bot"] + found["out"] for found in (sums, before))
    yield Tile("in", gettext("Messages in"), _number(sums["in"]), _change(sums["in"], before["in"]))
    yield Tile("out", gettext("Messages out"), _number(out), _change(out, out_before))


def _response(connection: Connection, state: State) -> Iterator[Tile]:
    now_and_before = [Spread.sum(spreads(connection, period, "response")) for period in (state, state.before)]
    median, median_before = (spread.quantile(0.5) for spread in now_and_before)
    share, share_before = (spread.within(state.response_target) for spread in now_and_before)
    yield Tile("response", gettext("Median response time"), _time(median), _was(_time(median_before), median_before))
    title = gettext("Within %(target)s", target=duration(state.response_target))
    yield Tile("within", title, _share(share), _was(_share(share_before), share_before))


def _backlog(connection: Connection, state: State) -> Iterator[Tile]:
    at = now()
    past = [spread.count for begin, spread in zip(state.times, spreads(connection, state, "open"), strict=True) if begin <= at]
    before = [spread.count for spread in spreads(connection, state.before, "open")]
    title = gettext("Open conversations now") if state.end > at else gettext("Open at the end")
    yield Tile("open", title, _number(past[-1] if past else 0), _was(_number(before[-1]), before[-1]))


def _people(connection: Connection, state: State) -> Iterator[Tile]:
    new, before = (sum(counts(connection, period.by_days(), "new")["new"]) for period in (state, state.before))
    yield Tile("new", gettext("New people"), _number(new), _change(new, before))


MAKERS = (("messages", _messages), ("response", _response), ("backlog", _backlog), ("people", _people))


def _number(number: int) -> str:
    return str(format_decimal(number))


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _share(share: float | None) -> str:
    return "–" if share is None else str(format_percent(share))


def _change(number: int, before: int) -> str:
    """By how much it is more than in the period before, or how many there were then if that is hard to compare."""
    if not before:
        return ""
    if number > 10 * before:
        return _was(_number(before), before)
    percent = format_percent(abs(number - before) / before)
    sign = "+" if number > before else "−" if number < before else "±"
    return str(gettext("%(change)s to the period before", change=f"{sign}{percent}"))


def _was(text: str, before: float | None) -> str:
    return "" if before is None else str(gettext("%(value)s in the period before", value=text))
