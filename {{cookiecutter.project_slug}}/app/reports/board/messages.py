"""Messages in and out."""

from operator import itemgetter

from flask_babel import format_decimal, gettext, lazy_gettext
from sqlalchemy import Connection

from app.reports.board import BOTH, Chart
from app.reports.charts import BLUE, GREY, ORANGE, bars, time_name
from app.reports.state import State
from app.reports.tables import Column, Table, counts, time_column


def query(connection: Connection, state: State) -> Table:
    """By author, in each step."""
    found = counts(connection, state, "in", "bot", "out")
    rows = list(zip(state.times, *found.values(), strict=True))
    people, bot, operators = (format_decimal(sum(numbers)) for numbers in found.values())
    summary = gettext("No messages in this period yet.")
    if any(map(sum, found.values())):
        summary = gettext(
            "In: %(people)s; out by the bot: %(bot)s, by operators: %(operators)s.", people=people, bot=bot, operators=operators
        )
    most, busiest = max(zip(found["in"], state.times, strict=True), key=itemgetter(0))
    if most:
        summary += " " + gettext(
            "Most came in on %(time)s: %(count)s.", time=time_name(busiest, state.step), count=format_decimal(most)
        )
    columns = (
        time_column(state),
        Column("people", gettext("People"), "count"),
        Column("bot", gettext("Bot"), "count"),
        Column("operators", gettext("Operators"), "count"),
    )
    return Table(columns, rows, summary, links=[state.conversations(at) for at in state.times])


CHART = Chart(
    "messages",
    lazy_gettext("Messages"),
    query,
    lambda table: bars(table, {"people": BLUE, "bot": GREY, "operators": ORANGE}, beside={"people": 0, "bot": 1, "operators": 1}),
    filters=BOTH,
    place=10,
)
