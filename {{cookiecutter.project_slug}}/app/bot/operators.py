"""What the operators' chat asks for, and the database has to answer: whose a conversation is, and how things are today."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.bot.talk import Assign, Report, Tell
from app.bot.texts import Texts, fill
from app.storage import desk
from app.storage.models import Conversation, ConversationStatus, Direction, Message, Operator
from app.storage.pictures import order_picture
from app.storage.wake import Channel, wake


def perform(session: Session, action: Assign | Report, texts: Texts, at: datetime) -> Iterator[Tell]:
    """Do it inside the caller's transaction, and say in the operators' chat what has become of it. `at` is the local time.

    The reports answer with a picture; where there are none, the bot has the figures of its own.
    """
    if isinstance(action, Assign):
        yield Tell(action.peer_id, _assign(session, action, texts))
        return
    first = at.date() - timedelta(days=action.days - 1)
    if not order_picture(session, action.peer_id, first, at.date()):
        yield Tell(action.peer_id, _report(session, texts, at, action.days))


def _assign(session: Session, action: Assign, texts: Texts) -> str:
    """An operator is known by the VK id in their account. Of somebody else the chat learns that they take it, and no more."""
    words = texts.operators
    conversation = desk.lock_conversation(session, action.conversation_id)
    if conversation is None:
        return words.gone
    known = {"id": conversation.id, "name": conversation.title}
    if conversation.status != ConversationStatus.OPEN:
        return fill(words.closed, **known)
    if conversation.assignee_id is not None:
        return fill(words.already, **known, operator=_name(session, conversation.assignee_id))
    # the bot's role may read no more of an operator than this
    operator_id = session.scalar(select(Operator.id).where(Operator.vk_id == action.vk_id, Operator.active))
    if operator_id is None:
        return fill(words.stranger, **known, vk_id=action.vk_id)
    conversation.assignee_id = operator_id
    wake(session, Channel.INBOX)
    return fill(words.taken, **known, operator=_name(session, operator_id))


def _name(session: Session, operator_id: int) -> str:
    return session.scalar(select(Operator.name).where(Operator.id == operator_id)) or ""


def _report(session: Session, texts: Texts, at: datetime, days: int) -> str:
    words = texts.operators
    begin = at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    lately = select(Message.direction, func.count()).where(Message.created_at.between(begin, at)).group_by(Message.direction)
    counts = {row[0]: row[1] for row in session.execute(lately)}
    waiting = select(Conversation).where(Conversation.status == ConversationStatus.OPEN)
    oldest = session.scalar(waiting.order_by(Conversation.opened_at, Conversation.id).limit(1))
    return fill(
        words.report,
        date=(f"{begin:%d.%m.%Y} – " if days > 1 else "") + f"{at:%d.%m.%Y %H:%M}",
        received=counts.get(Direction.IN, 0),
        sent=counts.get(Direction.OUT, 0),
        open=session.scalar(select(func.count()).select_from(waiting.subquery())),
        oldest=_waits(oldest, texts, at),
    ).rstrip()


def _waits(conversation: Conversation | None, texts: Texts, at: datetime) -> str:
    if conversation is None or conversation.opened_at is None:
        return ""
    minutes = int((at - conversation.opened_at).total_seconds()) // 60
    return fill(texts.operators.oldest, name=conversation.title, hours=minutes // 60, minutes=minutes % 60)
