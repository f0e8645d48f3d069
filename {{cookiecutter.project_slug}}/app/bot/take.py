"""What the bot does about a message: a decision made from what is known, without database and network.

`answer.py` finds out what is known, and does what is decided.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from app.bot.keyboard import Button, Keyboard
from app.bot.talk import Acknowledge, Action, Assign, Dialog, HandOver, Incoming, Report, Resume, Tell, plain
from app.bot.texts import Texts, fill
from app.storage.inbox import IncomingMessage
from app.storage.models import GROUP_CHATS, ConversationStatus

REPORTS = {"report": 1, "report today": 1, "report week": 7, "report month": 30}  # what operators ask for, and of how many days
EXCERPT = 500  # characters of a message that the operators' chat is shown


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when a message comes, or a callback button is pressed."""

    message: IncomingMessage
    group_id: int  # the community's number
    is_press: bool = False  # of a callback button: `message` has its payload and no text
    conversation_id: int = 0
    status: ConversationStatus = ConversationStatus.BOT
    step: str | None = None
    form: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""  # the person's first name, empty while it is unknown
    first: bool = False  # the conversation is new
    reachable: bool = True  # the person lets the community write to them; who writes does
    operators_peer_id: int | None = None  # the operators' chat, if there is one
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  # this moment, in the project's time zone

    @property
    def in_chat(self) -> bool:
        """Whether this is a group chat."""
        return self.message.peer_id > GROUP_CHATS

    @property
    def is_operators_chat(self) -> bool:
        """Whether this is the operators' chat. It has no conversation; only `message` and the settings are known then."""
        return self.message.peer_id == self.operators_peer_id


def take(situation: Situation, dialog: Dialog, texts: Texts) -> Sequence[Action]:
    """What to do, in this order. Without a `Resume` the conversation stays as it is: the word is not the bot's."""
    actions = _decide(situation, dialog, texts)
    if situation.is_press and not any(isinstance(action, Acknowledge) for action in actions):
        return [Acknowledge(), *actions]
    return actions


def after_closing(incoming: Incoming, dialog: Dialog) -> Sequence[Action]:
    """What to do when operators have closed a conversation. A hand-over would only open it again."""
    return [action for action in dialog.after_closing(incoming) if not isinstance(action, HandOver)]


def _decide(situation: Situation, dialog: Dialog, texts: Texts) -> Sequence[Action]:
    message = situation.message
    text = _addressed_text(situation)
    if text is None:
        return []
    if plain(text) == "operators" and text.startswith("/"):
        return [Tell(message.peer_id, fill(texts.operators.peer, peer_id=message.peer_id))]
    if situation.is_operators_chat:
        return [_for_operators(message, text, texts)]
    if situation.status == ConversationStatus.OPEN or not situation.reachable:
        return []  # the operators have the word, or nobody has
    incoming = Incoming(
        text=text,
        payload=message.payload,
        attachments=message.attachments,
        name=situation.name,
        first=situation.first,
        in_chat=situation.in_chat,
        step=situation.step,
        form=situation.form,
        at=situation.at,
        texts=texts,
    )
    actions = dialog(incoming)
    news = [
        _news(situation, texts, action.topic, action.note or text)
        for action in actions
        if isinstance(action, HandOver) and situation.operators_peer_id is not None
    ]
    return [Resume(), *actions, *news[:1]]


def _addressed_text(situation: Situation) -> str | None:
    """The text without the mention of the bot; None in a group chat when others talk among themselves."""
    message = situation.message
    # VK makes a mention of a name that is typed, and puts one before the label of a pressed button
    own = rf"\[(?:club|public){situation.group_id}\|[^\]]*\]|@(?:club|public){situation.group_id}\b"
    text, mentions = re.subn(rf"(?:{own})[\s,:]*", "", message.text)
    to_bot = mentions or message.payload or message.replied_to == -situation.group_id or text.lstrip().startswith("/")
    return text.strip() if to_bot or not situation.in_chat else None


def _for_operators(message: IncomingMessage, text: str, texts: Texts) -> Action:
    number = message.payload.get("conversation")
    if message.payload.get("command") == "take" and isinstance(number, int):
        return Assign(number, message.from_id, message.peer_id)
    if days := REPORTS.get(plain(text)):
        return Report(message.peer_id, days)
    return Tell(message.peer_id, texts.operators.help)


def _news(situation: Situation, texts: Texts, topic: str | None, note: str) -> Tell:
    """What the operators' chat is told of a hand-over."""
    words = texts.operators
    text = fill(
        words.new,
        id=situation.conversation_id,
        name=situation.name or words.nameless,
        topic=topic or words.no_topic,
        text=note[:EXCERPT],
    )
    button = Button(words.take, "take", {"conversation": situation.conversation_id}, "primary")
    return Tell(situation.operators_peer_id or 0, text, Keyboard([[button]], inline=True))
