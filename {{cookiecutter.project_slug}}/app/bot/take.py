"""What the bot does about a message: a decision made from what is known, without database and network.

`answer.py` finds out what is known, and does what is decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.bot.talk import Action, Dialog, Incoming, Resume
from app.bot.texts import Texts
from app.storage.inbox import IncomingMessage
from app.storage.models import GROUP_CHATS, ConversationStatus


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when a message comes."""

    message: IncomingMessage
    group_id: int  # the community's number
    status: ConversationStatus = ConversationStatus.BOT
    step: str | None = None
    form: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""  # the person's first name, empty while it is unknown
    first: bool = False  # the conversation is new
    is_operators_chat: bool = False


def take(situation: Situation, dialog: Dialog, texts: Texts) -> Sequence[Action]:
    """What to do, in this order. Nothing at all when the word is not the bot's; then the conversation stays as it is."""
    if situation.status == ConversationStatus.OPEN:
        return []  # the operators have the word
    if situation.message.peer_id > GROUP_CHATS:
        return []  # the bot is silent where it is not addressed
    message = situation.message
    incoming = Incoming(
        text=message.text,
        payload=message.payload,
        attachments=message.attachments,
        name=situation.name,
        first=situation.first,
        step=situation.step,
        form=situation.form,
        texts=texts,
    )
    return [Resume(), *dialog(incoming)]
