"""The way into the inbox: whatever VK tells us becomes a row of `event`, and nothing that it tells can stop the others."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from app.storage.engine import insert_new
from app.storage.models import Event, EventState, now
from app.storage.wake import Channel, wake

# what the bot acts on; the rest is only kept
MESSAGE, PRESS, ALLOW, DENY = "message_new", "message_event", "message_allow", "message_deny"
CLOSED = "conversation_closed"  # our own: the operators have given the word back

_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def _read_payload(value: Any) -> dict[str, Any]:
    """A button's payload comes as JSON in a string, and anybody can send anything."""
    try:
        payload = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


class IncomingMessage(BaseModel):
    """What we need of VK's message object (`event.raw["object"]["message"]`)."""

    model_config = ConfigDict(populate_by_name=True)

    peer_id: _Number
    from_id: _Number
    conversation_message_id: Annotated[_Number, Field(gt=0)]
    date: datetime
    text: str = ""
    payload: Annotated[dict[str, Any], BeforeValidator(_read_payload)] = Field(default_factory=dict)
    attachments: list[dict[str, Any]] = Field(default_factory=list)
    # whose message this one answers: their id, a community's is negative
    replied_to: _Number | None = Field(None, validation_alias=AliasPath("reply_message", "from_id"))


class Press(BaseModel):
    """The object of `message_event`: somebody pressed a callback button, and waits for an answer."""

    peer_id: _Number
    user_id: _Number
    event_id: str
    conversation_message_id: Annotated[_Number, Field(gt=0)] = 1
    payload: Annotated[dict[str, Any], BeforeValidator(_read_payload)] = Field(default_factory=dict)


class Closing(BaseModel):
    """The object of `conversation_closed`."""

    peer_id: _Number


class Consent(BaseModel):
    """The object of `message_allow` and `message_deny`."""

    user_id: _Number


class _Update(BaseModel):
    type: str = Field(max_length=50)
    event_id: str | None = Field(None, max_length=100)
    object: dict[str, Any]


def add_events(session: Session, updates: Sequence[Any]) -> None:
    """Store `updates` as VK sent them. One that is known already is left out; one that cannot be read is set aside as failed."""
    if updates:
        insert_new(session, Event, [_row(_storable(update)) for update in updates])
        wake(session, Channel.EVENTS)


def run_again(session: Session, event: Event) -> None:
    """Put an event that was set aside back into the inbox, read anew: what was not in VK's form for an older version may be now.

    It is not checked against others again: a message that is there already fails once more.
    """
    row = _row(event.raw)
    event.type, event.peer_id = row["type"], row["peer_id"]
    event.state, event.error, event.done_at, event.attempts = row["state"], row["error"], row["done_at"], 0
    wake(session, Channel.EVENTS)


def _row(update: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("event_id", "peer_id", "cmid", "error", "done_at"))
    row |= {"type": "unreadable", "state": EventState.NEW, "raw": update if isinstance(update, dict) else {"update": update}}
    try:
        event = _Update.model_validate(update)
        row |= {"type": event.type, "event_id": event.event_id}
        if event.type == MESSAGE:
            message = IncomingMessage.model_validate(event.object.get("message"))
            row |= {"peer_id": message.peer_id, "cmid": message.conversation_message_id}
        elif event.type == PRESS:
            row["peer_id"] = Press.model_validate(event.object).peer_id
        elif event.type == CLOSED:
            row["peer_id"] = Closing.model_validate(event.object).peer_id
        elif event.type in (ALLOW, DENY):
            row["peer_id"] = Consent.model_validate(event.object).user_id
        else:
            row |= {"state": EventState.DONE, "done_at": now()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        row |= {"state": EventState.FAILED, "error": f"not in VK's form: {where} {first['msg']}", "done_at": now()}
    return row


def _storable(value: Any) -> Any:
    """`value` without what JSON may carry and PostgreSQL refuses: NUL, half characters, and numbers that are none."""
    match value:
        case str():
            return value.replace("\0", "").encode("utf-8", "replace").decode()
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(key): _storable(item) for key, item in value.items()}
    return value
