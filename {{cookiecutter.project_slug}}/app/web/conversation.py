"""One conversation: its messages as they come in, and what an operator does with it."""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from sqlalchemy import ColumnElement, Row, between, bindparam, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.storage import desk
from app.storage.models import (
    Author,
    CannedAnswer,
    Conversation,
    Delivery,
    DeliveryState,
    Direction,
    Message,
    Note,
    Operator,
    Person,
)
from app.web import attachments, deeds, files, inbox, live
from app.web.attachments import Attachment
from app.web.auth import me
from app.web.database import reader, writer
from app.web.deeds import ANSWER_LIMIT, TOPIC_LIMIT
from app.web.form import field

blueprint = Blueprint("conversation", __name__)
ADDRESS = f"/conversations/<int(max={10**18 - 1}):conversation_id>"  # no row has a larger number
PAGE = 50
LAST = 2**62  # no message has a number as large
LIVE_LIMIT = 500  # messages that a page left open keeps showing
CANNED_LIMIT = 200  # texts that the composer offers

# what VK's refusals mean to an operator; any other is shown as it was stored
REASONS = {
    7: lazy_gettext("the community may not write to this dialog"),
    900: lazy_gettext("the person is on the community's black list"),
    901: lazy_gettext("the person does not allow the community to write"),
    902: lazy_gettext("the person's privacy settings do not allow it"),
    914: lazy_gettext("the message is too long"),
}

THIS = bindparam("conversation", type_=Conversation.id.type)


