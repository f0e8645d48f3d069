"""What each operator does. For managers."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection, select

from app.reports.board import Chart
from app.reports.charts import ORANGE, ranking
from app.reports.state import OPERATOR, State
from app.reports.tables import Column, Table, by_part
from app.storage.models import Operator


def query(connection: Connection, state: State) -> Table:
    """Answers, and how long people waited for them, for each operator who has answered or closed anything."""
    names = {f"{OPERATOR}{row.id}": row.name for row in connection.execute(select(Operator.id, Operator.name))}
    wrote, answered, closed = (by_part(connection, state, metric, list(names)) for metric in ("out", "response", "resolution"))
    busy = sorted(
        (part for part in names if wrote[part].count or closed[part].count), key=lambda part: (-wrote[part].count, names[part])
    )
    rows = [
        (
            names[part],
            wrote[part].count,
            answered[part].quantile(0.5),
            answered[part].quantile(0.9),
            closed[part].count,
            closed[part].quantile(0.5),
        )
        for part in busy
    ]
    summary = gettext("No operator has answered in this period yet.")
    if rows:
        summary = gettext("Most was answered by %(name)s: %(count)s.", name=rows[0][0], count=format_decimal(rows[0][1]))
    columns = (
        Column("operator", gettext("Operator"), "text"),
        Column("answers", gettext("Answers"), "count"),
        Column("response", gettext("Median response time"), "seconds"),
        Column("p90", gettext("90th percentile"), "seconds"),
        Column("closed", gettext("Closed"), "count"),
        Column("resolution", gettext("Median resolution time"), "seconds"),
    )
    return Table(columns, rows, summary, links=[f"/reports/?{state.query(of=part)}" for part in busy])


CHART = Chart(
    "operators",
    lazy_gettext("Operators"),
    query,
    lambda table: ranking(table, "answers", ORANGE),
    managers=True,
    place=80,
)
