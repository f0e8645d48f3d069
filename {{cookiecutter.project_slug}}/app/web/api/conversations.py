"""Conversations and their messages."""

from collections.abc import Sequence
from datetime import timedelta
from secrets import token_hex
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.storage import desk, models
from app.storage.tokens import Scope
from app.web import conversation as pages
from app.web import deeds, inbox
from app.web.api import shapes
from app.web.api.operation import missing, operation, refuse
from app.web.api.shapes import Answer, Change, Conversation, Lines, Listing, Message, Note, Page
from app.web.auth import me
from app.web.inbox import EPOCH, PAGE

ONE = f"/conversations/<int(max={10**18 - 1}):conversation_id>"
MESSAGE = f"{ONE}/messages/<int(max={10**18 - 1}):message_id>"
WAITING = ("waiting", None)


@operation("get", "/conversations", Scope.READ, page="inbox.index")
def list_conversations(session: Session, query: Listing) -> Page[Conversation]:
    """Conversations, those with the newest messages first, 50 at a time."""
    asked = inbox.Asked(query.view, " ".join(query.q.split()), query.topic, query.before)
    # not by the session: these are columns, and it would look for entities among them
    rows: Sequence[Any] = session.connection().execute(inbox.page_of(asked), inbox.values_of(asked)).all()
    more = len(rows) > PAGE
    items = [Conversation(*row) for row in rows[:PAGE]]
    last = items[-1] if more else None
    place = f"{(last.last_message_at - EPOCH) // timedelta(microseconds=1)}-{last.id}" if last else None
    return Page(items, place)


@operation("get", ONE, Scope.READ, page="conversation.page")
def get_conversation(session: Session, conversation_id: int) -> Conversation:
    """One conversation."""
    row: Any = session.execute(inbox.ROWS.where(models.Conversation.id == conversation_id)).one_or_none()
    return Conversation(*row) if row else missing("conversation", conversation_id)


@operation("patch", ONE, Scope.ANSWER, page="conversation.assign")
def change_conversation(session: Session, conversation_id: int, body: Change) -> Conversation:
    """Assign it, say what it is about, close it. What is not named stays as it is."""
    conversation = _lock(session, conversation_id)
    if isinstance(body.topic, str) or body.topic is None:
        deeds.set_topic(session, conversation, " ".join((body.topic or "").split()), by=me().id)
    if isinstance(body.assignee_id, int) or body.assignee_id is None:
        try:
            deeds.assign(session, conversation, body.assignee_id, by=me().id)
        except LookupError as error:
            refuse(409, str(error))
    if body.status == "closed":
        deeds.close(session, conversation, by=me().id)
    session.flush()
    return get_conversation(session, conversation_id)


@operation("post", f"{ONE}/read", Scope.ANSWER, page="conversation.read")
def mark_read(session: Session, conversation_id: int, body: shapes.Seen) -> Conversation:
    """Say that its unread messages were read; nothing happens when there are more of them by now."""
    row = models.Conversation
    session.execute(update(row).where(row.id == conversation_id, row.unread == body.unread).values(unread=0))
    return get_conversation(session, conversation_id)


@operation("get", f"{ONE}/messages", Scope.READ, page="conversation.page")
def list_messages(session: Session, conversation_id: int, query: Lines) -> Page[Message]:
    """Its messages in their order, up to 50; `next` is the number `before` which, or `after` which, there are more."""
    get_conversation(session, conversation_id)
    newer = isinstance(query.after, int)
    since = query.after + 1 if isinstance(query.after, int) else 0
    shown = _messages(session, conversation_id, since, query.before, newer=newer)
    more, items = len(shown) > PAGE, shown[:PAGE]
    following = str(items[-1].id) if more else None
    return Page(items if newer else items[::-1], following)


@operation("post", f"{ONE}/messages", Scope.ANSWER, page="conversation.answer", status=201)
def send_message(session: Session, conversation_id: int, body: Answer) -> Message:
    """Answer. The conversation is opened, so that the bot is silent, and is yours if it was nobody's.

    The bot delivers it; `state` tells how far it has got.
    """
    conversation = _lock(session, conversation_id)
    numbers = deeds.answer(session, conversation, body.text.strip(), by=me().id, key=token_hex())
    return _message(session, conversation_id, numbers[0])


@operation("post", f"{MESSAGE}/again", Scope.ANSWER, page="conversation.send_again")
def send_again(session: Session, conversation_id: int, message_id: int, body: shapes.Again) -> Message:
    """Send what VK refused once more."""
    _lock(session, conversation_id)
    message = session.get(models.Message, message_id)
    if message is None or message.conversation_id != conversation_id:
        missing("message", message_id)
    deeds.send_again(session, message, by=me().id, also_held=body.held)
    session.flush()
    return _message(session, conversation_id, message_id)


@operation("get", f"{ONE}/notes", Scope.READ, page="conversation.page")
def list_notes(session: Session, conversation_id: int) -> Page[Note]:
    """The notes that operators wrote for each other."""
    get_conversation(session, conversation_id)
    rows = session.execute(pages.NOTES, _within(conversation_id, 0, pages.LAST)).all()
    return Page([Note(*row) for row in rows], None)


@operation("post", f"{ONE}/notes", Scope.ANSWER, page="conversation.note", status=201)
def add_note(session: Session, conversation_id: int, body: Answer) -> Note:
    """Write a note for colleagues. The person does not see it."""
    conversation = _lock(session, conversation_id)
    deeds.note(session, conversation, body.text.strip(), by=me().id, key=token_hex())
    session.flush()
    rows = session.execute(pages.NOTES, _within(conversation_id, 0, pages.LAST)).all()
    return Note(*rows[-1])


def _within(conversation_id: int, since: int, until: int) -> dict[str, int]:
    return {"conversation": conversation_id, "since": since, "until": until}


def _messages(session: Session, conversation_id: int, since: int, until: int, *, newer: bool = False) -> list[Message]:
    """One more than a page of them: the last first, or if `newer` the first."""
    lines = pages.LINES.order_by(None).order_by(models.Message.id) if newer else pages.LINES
    rows = session.execute(lines.limit(PAGE + 1), _within(conversation_id, since, until)).all()
    numbers = [row.id for row in rows] or [0]
    parts = session.execute(pages.PARTS, _within(conversation_id, min(numbers), max(numbers) + 1))
    states = pages.states_of(parts)
    return [Message(*row, *states.get(row.id, (None, None))) for row in rows]


def _message(session: Session, conversation_id: int, message_id: int) -> Message:
    return _messages(session, conversation_id, message_id, message_id + 1)[0]


def _lock(session: Session, conversation_id: int) -> models.Conversation:
    return desk.lock_conversation(session, conversation_id) or missing("conversation", conversation_id)
