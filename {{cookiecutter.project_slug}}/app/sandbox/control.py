"""The control API: what the chat page and tests do as people, and how they change the sandbox. JSON in, JSON out.

Errors are 4xx with `{"error": "what is wrong"}`.
"""

import secrets
from typing import Annotated, Any, Literal, TypeVar

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, Json, StringConstraints, ValidationError
from sqlalchemy import and_, select
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest, HTTPException

from app.sandbox import store
from app.sandbox.methods import TEXT_LIMIT
from app.sandbox.state import sandbox
from app.sandbox.store import Message, Person, Press, compact

control = Blueprint("control", __name__, url_prefix="/control")

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _NewPerson(_Body):
    first_name: Name
    last_name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)] = ""


class _NewMessage(_Body):
    from_id: int
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TEXT_LIMIT)]
    payload: dict[str, Any] | list[Any] | str | None = None


class _NewPress(_Body):
    from_id: int
    conversation_message_id: int
    payload: Json[Any] | dict[str, Any] | list[Any] = Field(default_factory=dict)


class _Failure(_Body):
    failed: Literal[1, 2, 3]
    times: int = Field(1, ge=1, le=1000)


Shape = TypeVar("Shape", bound=_Body)


@control.errorhandler(HTTPException)
def _explain(error: HTTPException) -> tuple[Response, int]:
    return jsonify(error=error.description), error.code or 500


@control.errorhandler(ValidationError)
def _explain_field(error: ValidationError) -> tuple[Response, int]:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return jsonify(error=f"{field}: {first['msg']}" if field else first["msg"]), 400


def _json() -> Any:
    try:
        return request.get_json()
    except BadRequest:
        abort(400, "the body is not JSON")


def _read(shape: type[Shape]) -> Shape:
    return shape.model_validate(_json())


def _person(session: Session, person_id: int) -> Person:
    return session.get(Person, person_id) or abort(404, f"there is no person {person_id}")


def _shown(person: Person, last: Message | None = None) -> dict[str, Any]:
    return {
        "id": person.id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "last_message": {"conversation_message_id": last.cmid, "text": last.text, "date": last.date} if last else None,
    }


@control.get("/people")
def list_people() -> Response:
    """`{"items": [{id, first_name, last_name, last_message: {conversation_message_id, text, date} | null}]}`."""
    last = and_(Message.peer_id == Person.id, Message.cmid == Person.last_cmid)
    with Session(sandbox().engine) as session:
        rows = session.execute(select(Person, Message).outerjoin(Message, last).order_by(Person.id))
        return jsonify(items=[_shown(person, message) for person, message in rows])


@control.post("/people")
def add_person() -> tuple[Response, int]:
    """Somebody new: `{first_name, last_name?}` gives 201 and the person."""
    body = _read(_NewPerson)
    with sandbox().transaction() as session:
        return jsonify(_shown(store.add_person(session, body.first_name, body.last_name))), 201


@control.post("/messages")
def write() -> tuple[Response, int]:
    """The person writes to the community: `{from_id, text, payload?}` gives 201 and `{id, conversation_message_id}`."""
    body, box = _read(_NewMessage), sandbox()
    payload = body.payload if isinstance(body.payload, str | None) else compact(body.payload)
    with box.transaction() as session:
        person = _person(session, body.from_id)
        person.allowed = True
        message = store.add_message(session, person, person.id, body.text, payload=payload)
        shape = store.message_object(session, message, request.host_url)
        store.add_event(session, "message_new", store.new_message_object(shape, box.settings.app_language))
        return jsonify(id=message.id, conversation_message_id=message.cmid), 201


@control.get("/messages")
def read() -> Response:
    """The dialog of `peer_id` in order, what comes after the `conversation_message_id` `after`; how the community is.

    `{"items": […], "typing": the community is writing, "heard": the community's bot polls}`
    """
    peer_id, after = request.args.get("peer_id", type=int), request.args.get("after", 0, type=int)
    if peer_id is None:
        abort(400, "peer_id: a person's id is required")
    with Session(sandbox().engine) as session:
        _person(session, peer_id)
        rows = session.scalars(select(Message).where(Message.peer_id == peer_id, Message.cmid > after).order_by(Message.cmid))
        items = [store.message_object(session, row, request.host_url) for row in rows]
        return jsonify(items=items, typing=sandbox().is_typing(peer_id), heard=sandbox().longpoll.is_heard())


@control.post("/presses")
def press() -> tuple[Response, int]:
    """The person presses a callback button: `{from_id, conversation_message_id, payload?}` gives 201 and `{event_id}`."""
    body = _read(_NewPress)
    with sandbox().transaction() as session:
        person = _person(session, body.from_id)
        if not 0 < body.conversation_message_id <= person.last_cmid:
            abort(404, f"there is no message {body.conversation_message_id} in this dialog")
        event_id = secrets.token_hex(6)
        session.add(Press(event_id=event_id, peer_id=person.id))
        content = {"user_id": person.id, "peer_id": person.id, "event_id": event_id, **body.model_dump(exclude={"from_id"})}
        store.add_event(session, "message_event", content)
        return jsonify(event_id=event_id), 201


@control.get("/presses/<event_id>")
def pressed(event_id: str) -> Response:
    """What the community answered to a press: `{"answered": bool, "answer": event_data | null}`."""
    with Session(sandbox().engine) as session:
        found = session.get(Press, event_id) or abort(404, f"there is no press {event_id}")
        return jsonify(answered=found.answered, answer=found.answer)


@control.get("/settings")
def show_settings() -> Response:
    """`{requests_per_second, latency_ms, token}`."""
    return jsonify(sandbox().behaviour.model_dump())


@control.post("/settings")
def change_settings() -> Response:
    """Changes the fields that are given; they outlive a restart."""
    changes = _json()
    if not isinstance(changes, dict):
        abort(400, "an object is expected")
    return jsonify(sandbox().behave(changes).model_dump())


@control.post("/longpoll")
def fail_longpoll() -> tuple[Response, int]:
    """`{failed: 1|2|3, times?}`: the next polls, the waiting ones too, answer so."""
    body = _read(_Failure)
    sandbox().longpoll.fail(body.failed, body.times)
    return jsonify(body.model_dump()), 201
