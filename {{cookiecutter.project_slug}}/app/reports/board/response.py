"""How long people wait for an operator."""

from flask_babel import gettext, lazy_gettext

from app.reports.board import BOTH, Chart
from app.reports.board._waits import waits
from app.reports.charts import BLUE, ORANGE, lines

CHART = Chart(
    "response",
    lazy_gettext("Response time"),
    lambda connection, state: waits(
        connection,
        state,
        "response",
        target=state.response_target,
        counted=gettext("Answers"),
        nothing=gettext("No operator has answered in this period yet."),
    ),
    lambda table: lines(table, {"median": BLUE, "p90": ORANGE}),
    note=lazy_gettext(
        "How long a person waited for an operator: from the message with which the bot handed the conversation over, or, when an"
        " operator already had it, from the first message after that operator's last answer. The bot's own answers do not count."
        " A wait belongs to the time at which it was answered."
    ),
    filters=BOTH,
    place=30,
)
