"""New people, and those who come back."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import Chart
from app.reports.charts import BLUE, GREEN, bars
from app.reports.state import State
from app.reports.tables import Column, Table, counts, time_column


def query(connection: Connection, state: State) -> Table:
    """On each day, or in each week."""
    state = state.by_days()
    found = counts(connection, state, "new", "returning")
    new, returning = found["new"], found["returning"]
    summary = gettext(
        "New people: %(new)s. Others wrote on %(returning)s person-days.",
        new=format_decimal(sum(new)),
        returning=format_decimal(sum(returning)),
    )
    columns = (
        time_column(state),
        Column("new", gettext("New"), "count"),
        Column("returning", gettext("Returning"), "count"),
    )
    return Table(columns, list(zip(state.times, new, returning, strict=True)), summary)


CHART = Chart(
    "people",
    lazy_gettext("People"),
    query,
    lambda table: bars(table, {"new": GREEN, "returning": BLUE}),
    note=lazy_gettext("A person is new on the day of their first message. Who writes on several days is counted on each."),
    place=90,
)
