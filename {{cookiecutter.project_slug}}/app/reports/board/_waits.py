"""What response time and resolution time have in common."""

from flask_babel import format_decimal, format_percent, gettext
from sqlalchemy import Connection

from app.reports.charts import duration
from app.reports.state import State
from app.reports.tables import Column, Spread, Table, spreads, time_column


def waits(connection: Connection, state: State, metric: str, *, target: float, counted: str, nothing: str) -> Table:
    """How many there were in each step, the median, the 90th percentile, and the share that took up to `target` seconds."""
    found = spreads(connection, state, metric)
    total = Spread.sum(found)
    median, p90, share = total.quantile(0.5), total.quantile(0.9), total.within(target)
    summary = nothing
    if median is not None and p90 is not None:
        summary = gettext(
            "Half took %(median)s or less, nine in ten %(p90)s or less; within %(target)s: %(share)s of %(count)s.",
            count=format_decimal(total.count),
            median=duration(median),
            p90=duration(p90),
            share=format_percent(share),
            target=duration(target),
        )
    columns = (
        time_column(state),
        Column("count", counted, "count"),
        Column("median", gettext("Median"), "seconds"),
        Column("p90", gettext("90th percentile"), "seconds"),
        Column("within", gettext("Within %(target)s", target=duration(target)), "share"),
    )
    rows = [
        (at, spread.count, spread.quantile(0.5), spread.quantile(0.9), spread.within(target))
        for at, spread in zip(state.times, found, strict=True)
    ]
    return Table(columns, rows, summary, links=[state.conversations(at) for at in state.times])
