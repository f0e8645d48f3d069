"""What people ask about."""

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import Chart
from app.reports.charts import BLUE, ranking
from app.reports.state import TOPIC, State
from app.reports.tables import Column, Table, by_part, topics


def query(connection: Connection, state: State) -> Table:
    """Requests by topic, the most frequent first, with how fast they are answered and closed."""
    parts = topics(connection)
    opened, answered, closed = (by_part(connection, state, metric, parts) for metric in ("opened", "response", "resolution"))
    total = sum(spread.count for spread in opened.values())
    ranked = sorted((part for part in parts if opened[part].count), key=lambda part: -opened[part].count)
    rows = [
        (
            part.removeprefix(TOPIC),
            opened[part].count,
            opened[part].count / total,
            answered[part].quantile(0.5),
            closed[part].quantile(0.5),
        )
        for part in ranked
    ]
    summary = gettext("No request with a topic in this period yet.")
    if rows:
        summary = gettext(
            "Most requests were about “%(topic)s”: %(count)s of %(total)s.",
            topic=rows[0][0],
            count=format_decimal(rows[0][1]),
            total=format_decimal(total),
        )
    columns = (
        Column("topic", gettext("Topic"), "text"),
        Column("opened", gettext("Requests"), "count"),
        Column("share", gettext("Share"), "share"),
        Column("response", gettext("Median response time"), "seconds"),
        Column("resolution", gettext("Median resolution time"), "seconds"),
    )
    return Table(columns, rows, summary, links=[f"/reports/?{state.query(of=part)}" for part in ranked])


CHART = Chart("topics", lazy_gettext("Topics"), query, lambda table: ranking(table, "opened", BLUE), place=70)
