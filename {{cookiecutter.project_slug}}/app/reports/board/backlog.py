"""What is left open, and since when."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import TOPICS, Chart
from app.reports.charts import AGES, bars
from app.reports.state import State
from app.reports.tables import Column, Spread, Table, Value, age_titles, spreads, time_column
from app.storage.models import now


def query(connection: Connection, state: State) -> Table:
    """Open requests at the end of each step (or now, in the last one), by age."""
    found = spreads(connection, state, "open")
    titles = age_titles()
    rows: list[list[Value]] = [
        [at, *(spread.buckets[age] for age in range(len(titles)))] for at, spread in zip(state.times, found, strict=True)
    ]
    # what is to come has none
    last = [spread for at, spread in zip(state.times, found, strict=True) if at <= now()][-1:] or [Spread()]
    summary = gettext("Nothing was left open.")
    if last[0].count:
        summary = gettext(
            "At the end of the period %(count)s were open, %(old)s of them for more than a day.",
            count=format_decimal(last[0].count),
            old=format_decimal(sum(n for age, n in last[0].buckets.items() if age >= 3)),
        )
    columns = (time_column(state), *(Column(f"age{age}", title, "count") for age, title in enumerate(titles)))
    return Table(columns, rows, summary)


CHART = Chart(
    "backlog",
    lazy_gettext("Backlog"),
    query,
    lambda table: bars(table, {f"age{age}": colour for age, colour in enumerate(AGES)}),
    note=lazy_gettext("Requests that were still open at the end of the time, by how long they had been."),
    filters=TOPICS,
    place=60,
)