def _here(column: InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """That a message, or what stands below it, is among those that the page shows."""
    return between(column, bindparam("since"), bindparam("until") - 1)


HEAD = inbox.ROWS.add_columns(Conversation.person_id, Person.reachable).where(Conversation.id == THIS)
LINES = (
    select(
        Message.id,
        Message.direction,
        Message.author,
        Message.text,
        Message.attachments,
        Message.created_at,
        Operator.name.label("operator"),
    )
    .outerjoin(Operator, Operator.id == Message.operator_id)
    .where(Message.conversation_id == THIS, _here(Message.id))
    .order_by(Message.id.desc())
    .limit(LIVE_LIMIT)
)
NOTES = (
    select(Note.id, Note.after_id, Note.text, Note.created_at, Operator.name.label("operator"))
    .join(Operator, Operator.id == Note.operator_id)
    .where(Note.conversation_id == THIS, _here(Note.after_id))
    .order_by(Note.id)
)
PARTS = (
    select(Delivery.message_id, Delivery.state, Delivery.error_code, Delivery.error)
    .join(Message, Message.id == Delivery.message_id)
    .where(Message.conversation_id == THIS, _here(Message.id))
    .order_by(Delivery.id)
)
# without `unread`: when this very page marks its messages as read, nothing on it changes
UNCHANGED = ("unread", "last_message_at", "last_message_text")
SHOWN = select(
    live.digest(HEAD.with_only_columns(*(column for column in HEAD.selected_columns if column.key not in UNCHANGED))),
    live.digest(LINES),
    live.digest(NOTES),
    live.digest(PARTS),
)
COLLEAGUES = select(Operator.id, Operator.name).where(Operator.active).order_by(Operator.name, Operator.id)
CANNED = select(CannedAnswer.shortcut, CannedAnswer.text).order_by(CannedAnswer.shortcut).limit(CANNED_LIMIT)


@dataclass(frozen=True)
class Line:
    """A message as it is shown. `state` of an answer is "waiting", "sent", "failed" (`reason` says why) or "held"."""

    id: int
    direction: Direction
    author: Author
    operator: str | None
    text: str
    at: datetime
    attachments: list[Attachment]
    state: str | None
    reason: str | None
    notes: list[Row[*tuple[Any, ...]]]


@dataclass(frozen=True)
class Thread:
    """Messages in their order, each with the notes below it, and the notes `above` them all."""

    above: list[Row[*tuple[Any, ...]]]
    lines: list[Line]


@blueprint.get(ADDRESS)
def page(conversation_id: int, draft: str = "") -> ResponseReturnValue:
    """The conversation beside the list; to htmx, after a change, the conversation alone. `draft` is an answer begun."""
    until = _message_id("until")
    since, earlier = _beginning(conversation_id, until)
    shown = _shown(conversation_id, since, until) | {
        "earlier": earlier,
        "until": until,
        "draft": draft,
        "key": secrets.token_hex(16),
        "limit": ANSWER_LIMIT,
        "topic_limit": TOPIC_LIMIT,
        "accept": files.ACCEPT,
        "colleagues": reader().execute(COLLEAGUES).all(),
        "canned": reader().execute(CANNED).all(),
    }
    if live.is_htmx():
        # the list beside it may have changed as well
        return render_template("_conversation.html", **shown), {"HX-Trigger": "inbox"}
    return render_template("conversation.html", inbox=inbox.listing(), **shown)


@blueprint.get(f"{ADDRESS}/thread")
def news(conversation_id: int) -> ResponseReturnValue:
    """The messages from `since` on and the head above them, or 304."""
    since = _message_id("since") or 0
    etag = _print(conversation_id, since)
    return live.answer(etag, lambda: render_template("_news.html", **_shown(conversation_id, since)))


@blueprint.post(f"{ADDRESS}/draft")
def insert(conversation_id: int) -> ResponseReturnValue:
    """The page with a canned answer written below what was typed, for browsers without scripts."""
    canned = reader().scalar(select(CannedAnswer.text).where(CannedAnswer.shortcut == field("canned")))
    return page(conversation_id, "\n".join(filter(None, [field("text"), canned])))


@blueprint.post(f"{ADDRESS}/answers")
def answer(conversation_id: int) -> ResponseReturnValue:
    """Send an answer, and files with it. The same answer with the same form `key` is sent once, however often it is posted."""
    uploads = files.read(request.files.getlist("files"))
    text = _text(gettext("The answer is empty."), optional=bool(uploads))
    with writer() as session:
        deeds.answer(session, _lock(session, conversation_id), text, by=me().id, key=field("key"), files=uploads)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/notes")
def note(conversation_id: int) -> ResponseReturnValue:
    """Write a note for colleagues. It is never sent."""
    text = _text(gettext("The note is empty."), "note")
    with writer() as session:
        deeds.note(session, _lock(session, conversation_id), text, by=me().id, key=field("key"))
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/take")
def take(conversation_id: int) -> ResponseReturnValue:
    """Assign it to the operator who asks."""
    with writer() as session:
        deeds.assign(session, _lock(session, conversation_id), me().id, by=me().id)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/assign")
def assign(conversation_id: int) -> ResponseReturnValue:
    """Assign it to the colleague whose number is in `operator`, or to nobody when that is empty."""
    colleague = field("operator")
    if not re.fullmatch(r"[0-9]{0,18}", colleague):
        abort(400)
    with writer() as session:
        try:
            deeds.assign(session, _lock(session, conversation_id), int(colleague) if colleague else None, by=me().id)
        except LookupError:
            abort(400, gettext("This colleague does not work here any more."))
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/topic")
def topic(conversation_id: int) -> ResponseReturnValue:
    """Say what it is about."""
    words = " ".join(field("topic").split())[:TOPIC_LIMIT]
    with writer() as session:
        deeds.set_topic(session, _lock(session, conversation_id), words, by=me().id)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/close")
def close(conversation_id: int) -> ResponseReturnValue:
    """Give the word back to the bot."""
    with writer() as session:
        deeds.close(session, _lock(session, conversation_id), by=me().id)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/messages/<int(max={10**18 - 1}):message_id>/again")
def send_again(conversation_id: int, message_id: int) -> ResponseReturnValue:
    """Send what VK refused once more; with `held` also what it may have already, for which the page asks first."""
    with writer() as session:
        _lock(session, conversation_id)
        message = session.get(Message, message_id)
        if message is None or message.conversation_id != conversation_id:
            abort(404)
        deeds.send_again(session, message, by=me().id, also_held=field("held") == "yes")
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/read")
def read(conversation_id: int) -> ResponseReturnValue:
    """Mark as read the `seen` messages that the page showed as new: none that came after it was drawn."""
    seen = field("seen")
    if re.fullmatch(r"[0-9]{1,9}", seen):
        unread = update(Conversation).where(Conversation.id == conversation_id, Conversation.unread == int(seen))
        with writer() as session:
            session.execute(unread.values(unread=0))
    return ("", 204, {"HX-Trigger": "inbox"}) if live.is_htmx() else _back(conversation_id)


def _lock(session: Session, conversation_id: int) -> Conversation:
    return desk.lock_conversation(session, conversation_id) or abort(404)


def _text(empty: str, name: str = "text", *, optional: bool = False) -> str:
    """What was typed; 400 when it is too long, or empty and not `optional`."""
    text = field(name)
    if not text and not optional:
        abort(400, empty)
    if len(text) > ANSWER_LIMIT:
        abort(400, gettext("The text is longer than %(limit)s characters.", limit=ANSWER_LIMIT))
    return text


def _back(conversation_id: int) -> ResponseReturnValue:
    return redirect(f"/conversations/{conversation_id}{inbox.here()}", 303)


def _message_id(name: str) -> int | None:
    value = request.args.get(name, "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def _beginning(conversation_id: int, until: int | None) -> tuple[int, bool]:
    """The number of the message with which the last page (before `until`) begins, and whether there are earlier ones.

    A page that shows all begins with the number 0.
    """
    numbers = select(Message.id).where(Message.conversation_id == conversation_id).order_by(Message.id.desc()).limit(PAGE + 1)
    if until is not None:
        numbers = numbers.where(Message.id < until)
    found = reader().scalars(numbers).all()
    return (found[PAGE - 1], True) if len(found) > PAGE else (0, False)


def _shown(conversation_id: int, since: int, until: int | None = None) -> dict[str, Any]:
    """What the templates of the head and the thread need."""
    # before the rest: what changes in between is news the next time. A page of the past asks for none
    etag = "" if until else _print(conversation_id, since)
    values = {"conversation": conversation_id, "since": since, "until": until or LAST}
    head = reader().execute(HEAD, values).one_or_none() or abort(404)
    return {"head": head, "thread": _thread(values), "since": since, "etag": etag, "here": inbox.here()}


def _print(conversation_id: int, since: int) -> str:
    """A print of what the head and the thread show, by one query."""
    values = {"conversation": conversation_id, "since": since, "until": LAST}
    return live.fingerprint(*reader().connection().execute(SHOWN, values).one())  # as in the inbox


def _thread(values: dict[str, int]) -> Thread:
    states = states_of(reader().execute(PARTS, values))
    notes: dict[int, list[Row[*tuple[Any, ...]]]] = defaultdict(list)
    for note in reader().execute(NOTES, values):
        notes[note.after_id].append(note)
    lines = []
    for row in reversed(reader().execute(LINES, values).all()):
        state, reason = states.get(row.id, (None, None))
        shown = attachments.shown(row.attachments)
        lines.append(
            Line(row.id, row.direction, row.author, row.operator, row.text, row.created_at, shown, state, reason, notes[row.id])
        )
    return Thread(notes[0], lines)


def states_of(rows: Iterable[Row[*tuple[Any, ...]]]) -> dict[int, tuple[str, str | None]]:
    """How far each answer has got, all its parts taken together, and why it failed."""
    parts: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        parts[row.message_id].append(row)
    return {message_id: _state(rows) for message_id, rows in parts.items()}


def _state(parts: list[Any]) -> tuple[str, str | None]:
    for part in parts:
        if part.state == DeliveryState.FAILED:
            return "failed", str(REASONS.get(part.error_code, part.error or ""))
    for part in parts:
        if part.state == DeliveryState.HELD:
            return "held", gettext("nobody knows whether it has arrived")
    return ("sent" if all(part.state == DeliveryState.SENT for part in parts) else "waiting"), None
