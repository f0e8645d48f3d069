"""How long a request takes until it is closed."""

from flask_babel import gettext, lazy_gettext

from app.reports.board import BOTH, Chart
from app.reports.board._waits import waits
from app.reports.charts import GREEN, ORANGE, lines

CHART = Chart(
    "resolution",
    lazy_gettext("Resolution time"),
    lambda connection, state: waits(
        connection,
        state,
        "resolution",
        target=state.resolution_target,
        counted=gettext("Closed"),
        nothing=gettext("No request was closed in this period yet."),
    ),
    lambda table: lines(table, {"median": GREEN, "p90": ORANGE}),
    note=lazy_gettext(
        "From the moment when operators got the word until they closed the conversation; it belongs to the time at which it was"
        " closed, and to the operator whose it was."
    ),
    filters=BOTH,
    place=40,
)
