"""The control API: what the chat page and tests do as people, and how they change the sandbox. JSON in, JSON out.

docs/sandbox.md shows how to use it. Errors are 4xx with `{"error": "what is wrong"}`.
"""

import secrets
from typing import Annotated, Any, Literal, TypeVar

from flask import Blueprint, Response, abort, jsonify, request
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, Json, StringConstraints, ValidationError
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session
from werkzeug.exceptions import BadRequest, HTTPException

from app.sandbox import store
from app.sandbox.callback import Refusal, Server
from app.sandbox.faults import Fault
from app.sandbox.methods import TEXT_LIMIT
from app.sandbox.state import sandbox
from app.sandbox.store import Chat, Message, Peer, Person, Press, compact

control = Blueprint("control", __name__, url_prefix="/control")

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
ATTACHMENTS_LIMIT = 10


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _NewPerson(_Body):
    first_name: Name
    last_name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)] = ""


class _Consent(_Body):
    allowed: bool


class _NewChat(_Body):
    title: Name
    members: list[int] = Field(min_length=1, max_length=1000)


class _NewFile(_Body):
    """`type` is what it is sent as; without it, pictures are photos and all else documents."""

    name: Name
    content: Base64Bytes
    type: Literal["photo", "doc"] | None = None


class _NewMessage(_Body):
    from_id: int
    peer_id: int | None = None
    text: Annotated[str, StringConstraints(strip_whitespace=True, max_length=TEXT_LIMIT)] = ""
    payload: dict[str, Any] | list[Any] | str | None = None
    attachments: list[_NewFile] = Field(default_factory=list, max_length=ATTACHMENTS_LIMIT)


class _NewPress(_Body):
    from_id: int
    peer_id: int | None = None
    conversation_message_id: int
    payload: Json[Any] | dict[str, Any] | list[Any] = Field(default_factory=dict)


Shape = TypeVar("Shape", bound=BaseModel)


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


def _peer(session: Session, person: Person, peer_id: int | None) -> Peer:
    """The dialog in which the person speaks: their own, or a chat they are in."""
    if peer_id in (None, person.id):
        return person
    chat = session.get(Chat, peer_id)
    if chat is None or person.id not in chat.members:
        abort(404, f"there is no chat {peer_id} with person {person.id}")
    return chat


def _last(message: Message | None) -> dict[str, Any] | None:
    return {"conversation_message_id": message.cmid, "text": message.text, "date": message.date} if message else None


def _shown(person: Person, last: Message | None = None) -> dict[str, Any]:
    return {
        "id": person.id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "allowed": person.allowed,
        "last_message": _last(last),
    }


def _shown_chat(chat: Chat, last: Message | None = None) -> dict[str, Any]:
    return {"id": chat.id, "title": chat.title, "members": chat.members, "last_message": _last(last)}


def _is_last(peer: type[Peer]) -> ColumnElement[bool]:
    return and_(Message.peer_id == peer.id, Message.cmid == peer.last_cmid)


@control.get("/people")
def list_people() -> Response:
    """`{"items": [{id, first_name, last_name, allowed, last_message: {conversation_message_id, text, date} | null}]}`."""
    with Session(sandbox().engine) as session:
        rows = session.execute(select(Person, Message).outerjoin(Message, _is_last(Person)).order_by(Person.id))
        return jsonify(items=[_shown(person, message) for person, message in rows])


@control.post("/people")
def add_person() -> tuple[Response, int]:
    """Somebody new: `{first_name, last_name?}` gives 201 and the person."""
    body = _read(_NewPerson)
    with sandbox().transaction() as session:
        return jsonify(_shown(store.add_person(session, body.first_name, body.last_name))), 201


@control.post("/people/<int:person_id>")
def consent(person_id: int) -> Response:
    """The person allows the community to write, or forbids it: `{allowed}`. A change is a `message_allow` or `message_deny`."""
    body, box = _read(_Consent), sandbox()
    with box.transaction() as session:
        person = _person(session, person_id)
        if person.allowed and not body.allowed:
            box.happen(session, "message_deny", {"user_id": person_id})
        if body.allowed and not person.allowed:
            box.happen(session, "message_allow", {"user_id": person_id, "key": ""})
        person.allowed = body.allowed
        return jsonify(_shown(person))


@control.get("/chats")
def list_chats() -> Response:
    """`{"items": [{id, title, members: [person's id], last_message}]}`; the id is the chat's `peer_id`."""
    with Session(sandbox().engine) as session:
        rows = session.execute(select(Chat, Message).outerjoin(Message, _is_last(Chat)).order_by(Chat.id))
        return jsonify(items=[_shown_chat(chat, message) for chat, message in rows])


@control.post("/chats")
def add_chat() -> tuple[Response, int]:
    """A group chat: `{title, members: [id]}` gives 201 and the chat. The first member invites the community: an event."""
    body = _read(_NewChat)
    with sandbox().transaction() as session:
        members = [_person(session, each).id for each in dict.fromkeys(body.members)]
        chat = store.add_chat(session, body.title, members)
        action = {"type": "chat_invite_user", "member_id": -sandbox().settings.vk_group_id}
        _say(session, chat, members[0], "", action=action)
        return jsonify(_shown_chat(chat)), 201


