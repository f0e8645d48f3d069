"""Requests that came to the operators, and those that they closed."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import TOPICS, Chart
from app.reports.charts import BLUE, GREEN, bars
from app.reports.state import State
from app.reports.tables import Column, Table, counts, time_column


def query(connection: Connection, state: State) -> Table:
    """In each step."""
    found = counts(connection, state, "opened", "resolution")
    opened, closed = found["opened"], found["resolution"]
    summary = gettext("Opened: %(opened)s, closed: %(closed)s.", **_written(opened=sum(opened), closed=sum(closed)))
    columns = (
        time_column(state),
        Column("opened", gettext("Opened"), "count"),
        Column("closed", gettext("Closed"), "count"),
    )
    return Table(columns, list(zip(state.times, opened, closed, strict=True)), summary)


def _written(**numbers: int) -> dict[str, str]:
    return {name: str(format_decimal(number)) for name, number in numbers.items()}


CHART = Chart(
    "requests",
    lazy_gettext("Requests"),
    query,
    lambda table: bars(table, {"opened": BLUE, "closed": GREEN}, beside={"opened": 0, "closed": 1}),
    note=lazy_gettext("A request is one time that a conversation is handed over to the operators."),
    filters=TOPICS,
    place=50,
)
