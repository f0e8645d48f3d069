"""When people write: weekdays and hours."""

from collections import Counter
from dataclasses import replace

from babel.dates import get_day_names
from flask_babel import format_decimal, get_locale, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import TOPICS, Chart
from app.reports.charts import heat
from app.reports.state import State, Step
from app.reports.tables import Column, Table, counts


def query(connection: Connection, state: State) -> Table:
    """Messages of people in each hour of each weekday, by the clocks of the project."""
    hourly = replace(state, step=Step.HOUR)
    squares: Counter[tuple[int, int]] = Counter()
    for at, n in zip(hourly.times, counts(connection, hourly, "in")["in"], strict=True):
        squares[at.weekday(), at.hour] += n
    days = get_day_names("abbreviated", context="stand-alone", locale=get_locale())
    summary = gettext("Nobody has written in this period yet.")
    if squares.total():
        (day, hour), most = squares.most_common(1)[0]
        summary = gettext(
            "Most was written on %(day)s after %(hour)s: %(count)s.",
            day=days[day],
            hour=f"{hour:02}:00",
            count=format_decimal(most),
        )
    columns = (
        Column("day", gettext("Weekday"), "text"),
        *(Column(f"h{hour:02}", f"{hour:02}", "count") for hour in range(24)),
    )
    return Table(columns, [(days[day], *(squares[day, hour] for hour in range(24))) for day in range(7)], summary)


CHART = Chart("heat", lazy_gettext("When people write"), query, heat, filters=TOPICS, place=20)
