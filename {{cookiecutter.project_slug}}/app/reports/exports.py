"""Messages and conversations of a period as CSV or XLSX, row by row: a million of them takes no more memory than ten.

What people write is data and never a formula: a spreadsheet would run one that begins with `=`.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import xlsxwriter
from flask_babel import get_locale, gettext, pgettext
from sqlalchemy import ColumnElement, Connection, Select, and_, func, select
from sqlalchemy.orm import aliased

from app.reports.state import State
from app.storage.models import Author, Conversation, ConversationStatus, Message, Operator, Person

SHEET_ROWS = 1_048_576  # of a sheet in XLSX, its head among them
CELL = 32_767  # characters that it takes in one cell
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how what a spreadsheet would run begins
PIECE = 2_000  # rows at a time
Cell = str | int | datetime | None
Progress = Callable[[int, int], None]


class TooLarge(Exception):
    """The file would be larger than files may be."""


@dataclass(frozen=True)
class Sheet:
    """What is exported: the titles of its columns, the query for its rows, and how many there are."""

    head: Sequence[str]
    query: Select[Any]
    row: Callable[[Any], Sequence[Cell]]
    total: int

    def rows(self, connection: Connection) -> Iterator[Sequence[Cell]]:
        """Each row; the database is asked for a piece at a time."""
        found = connection.execution_options(yield_per=PIECE).execute(self.query)
        return (self.row(row) for row in found)


def messages(connection: Connection, state: State) -> Sheet:
    """Every message of the period in the order of time. Operators' names are for managers."""
    within = _written(state)
    columns = (
        Message.created_at,
        Message.conversation_id,
        Conversation.peer_id,
        Person.name.label("person"),
        Message.author,
        Operator.name.label("operator"),
        Conversation.topic,
        Message.text,
        Message.attachments,
    )
    query = (
        select(*columns)
        .join(Conversation, Conversation.id == Message.conversation_id)
        .outerjoin(Person, Person.id == Conversation.person_id)
        .outerjoin(Operator, Operator.id == Message.operator_id)
        .where(within)
        .order_by(Message.created_at, Message.id)
    )
    authors = {
        Author.PERSON: gettext("Person"),
        Author.BOT: gettext("Bot"),
        Author.OPERATOR: gettext("Operator"),
    }
    head = [gettext("Time"), gettext("Conversation"), gettext("VK number"), gettext("Who"), gettext("Author")]
    head += [gettext("Operator")] * state.manager
    head += [gettext("Topic"), gettext("Text"), gettext("Attachments")]

    def cells(row: Any) -> Sequence[Cell]:
        who = [row.operator] * state.manager
        return [
            local(row.created_at, state.zone),
            row.conversation_id,
            row.peer_id,
            row.person,
            authors[row.author],
            *who,
            row.topic,
            row.text,
            len(row.attachments) or None,
        ]

    total = connection.scalar(select(func.count()).select_from(Message).where(within)) or 0
    return Sheet(head, query, cells, total)


def conversations(connection: Connection, state: State) -> Sheet:
    """Every conversation in which something was written in the period. Operators' names are for managers."""
    written = (
        select(Message.conversation_id, func.count().label("count"), func.max(Message.created_at).label("last"))
        .where(_written(state))
        .group_by(Message.conversation_id)
        .subquery()
    )
    assignee = aliased(Operator)
    columns = (
        Conversation.id,
        Conversation.peer_id,
        Person.name.label("person"),
        Conversation.topic,
        Conversation.status,
        assignee.name.label("operator"),
        written.c.count,
        Conversation.created_at,
        written.c.last,
        Conversation.opened_at,
        Conversation.closed_at,
    )
    query = (
        select(*columns)
        .join(written, written.c.conversation_id == Conversation.id)
        .outerjoin(Person, Person.id == Conversation.person_id)
        .outerjoin(assignee, assignee.id == Conversation.assignee_id)
        .order_by(Conversation.id)
    )
    states = {
        ConversationStatus.BOT: gettext("Bot"),
        ConversationStatus.OPEN: pgettext("a conversation", "Open"),
        ConversationStatus.CLOSED: pgettext("a conversation", "Closed"),
    }
    head = [gettext("Conversation"), gettext("VK number"), gettext("Who"), gettext("Topic"), gettext("State")]
    head += [gettext("Operator")] * state.manager
    head += [gettext("Messages in the period"), gettext("Begun"), gettext("Last message in the period")]
    head += [gettext("Handed over"), pgettext("a conversation", "Closed")]

    def cells(row: Any) -> Sequence[Cell]:
        times = [local(at, state.zone) for at in (row.created_at, row.last, row.opened_at, row.closed_at)]
        who = [row.operator] * state.manager
        return [row.id, row.peer_id, row.person, row.topic, states[row.status], *who, row.count, *times]

    total = connection.scalar(select(func.count()).select_from(written)) or 0
    return Sheet(head, query, cells, total)


def _written(state: State) -> ColumnElement[bool]:
    return and_(Message.created_at >= state.begin, Message.created_at < state.end)


SHEETS = {"messages": messages, "conversations": conversations}


def write_csv(file: Path, sheet: Sheet, connection: Connection, progress: Progress, limit: int) -> int:
    """Write `sheet` into `file` (UTF-8 with a mark by which Excel knows it) and return the number of its rows.

    Between cells stands what a spreadsheet expects in this language: with something else a row would be one cell, or a text with
    the expected sign in it two, of which the second might be a formula.

    Raises `TooLarge` when that takes more than `limit` bytes.
    """
    with file.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.writer(out, delimiter=";" if get_locale().language == "ru" else ",")
        writer.writerow(sheet.head)
        rows, written = sheet.rows(connection), 0
        while piece := list(islice(rows, PIECE)):
            writer.writerows([_harmless(cell) for cell in row] for row in piece)
            written += len(piece)
            progress(written, sheet.total)
            if out.tell() > limit:
                raise TooLarge
    return written


def write_xlsx(file: Path, sheet: Sheet, connection: Connection, progress: Progress, limit: int) -> int:
    """As `write_csv`; what does not fit into one sheet is left out."""
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "tmpdir": str(file.parent)}
    with xlsxwriter.Workbook(str(file), options) as book:
        page = book.add_worksheet()
        bold = book.add_format({"bold": True})
        time = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        page.freeze_panes(1, 0)
        page.set_column(0, len(sheet.head) - 1, 20)
        page.write_row(0, 0, sheet.head, bold)
        written = 0
        for row in islice(sheet.rows(connection), SHEET_ROWS - 1):
            written += 1
            for column, cell in enumerate(row):
                if isinstance(cell, datetime):
                    page.write_datetime(written, column, cell, time)
                elif isinstance(cell, str):
                    page.write_string(written, column, cell[:CELL])
                else:
                    page.write(written, column, cell)
            if written % PIECE == 0:
                progress(written, sheet.total)
    if file.stat().st_size > limit:
        raise TooLarge
    return written


WRITERS = {"csv": write_csv, "xlsx": write_xlsx}


def local(at: datetime | None, zone: ZoneInfo) -> datetime | None:
    """The time as people read it there; spreadsheets know no zones."""
    return at and at.astimezone(zone).replace(tzinfo=None, microsecond=0)


def _harmless(cell: Cell) -> Cell:
    """A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
