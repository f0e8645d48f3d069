"""What the dashboard shows, one file each: a title, a query that makes a table, and how the table is drawn.

A file in this folder with a `CHART` in it is all that one's own report takes; it is on the page, with the filters it knows, and
in the pictures, the PDF and the schedule. Everything that shows charts goes by three functions:

    state = State.read(request.args, settings, now(), manager=…)     # or State.over(first, last, settings, …)
    for chart in board.charts(state):                   # those that this state and this reader have
        table = board.table(chart, connection, state)   # figures and summary, in the language of the request
        spec = chart.draw(table)                        # Vega-Lite, for the browser and `documents.chart`
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

from flask_babel import LazyString
from sqlalchemy import Connection

from app.reports import charts as drawing
from app.reports.charts import Spec
from app.reports.state import OPERATOR, TOPIC, State
from app.reports.tables import Table

BOTH, TOPICS = (TOPIC, OPERATOR), (TOPIC,)


@dataclass(frozen=True)
class Chart:
    """One of them. Charts stand on the page in the order of `place`, and of their names where it is the same."""

    name: str
    title: LazyString
    query: Callable[[Connection, State], Table]
    spec: Callable[[Table], Spec]
    # what the figures mean
    note: LazyString | str = ""
    # which filters it knows: with another one it is not shown, as its figures would be those of everything
    filters: tuple[str, ...] = ()
    # it shows what single operators do
    managers: bool = False
    place: int = 100

    def draw(self, table: Table) -> Spec:
        """The chart of `table` as Vega-Lite, its title as the description."""
        return drawing.finish(self.spec(table), str(self.title))


CHARTS: dict[str, Chart] = {
    chart.name: chart
    for chart in sorted(
        (import_module(f"{__name__}.{name}").CHART for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_")),
        key=lambda chart: (chart.place, chart.name),
    )
}


def charts(state: State) -> list[Chart]:
    """Those that know the filter of `state` and that its reader may see."""
    return [
        chart
        for chart in CHARTS.values()
        if (state.manager or not chart.managers) and (not state.of or state.of.startswith(chart.filters or ("-",)))
    ]


def table(chart: Chart, connection: Connection, state: State) -> Table:
    """The chart's figures, with those of the period before if `state` wants to compare."""
    found = chart.query(connection, state)
    return replace(found, before=chart.query(connection, state.before)) if state.compare else found
