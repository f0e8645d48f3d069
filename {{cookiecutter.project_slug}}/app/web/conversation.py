"""One conversation: its messages as they come in, and what an operator does with it."""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext, lazy_gettext
from sqlalchemy import Row, select, update
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.models import (
    Author,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Direction,
    Message,
    Operator,
    Person,
)
from app.web import attachments, inbox, live
from app.web.attachments import Attachment
from app.web.auth import me
from app.web.database import reader, writer
from app.web.form import field

blueprint = Blueprint("conversation", __name__)
ADDRESS = f"/conversations/<int(max={10**18 - 1}):conversation_id>"  # no row has a larger number
PAGE = 50
LIVE_LIMIT = 500  # messages that a page left open keeps showing
ANSWER_LIMIT = 20_000  # characters; the storage cuts it into messages that VK takes

# what VK's refusals mean to an operator; any other is shown as it was stored
REASONS = {
    7: lazy_gettext("the community may not write to this dialog"),
    900: lazy_gettext("the person is on the community's black list"),
    901: lazy_gettext("the person does not allow the community to write"),
    902: lazy_gettext("the person's privacy settings do not allow it"),
    914: lazy_gettext("the message is too long"),
}

HEAD = inbox.ROWS.add_columns(Conversation.topic, Person.reachable)
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
    .order_by(Message.id.desc())
)


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


@dataclass(frozen=True)
class Thread:
    """Messages in their order, and whether there are earlier ones."""

    lines: list[Line]
    earlier: bool

    @property
    def first(self) -> int:
        """The number of the first message; 0 when there is none."""
        return self.lines[0].id if self.lines else 0


@blueprint.get(ADDRESS)
def page(conversation_id: int) -> ResponseReturnValue:
    """The conversation beside the list; to htmx, after a change, the conversation alone."""
    head, until = _head(conversation_id), _message_id("until")
    thread = _thread(conversation_id, until=until)
    shown = _shown(head, thread) | {"until": until, "key": secrets.token_hex(16), "limit": ANSWER_LIMIT}
    if live.is_htmx():
        # the list beside it may have changed as well
        return render_template("_conversation.html", **shown), {"HX-Trigger": "inbox"}
    return render_template("conversation.html", inbox=inbox.listing(), **shown)


@blueprint.get(f"{ADDRESS}/thread")
def news(conversation_id: int) -> ResponseReturnValue:
    """The messages from `since` on and the head above them, or 304."""
    head = _head(conversation_id)
    shown = _shown(head, _thread(conversation_id, since=_message_id("since") or 0))
    return live.answer(shown["etag"], lambda: render_template("_news.html", **shown))


@blueprint.post(f"{ADDRESS}/answers")
def answer(conversation_id: int) -> ResponseReturnValue:
    """Send an answer. It opens the conversation, so that the bot is silent, and takes it if nobody has.

    The same text with the same form `key` is sent once, however often it is posted.
    """
    text = field("text")
    if not text:
        abort(400, gettext("The answer is empty."))
    if len(text) > ANSWER_LIMIT:
        abort(400, gettext("The answer is longer than %(limit)s characters.", limit=ANSWER_LIMIT))
    key = sha256(repr((me().id, conversation_id, field("key"), text)).encode()).hexdigest()
    with writer() as session:
        conversation = _lock(session, conversation_id)
        if session.scalar(select(Message.id).where(Message.key == key)) is None:
            operator = session.get_one(Operator, me().id)
            desk.hand_over(conversation)
            conversation.assignee = conversation.assignee or operator
            conversation.unread = 0
            desk.answer(session, conversation, text, operator=operator, key=key)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/take")
def take(conversation_id: int) -> ResponseReturnValue:
    """Assign it to the operator and open it, whether the bot had it, a colleague, or nobody any more."""
    with writer() as session:
        conversation = _lock(session, conversation_id)
        desk.hand_over(conversation)
        conversation.assignee_id = me().id
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/close")
def close(conversation_id: int) -> ResponseReturnValue:
    """Give the word back to the bot."""
    with writer() as session:
        conversation = _lock(session, conversation_id)
        if conversation.status != ConversationStatus.CLOSED:
            desk.close(conversation)
    return _back(conversation_id)


@blueprint.post(f"{ADDRESS}/messages/<int(max={10**18 - 1}):message_id>/again")
def send_again(conversation_id: int, message_id: int) -> ResponseReturnValue:
    """Send what VK refused once more; with `held` also what it may have already, for which the page asks first."""
    with writer() as session:
        _lock(session, conversation_id)
        message = session.get(Message, message_id)
        if message is None or message.conversation_id != conversation_id:
            abort(404)
        desk.send_again(session, message, also_held=field("held") == "yes")
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


def _back(conversation_id: int) -> ResponseReturnValue:
    return redirect(f"/conversations/{conversation_id}{inbox.here()}", 303)


def _message_id(name: str) -> int | None:
    value = request.args.get(name, "")
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def _head(conversation_id: int) -> Row[Any]:
    return reader().execute(HEAD.where(Conversation.id == conversation_id)).one_or_none() or abort(404)


def _shown(head: Row[Any], thread: Thread) -> dict[str, Any]:
    """What the templates of the head and the thread need."""
    # without `unread`: when this very page marks its messages as read, nothing on it changes
    etag = live.fingerprint(head.status, head.assignee_id, head.assignee, head.person, head.topic, thread.lines)
    return {"head": head, "thread": thread, "etag": etag, "here": inbox.here()}


def _thread(conversation_id: int, *, since: int | None = None, until: int | None = None) -> Thread:
    """The last messages: of all, or from the number `since` on, or before the number `until`."""
    query, limit = LINES.where(Message.conversation_id == conversation_id), PAGE
    if since is not None:
        query, limit = query.where(Message.id >= since), LIVE_LIMIT
    if until is not None:
        query = query.where(Message.id < until)
    rows = reader().execute(query.limit(limit + 1)).all()
    states = _states(row.id for row in rows if row.direction == Direction.OUT)
    lines = [
        Line(
            row.id,
            row.direction,
            row.author,
            row.operator,
            row.text,
            row.created_at,
            attachments.shown(row.attachments),
            *states.get(row.id, (None, None)),
        )
        for row in reversed(rows[:limit])
    ]
    return Thread(lines, earlier=len(rows) > limit)


def _states(message_ids: Iterable[int]) -> dict[int, tuple[str, str | None]]:
    """How far each answer has got, all its parts taken together, and why it failed."""
    parts: dict[int, list[Any]] = defaultdict(list)
    query = select(Delivery.message_id, Delivery.state, Delivery.error_code, Delivery.error)
    for row in reader().execute(query.where(Delivery.message_id.in_(list(message_ids)))):
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
