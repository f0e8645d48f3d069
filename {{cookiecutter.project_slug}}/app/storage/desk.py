"""What more than one service does to conversations. Each function works inside the caller's transaction."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, object_session

from app.storage.inbox import CLOSED, add_events
from app.storage.models import (
    Author,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Direction,
    Message,
    Operator,
    now,
)
from app.storage.wake import Channel, wake

TEXT_LIMIT = 4096  # characters that VK takes in one message; its schema says 9000, the platform has refused more than this

# nothing is written as NULL, and not left out: rows with the same columns go in one statement
ALIKE = {"render_nulls": True}


def split_text(text: str, limit: int = TEXT_LIMIT) -> list[str]:
    """`text` in parts of at most `limit` characters, cut between words where it can be. An empty text is one empty part."""
    parts = []
    while len(text) > limit:
        cut = max(text.rfind(" ", 0, limit + 1), text.rfind("\n", 0, limit + 1))
        if cut <= 0:
            cut = limit
        parts.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*parts, text] if text or not parts else parts


def lock_conversation(session: Session, conversation_id: int) -> Conversation | None:
    """The conversation, held against other writers until the transaction ends."""
    return session.scalar(select(Conversation).where(Conversation.id == conversation_id).with_for_update(of=Conversation))


class Ledger:
    """Takes down what is said in conversations; `write` puts all of it into the database with two statements."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: list[tuple[Conversation, dict[str, Any], list[dict[str, Any]]]] = []
        self._told: list[dict[str, Any]] = []

    def receive(
        self,
        conversation: Conversation,
        text: str,
        *,
        cmid: int | None = None,
        at: datetime | None = None,
        attachments: list[dict[str, Any]] | None = None,
    ) -> None:
        """A message that a person wrote."""
        message = {
            "direction": Direction.IN,
            "author": Author.PERSON,
            "operator_id": None,
            "key": None,
            "cmid": cmid,
            "text": text,
        }
        self._said.append((conversation, message | {"attachments": attachments or [], "created_at": at or now()}, []))
        conversation.unread += 1
        _touch(conversation, text)

    def answer(
        self,
        conversation: Conversation,
        text: str,
        *,
        operator: Operator | None = None,
        keyboard: dict[str, Any] | None = None,
        template: dict[str, Any] | None = None,
        attachment: str | None = None,
        upload: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> None:
        """An answer, of `operator` or else of the bot, for the outbox too, in parts if VK would not take it whole.

        `keyboard`, `template` and `attachment` ("photo{owner}_{id}_{key}") are VK's own structures, `upload` is what stands in
        `Delivery`; they go with the last part. `key` (up to 64 characters) is unique among messages: a second answer with it
        fails.
        """
        author, operator_id = (Author.OPERATOR, operator.id) if operator else (Author.BOT, None)
        message = {
            "direction": Direction.OUT,
            "author": author,
            "operator_id": operator_id,
            "key": key,
            "cmid": None,
            "text": text,
        }
        parts = [_part(conversation.peer_id, part) for part in split_text(text)]
        parts[-1] |= {"keyboard": keyboard, "template": template, "attachment": attachment, "upload": upload}
        sent = [_attachment(upload)] if upload else []
        self._said.append((conversation, message | {"attachments": sent, "created_at": now()}, parts))
        # operators look for what was asked, not for what the bot said about it
        _touch(conversation, (text or (upload or {}).get("name", "")) if operator else None)

    def tell(self, peer_id: int, text: str, keyboard: dict[str, Any] | None = None) -> None:
        """Something said in a dialog that is no conversation of the inbox."""
        parts = [_part(peer_id, part) for part in split_text(text)]
        parts[-1]["keyboard"] = keyboard
        self._told.extend(parts)

    def acknowledge(self, peer_id: int, press: dict[str, Any], text: str) -> None:
        """The answer to a press of a callback button; `press` is what stands in `Delivery`."""
        self._told.append(_part(peer_id, text) | {"press": press})

    def write(self) -> Sequence[int]:
        """The numbers of the messages, in their order."""
        numbers = self._write_messages() if self._said else []
        written = zip(numbers, self._said, strict=True)
        deliveries = [*self._told, *(part | {"message_id": number} for number, (_, _, parts) in written for part in parts)]
        if deliveries:
            self._session.execute(insert(Delivery), deliveries, execution_options=ALIKE)
            wake(self._session, Channel.OUTBOX)
        self._said, self._told = [], []
        return numbers

    def _write_messages(self) -> Sequence[int]:
        self._session.flush()  # a conversation may be so new that it has no number
        messages = [{"conversation_id": conversation.id, **message} for conversation, message, _ in self._said]
        if any(message["direction"] == Direction.IN for message in messages):
            wake(self._session, Channel.INBOX)
        numbered = insert(Message).returning(Message.id, sort_by_parameter_order=True)
        return self._session.scalars(numbered, messages, execution_options=ALIKE).all()


def receive(session: Session, conversation: Conversation, text: str, **more: Any) -> Message:
    """One message, as `Ledger.receive` has it."""
    ledger = Ledger(session)
    ledger.receive(conversation, text, **more)
    return session.get_one(Message, ledger.write()[0])


def answer(session: Session, conversation: Conversation, text: str, **more: Any) -> Message:
    """One answer, as `Ledger.answer` has it."""
    ledger = Ledger(session)
    ledger.answer(conversation, text, **more)
    return session.get_one(Message, ledger.write()[0])


def send(session: Session, peer_id: int, text: str, upload: Mapping[str, Any] | None = None) -> Delivery:
    """Put something into the outbox that belongs to no conversation of the inbox; `upload` is what stands in `Delivery`."""
    delivery = Delivery(**_part(peer_id, text) | {"upload": upload})
    session.add(delivery)
    session.flush()
    wake(session, Channel.OUTBOX)
    return delivery


def send_again(session: Session, message: Message, *, also_held: bool) -> None:
    """Put the parts of an answer that VK refused back into the outbox; `also_held`: and those that it may have already.

    What was surely not sent gets a new `random_id`. What may have been sent keeps its own: VK drops it if it still remembers.
    """
    for part in message.deliveries:
        if part.state == DeliveryState.FAILED:
            part.random_id = _random_id()
        elif part.state != DeliveryState.HELD or not also_held:
            continue
        part.state, part.attempts, part.first_tried_at, part.next_try_at = DeliveryState.PENDING, 0, None, now()
        part.error, part.error_code = None, None
    wake(session, Channel.OUTBOX)


def hand_over(conversation: Conversation, topic: str | None = None) -> None:
    """Give the word to the operators; until they close the conversation the bot is silent in it."""
    if conversation.status != ConversationStatus.OPEN:
        conversation.opened_at = now()
    conversation.status = ConversationStatus.OPEN
    conversation.topic = topic or conversation.topic
    conversation.step, conversation.form = None, {}


def close(conversation: Conversation) -> None:
    """Give the word back to the bot, which may say something about it: the next message of the person is its own."""
    conversation.status = ConversationStatus.CLOSED
    conversation.closed_at = now()
    conversation.assignee = None
    session = object_session(conversation)
    if session is not None:
        add_events(session, [{"type": CLOSED, "object": {"peer_id": conversation.peer_id}}])


def _attachment(upload: dict[str, Any]) -> dict[str, Any]:
    """An upload as the thread shows it, like one of VK's: at least what it is called; of an operator's there is a `File`."""
    known = {"title": upload["name"], "file": upload.get("file"), "size": upload.get("size")}
    return {"type": upload["kind"], upload["kind"]: {name: value for name, value in known.items() if value is not None}}


def _part(peer_id: int, text: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("message_id", "keyboard", "template", "attachment", "upload", "press"))
    return {**nothing, "peer_id": peer_id, "text": text, "random_id": _random_id()}


def _touch(conversation: Conversation, text: str | None) -> None:
    conversation.last_message_at = now()
    if text is not None:
        conversation.last_message_text = text[:200]


def _random_id() -> int:
    """VK takes 1 to 2**31 - 1 (zero switches the protection off)."""
    return secrets.randbelow(2**31 - 1) + 1
