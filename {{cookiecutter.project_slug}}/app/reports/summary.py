"""The whole report of a period as a document: the main figures, and each chart with what is said about it and its table."""

from collections.abc import Collection, Iterator

from babel.dates import format_interval
from flask_babel import format_datetime, get_locale, gettext
from sqlalchemy import Connection

from app.reports import board, charts, headline
from app.reports.documents import Document, Section
from app.reports.jobs import Days
from app.reports.state import State
from app.settings import Settings
from app.storage.models import now

IN_A_PICTURE = ("messages", "response", "backlog")  # what a chat is shown, on a phone


def document(connection: Connection, settings: Settings, state: State, names: Collection[str] = ()) -> Document:
    """The report, in the language that is set: all charts, or those of `names`."""
    made = format_datetime(now().astimezone(state.zone), "d MMMM y, HH:mm", rebase=False)
    days = interval(Days(state.first, state.last))
    return Document(
        title=settings.app_name,
        subtitle=gettext("%(interval)s, time zone %(zone)s", interval=days, zone=state.zone.key),
        made=gettext("Made on %(time)s", time=made),
        language=str(get_locale()),
        figures=[(tile.title, tile.value) for tile in headline.tiles(connection, state)],
        sections=list(_sections(connection, state, names)),
    )


def _sections(connection: Connection, state: State, names: Collection[str]) -> Iterator[Section]:
    for chart in board.charts(state):
        if names and chart.name not in names:
            continue
        table = board.table(chart, connection, state)
        rows = [[charts.shown(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]
        head = [column.title for column in table.columns]
        yield Section(str(chart.title), table.summary, chart.draw(table), head, rows)


def interval(days: Days) -> str:
    """The days as people write them."""
    return str(format_interval(*days, "yMMMMd", locale=get_locale()))
