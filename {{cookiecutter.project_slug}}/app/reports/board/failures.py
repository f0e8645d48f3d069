"""Answers that did not arrive."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import Chart
from app.reports.charts import RED, bars
from app.reports.state import State
from app.reports.tables import Column, Spread, Table, spreads, time_column


def query(connection: Connection, state: State) -> Table:
    """Deliveries that VK refused for good, by when that was."""
    found = spreads(connection, state, "failed")
    codes = Spread.sum(found).buckets
    summary = gettext("Everything was delivered.")
    if codes:
        code, most = codes.most_common(1)[0]
        summary = gettext(
            "Not delivered: %(count)s. The most frequent error of VK is %(code)s: %(most)s times.",
            count=format_decimal(codes.total()),
            code=code or "–",
            most=format_decimal(most),
        )
    columns = (time_column(state), Column("failed", gettext("Not delivered"), "count"))
    return Table(columns, [(at, spread.count) for at, spread in zip(state.times, found, strict=True)], summary)


CHART = Chart("failures", lazy_gettext("Delivery failures"), query, lambda table: bars(table, {"failed": RED}), place=95)
