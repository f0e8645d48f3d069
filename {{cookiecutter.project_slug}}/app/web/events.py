"""Events that the bot could not deal with: what they were, why not, and what is to become of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from app.storage.inbox import run_again
from app.storage.models import Conversation, Event, EventState, Person, now
from app.web.audit import audit
from app.web.database import reader, writer
from app.web.status import SET_ASIDE

blueprint = Blueprint("events", __name__, url_prefix="/events")
ONE = f"/<int(max={10**18 - 1}):event_id>"
PAGE = 20
AT_ONCE = 200

ROWS = (
    select(
        Event.id,
        Event.type,
        Event.peer_id,
        Event.raw,
        Event.error,
        Event.received_at,
        Person.name.label("person"),
        Conversation.id.label("conversation_id"),
    )
    .outerjoin(Person, Person.vk_id == Event.peer_id)
    .outerjoin(Conversation, Conversation.peer_id == Event.peer_id)
    .where(SET_ASIDE)
    .order_by(Event.id.desc())
)


@dataclass(frozen=True)
class SetAside:
    """An event as it is shown. `text` is what the person wrote, where that can be found; `raw` is VK's own JSON."""

    id: int
    type: str
    person: str | None
    conversation_id: int | None
    reason: str
    text: str
    at: datetime
    raw: str


@blueprint.get("")
def page() -> ResponseReturnValue:
    """The newest first; `before` is the number of the event after which this page begins."""
    before = request.args.get("before", "")
    if not re.fullmatch(r"([0-9]{1,18})?", before):
        abort(404)
    query = ROWS.where(Event.id < int(before)) if before else ROWS
    rows = reader().execute(query.limit(PAGE + 1)).all()
    older = rows[PAGE - 1].id if len(rows) > PAGE else None
    return render_template("events.html", events=_shown(rows[:PAGE]), before=before, older=older)


@blueprint.post("/again")
def all_again() -> ResponseReturnValue:
    """Put all that are set aside now back into the bot's inbox, a few at a time: others want to write as well."""
    last, count = 0, 0
    newest = reader().scalar(select(func.max(Event.id)).where(SET_ASIDE)) or 0
    query = select(Event).where(SET_ASIDE, Event.id <= newest).order_by(Event.id).limit(AT_ONCE).with_for_update()
    while True:
        with writer() as session:
            rows = session.scalars(query.where(Event.id > last)).all()
            if not rows:
                break
            for row in rows:
                run_again(session, row)
            last, count = rows[-1].id, count + len(rows)
    with writer() as session:
        audit(session, "event.again", count=count)
    return redirect("/events", 303)


@blueprint.post(f"{ONE}/again")
def again(event_id: int) -> ResponseReturnValue:
    """Put it back into the bot's inbox. It comes back here if the bot fails again."""
    with writer() as session:
        again_one(session, set_aside(session, event_id) or abort(404))
    return _back()


@blueprint.post(f"{ONE}/dismiss")
def dismiss(event_id: int) -> ResponseReturnValue:
    """Call it done, its reason stays with it. Nobody answers what was in it, so not everybody may."""
    with writer() as session:
        dismiss_one(session, set_aside(session, event_id) or abort(404))
    return _back()


def set_aside(session: Session, event_id: int) -> Event | None:
    """The event, held against others; None when it is not, or no longer, set aside."""
    return session.scalar(select(Event).where(Event.id == event_id, SET_ASIDE).with_for_update())


def again_one(session: Session, event: Event) -> None:
    """Put it back into the bot's inbox."""
    run_again(session, event)
    audit(session, "event.again", f"event {event.id}")


def dismiss_one(session: Session, event: Event) -> None:
    """Call it done."""
    event.state, event.done_at = EventState.DONE, now()
    audit(session, "event.dismiss", f"event {event.id}")


def _back() -> ResponseReturnValue:
    before = request.args.get("before", "")
    return redirect(f"/events?before={int(before)}" if re.fullmatch(r"[0-9]{1,18}", before) else "/events", 303)


def _shown(rows: Sequence[Row[Any]]) -> list[SetAside]:
    return [
        SetAside(
            row.id,
            row.type,
            row.person or (f"id{row.peer_id}" if row.peer_id else None),
            row.conversation_id,
            row.error or "",
            _text(row.raw),
            row.received_at,
            json.dumps(row.raw, ensure_ascii=False, indent=2),
        )
        for row in rows
    ]


def _text(raw: Any) -> str:
    """What the person wrote. The event may be set aside for the very reason that it has another form."""
    for name in ("object", "message", "text"):
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw if isinstance(raw, str) else ""
