"""What operators do with conversations, from a page or over the API: within the caller's transaction, and on the audit trail.

The caller holds the conversation (`desk.lock_conversation`); `by` is the number of the operator who does it.
"""

from collections.abc import Sequence
from hashlib import sha256

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.models import Conversation, ConversationStatus, File, Message, Note, Operator
from app.web.audit import audit
from app.web.files import Upload

ANSWER_LIMIT = 20_000  # characters; the storage cuts it into messages that VK takes
TOPIC_LIMIT = 100


def answer(
    session: Session, conversation: Conversation, text: str, *, by: int, key: str, files: Sequence[Upload] = ()
) -> Sequence[int]:
    """Send `text` and `files`: one message, and one more for each further file. Their numbers; none if it was done before.

    It opens the conversation, so that the bot is silent, and takes it if nobody has. The same answer with the same `key` (what
    a form or a program calls it) is sent once, however often it is asked for.
    """
    keys = _keys(by, conversation, key, text, *(file.digest for file in files))
    operator = session.get_one(Operator, by)
    if session.scalar(select(Message.id).where(Message.key == keys)) is not None:
        return []
    desk.hand_over(conversation)
    conversation.assignee = conversation.assignee or operator
    conversation.unread = 0
    uploads = [_keep(session, conversation, file) for file in files]
    ledger = desk.Ledger(session)
    ledger.answer(conversation, text, operator=operator, upload=next(iter(uploads), None), key=keys)
    for upload in uploads[1:]:
        ledger.answer(conversation, "", operator=operator, upload=upload)
    numbers = ledger.write()
    audit(session, "conversation.answer", _name(conversation), operator_id=by, message=numbers[0], files=len(files))
    return numbers


def note(session: Session, conversation: Conversation, text: str, *, by: int, key: str) -> None:
    """Write a note for colleagues, which nobody else sees. The same note with the same `key` is there once."""
    keys = _keys(by, conversation, key, text)
    if session.scalar(select(Note.id).where(Note.key == keys)) is None:
        last = select(func.coalesce(func.max(Message.id), 0)).where(Message.conversation_id == conversation.id)
        after = session.scalars(last).one()
        session.add(Note(conversation_id=conversation.id, after_id=after, operator_id=by, key=keys, text=text))
        audit(session, "conversation.note", _name(conversation), operator_id=by)


def assign(session: Session, conversation: Conversation, operator_id: int | None, *, by: int) -> None:
    """Give it to an operator and open it, whoever had it, bot or colleague; None: to nobody, it waits again.

    Raises `LookupError` when there is no such operator, or none who still works here.
    """
    if operator_id is not None:
        operator = session.get(Operator, operator_id)
        if operator is None or not operator.active:
            raise LookupError(f"no operator {operator_id} works here")
    if operator_id is not None or conversation.status == ConversationStatus.OPEN:
        desk.hand_over(conversation)
        conversation.assignee_id = operator_id
        audit(session, "conversation.assign", _name(conversation), operator_id=by, to=operator_id)


def set_topic(session: Session, conversation: Conversation, topic: str, *, by: int) -> None:
    """Say what it is about; an empty topic takes it away."""
    if (conversation.topic or "") != topic:
        conversation.topic = topic or None
        audit(session, "conversation.topic", _name(conversation), operator_id=by, topic=topic)


def close(session: Session, conversation: Conversation, *, by: int) -> None:
    """Give the word back to the bot."""
    if conversation.status != ConversationStatus.CLOSED:
        desk.close(conversation)
        audit(session, "conversation.close", _name(conversation), operator_id=by)


def send_again(session: Session, message: Message, *, by: int, also_held: bool) -> None:
    """Send what VK refused once more; `also_held`: also what it may have already."""
    desk.send_again(session, message, also_held=also_held)
    audit(session, "conversation.send_again", f"conversation {message.conversation_id}", operator_id=by, message=message.id)


def _name(conversation: Conversation) -> str:
    return f"conversation {conversation.id}"


def _keys(by: int, conversation: Conversation, *parts: str) -> str:
    return sha256(repr((by, conversation.id, *parts)).encode()).hexdigest()


def _keep(session: Session, conversation: Conversation, file: Upload) -> dict[str, object]:
    """Store the file for the thread; what stands in `Delivery.upload` for it."""
    row = File(conversation_id=conversation.id, name=file.name, type=file.type, content=file.content)
    session.add(row)
    session.flush()
    return {"kind": file.kind, "name": file.name, "data": file.base64, "file": row.id, "size": len(file.content)}