@control.post("/messages")
def write() -> tuple[Response, int]:
    """A person writes to the community, or in a chat: 201 and `{id, conversation_message_id}`.

    `{from_id, peer_id?: a chat's, text, payload?, attachments?: [{name, content: Base64, type?: "photo" | "doc"}]}`
    """
    body = _read(_NewMessage)
    if not body.text and not body.attachments:
        abort(400, "text: a message without attachments needs some")
    payload = body.payload if isinstance(body.payload, str | None) else compact(body.payload)
    with sandbox().transaction() as session:
        person = _person(session, body.from_id)
        peer = _peer(session, person, body.peer_id)
        peer.allowed = True
        files = [_file(session, each, person.id) for each in body.attachments]
        message = _say(session, peer, person.id, body.text, payload=payload, file_ids=files)
        return jsonify(id=message.public_id, conversation_message_id=message.cmid), 201


def _file(session: Session, file: _NewFile, owner_id: int) -> int:
    kinds = ["photo", "doc"] if file.type is None else [file.type]
    stored = (store.add_file(session, kind, file.name, file.content, owner_id) for kind in kinds)
    found = next(filter(None, stored), None) or abort(400, f"attachments: {file.name} is no picture")
    return found.id


def _say(session: Session, peer: Peer, from_id: int, text: str, **more: Any) -> Message:
    box = sandbox()
    message = store.add_message(session, peer, from_id, text, **more)
    shape = store.message_object(session, message, request.host_url)
    box.happen(session, "message_new", store.new_message_object(shape, box.settings.app_language))
    return message


@control.get("/messages")
def read() -> Response:
    """The dialog of `peer_id` in order, what comes after the `conversation_message_id` `after`; how the community is.

    `{"items": […], "typing": the community is writing, "heard": the community's bot polls}`
    """
    peer_id, after = request.args.get("peer_id", type=int), request.args.get("after", 0, type=int)
    if peer_id is None:
        abort(400, "peer_id: a person's or a chat's id is required")
    with Session(sandbox().engine) as session:
        if session.get(Peer, peer_id) is None:
            abort(404, f"there is no person and no chat {peer_id}")
        rows = session.scalars(select(Message).where(Message.peer_id == peer_id, Message.cmid > after).order_by(Message.cmid))
        items = [store.message_object(session, row, request.host_url) for row in rows]
        return jsonify(items=items, typing=sandbox().is_typing(peer_id), heard=sandbox().is_heard())


@control.post("/presses")
def press() -> tuple[Response, int]:
    """A person presses a callback button: `{from_id, peer_id?, conversation_message_id, payload?}` gives 201 and `{event_id}`."""
    body = _read(_NewPress)
    with sandbox().transaction() as session:
        person = _person(session, body.from_id)
        peer = _peer(session, person, body.peer_id)
        if not 0 < body.conversation_message_id <= peer.last_cmid:
            abort(404, f"there is no message {body.conversation_message_id} in this dialog")
        event_id = secrets.token_hex(6)
        session.add(Press(event_id=event_id, peer_id=peer.id, user_id=person.id))
        content = {"conversation_message_id": body.conversation_message_id, "payload": body.payload}
        content |= {"user_id": person.id, "peer_id": peer.id, "event_id": event_id}
        sandbox().happen(session, "message_event", content)
        return jsonify(event_id=event_id), 201


@control.get("/presses/<event_id>")
def pressed(event_id: str) -> Response:
    """What the community answered to a press: `{"answered": bool, "answer": event_data | null}`."""
    with Session(sandbox().engine) as session:
        found = session.get(Press, event_id) or abort(404, f"there is no press {event_id}")
        return jsonify(answered=found.answered, answer=found.answer)


@control.get("/settings")
def show_settings() -> Response:
    """The fields of `state.Behaviour`."""
    return jsonify(sandbox().behaviour.model_dump())


@control.post("/settings")
def change_settings() -> Response:
    """Changes the fields that are given; they outlive a restart."""
    changes = _json()
    if not isinstance(changes, dict):
        abort(400, "an object is expected")
    return jsonify(sandbox().behave(changes).model_dump())


@control.get("/faults")
def show_faults() -> Response:
    """`{"items": [{id, fault, …, times?, hits}]}`: what was asked for, and how often each has come."""
    return jsonify(items=sandbox().faults.shown())


@control.post("/faults")
def add_fault() -> tuple[Response, int]:
    """One of `faults.Fault`: `{fault, method?, peer_id?, code?, seconds?, times?}` gives 201 and `{id}`; `forget` has no id."""
    body, box = _read(Fault), sandbox()
    if body.fault == "forget":
        with box.transaction() as session:
            store.forget_events(session)
        return jsonify(id=None), 201
    number = box.faults.add(body)
    box.news.tell()
    return jsonify(id=number), 201


@control.delete("/faults")
def clear_faults() -> tuple[str, int]:
    """Ends all faults, and lets go of who hangs: 204."""
    sandbox().faults.clear()
    return "", 204


@control.get("/callback")
def show_callback() -> Response:
    """`{url | null, waiting: events to be sent, retries: of the one that is refused, problem: why it is | null}`."""
    return jsonify(sandbox().callback.shown())


@control.post("/callback")
def switch_callback_on() -> tuple[Response, int]:
    """Events go to an address, too: `{url, secret?, confirmation?}` gives 201 when it has confirmed itself, else 400."""
    try:
        sandbox().callback.switch_on(_read(Server))
    except Refusal as error:
        abort(400, f"url: {error}")
    return jsonify(sandbox().callback.shown()), 201


@control.delete("/callback")
def switch_callback_off() -> tuple[str, int]:
    """Events go to the long poll only: 204."""
    sandbox().callback.switch_off()
    return "", 204
