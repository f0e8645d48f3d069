"""VK's methods, as far as the bot uses them. Each takes a `Call` and gives what stands under `response`."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.sandbox import carousel, script, store
from app.sandbox import keyboard as keyboards
from app.sandbox.state import Sandbox
from app.sandbox.store import CHATS, Chat, File, Message, Peer, Person, Press, compact

TEXT_LIMIT = 4096
PEERS_LIMIT = 100
CALLS_LIMIT = 25
ANSWER_LIMIT = 5 * 1024 * 1024

ERRORS = {
    1: "Unknown error occurred",
    3: "Unknown method passed",
    5: "User authorization failed",
    6: "Too many requests per second",
    7: "Permission to perform this action is denied",
    8: "Invalid request",
    9: "Flood control",
    10: "Internal server error",
    12: "Unable to compile code",
    13: "Runtime error occurred during code invocation",
    14: "Captcha needed",
    15: "Access denied",
    17: "Validation required",
    25: "Token confirmation required",
    27: "Group authorization failed",
    28: "Application authorization failed",
    29: "Rate limit reached",
    36: "Method execution was interrupted due to timeout",
    43: "API method is temporarily unavailable",
    100: "One of the parameters specified was missing or invalid",
    121: "Invalid hash",
    900: "Can't send messages for users from blacklist",
    901: "Can't send messages for users without permission",
    902: "Can't send messages to this user due to their privacy settings",
    911: "Keyboard format is invalid",
    912: "This is a chat bot feature, change this status in settings",
    913: "Too many forwarded messages",
    914: "Message is too long",
    917: "You don't have access to this chat",
    936: "Contact not found",
    945: "Chat was disabled",
    950: "Can't send message, reply timed out",
}
# what is wrong with one receiver of many; all else is wrong for all of them
OF_ONE_PEER = {7, 900, 901, 902, 917, 936, 945, 950}
# every type of event that a community's long poll has a switch for
EVENTS = (
    "audio_new",
    "board_post_delete",
    "board_post_edit",
    "board_post_new",
    "board_post_restore",
    "donut_money_withdraw",
    "donut_money_withdraw_error",
    "donut_subscription_cancelled",
    "donut_subscription_create",
    "donut_subscription_expired",
    "donut_subscription_price_changed",
    "donut_subscription_prolonged",
    "group_change_photo",
    "group_change_settings",
    "group_join",
    "group_leave",
    "group_officers_edit",
    "lead_forms_new",
    "market_comment_delete",
    "market_comment_edit",
    "market_comment_new",
    "market_comment_restore",
    "market_order_edit",
    "market_order_new",
    "message_allow",
    "message_deny",
    "message_edit",
    "message_event",
    "message_new",
    "message_reaction_event",
    "message_read",
    "message_reply",
    "message_typing_state",
    "photo_comment_delete",
    "photo_comment_edit",
    "photo_comment_new",
    "photo_comment_restore",
    "photo_new",
    "poll_vote_new",
    "user_block",
    "user_unblock",
    "video_comment_delete",
    "video_comment_edit",
    "video_comment_new",
    "video_comment_restore",
    "video_new",
    "wall_post_new",
    "wall_reply_delete",
    "wall_reply_edit",
    "wall_reply_new",
    "wall_reply_restore",
    "wall_repost",
    "wall_schedule_post_delete",
    "wall_schedule_post_new",
)
PERMISSIONS: dict[str, int] = {"photos": 4, "messages": 4096, "docs": 131072, "manage": 262144}
CHAT_RIGHTS = (
    "can_change_info",
    "can_change_invite_link",
    "can_change_pin",
    "can_invite",
    "can_promote_users",
    "can_see_invite_link",
    "can_moderate",
    "can_copy_chat",
    "can_call",
    "can_use_mass_mentions",
    "can_change_service_type",
)
ATTACHMENT = re.compile(r"(photo|doc)(-?\d+)_(\d+)(?:_\w+)?")


class ApiError(Exception):
    """An answer under `error` instead of `response`."""

    def __init__(self, code: int, detail: str = "") -> None:
        self.code = code
        text = ERRORS.get(code, "Unknown error occurred")
        self.message = f"{text}: {detail}" if detail else text
        super().__init__(self.message)


@dataclass(frozen=True)
class Call:
    """One call of a method: its parameters, all of them strings, and what it works on."""

    sandbox: Sandbox
    session: Session
    base_url: str
    name: str
    params: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        """A parameter as it is."""
        return self.params.get(name, default)

    def number(self, name: str, default: int = 0) -> int:
        """A whole number; raises error 100 for anything else."""
        value = self.text(name) or str(default)
        try:
            return int(value)
        except ValueError:
            raise ApiError(100, f"{name} not integer") from None

    def required(self, name: str) -> int:
        """A whole number that must be there."""
        if not self.text(name):
            raise ApiError(100, f"{name} is a required parameter")
        return self.number(name)

    def numbers(self, name: str) -> list[int]:
        """Whole numbers between commas."""
        try:
            return [int(part) for part in self.text(name).split(",") if part.strip()]
        except ValueError:
            raise ApiError(100, f"{name} not integer") from None

    def structure(self, name: str) -> Any:
        """What stands in JSON, None without it; raises error 100 for what is none."""
        try:
            return json.loads(self.text(name) or "null")
        except ValueError:
            raise ApiError(100, f"{name} contains incorrect JSON") from None

    def flag(self, name: str) -> bool:
        """A switch, off by default."""
        return self.text(name).lower() in ("1", "true")

    def count(self) -> tuple[int, int]:
        """`offset` and `count`; a page has 20 items and at most 200."""
        return self.number("offset"), min(self.number("count", 20), 200)

    def group(self) -> int:
        """The community's id; raises error 15 when another is asked for."""
        group_id = self.sandbox.settings.vk_group_id
        if self.number("group_id", group_id) != group_id:
            raise ApiError(15, "no access to this group")
        return group_id


Method = Callable[[Call], Any]
METHODS: dict[str, Method] = {}


def _method(name: str) -> Callable[[Method], Method]:
    def register(function: Method) -> Method:
        METHODS[name] = function
        return function

    return register


@_method("groups.getById")
def _groups_get_by_id(call: Call) -> Any:
    return {"groups": [_group(call)], "profiles": []}


@_method("groups.getLongPollServer")
def _groups_get_long_poll_server(call: Call) -> Any:
    call.required("group_id")
    if not call.sandbox.behaviour.longpoll_enabled:
        raise ApiError(100, "longpoll for this group is not enabled")
    key = call.session.get_one(store.Memory, "longpoll").value["key"]
    return {"key": key, "server": f"{call.base_url}whp/{call.group()}", "ts": str(store.newest_event(call.session))}


@_method("groups.getLongPollSettings")
def _groups_get_long_poll_settings(call: Call) -> Any:
    call.required("group_id")
    call.group()
    behaviour = call.sandbox.behaviour
    events = {name: int(name in behaviour.events) for name in EVENTS}
    return {"api_version": behaviour.longpoll_version, "events": events, "is_enabled": behaviour.longpoll_enabled}


@_method("groups.getCallbackServers")
def _groups_get_callback_servers(call: Call) -> Any:
    call.required("group_id")
    call.group()
    url = call.sandbox.callback.shown()["url"]
    about = {"id": 1, "title": "bot", "creator_id": 1, "secret_key": "", "status": "ok"}
    return {"count": int(url is not None), "items": [{**about, "url": url}] if url else []}


@_method("groups.getCallbackSettings")
def _groups_get_callback_settings(call: Call) -> Any:
    settings = _groups_get_long_poll_settings(call)
    return {"api_version": settings["api_version"], "events": settings["events"]}


@_method("groups.getTokenPermissions")
def _groups_get_token_permissions(call: Call) -> Any:
    given = {name: setting for name, setting in PERMISSIONS.items() if name in call.sandbox.behaviour.permissions}
    return {"mask": sum(given.values()), "permissions": [{"name": name, "setting": given[name]} for name in given]}


@_method("users.get")
def _users_get(call: Call) -> Any:
    ids = [part.strip().removeprefix("id") for part in call.text("user_ids").split(",")]
    wanted = [int(part) for part in ids if part.isdecimal()]
    return [_profile(person) for person in call.session.scalars(select(Person).where(Person.id.in_(wanted)).order_by(Person.id))]


@_method("messages.send")
def _messages_send(call: Call) -> Any:
    if not call.text("random_id"):
        raise ApiError(100, "random_id is a required parameter")
    many = call.numbers("peer_ids") or call.numbers("user_ids")
    if len(many) > PEERS_LIMIT:
        raise ApiError(100, f"peer_ids should contain at most {PEERS_LIMIT} items")
    if many:
        return [_sent_to_one_of_many(call, peer_id) for peer_id in many]
    peer_id = call.number("peer_id") or call.number("user_id")
    if not peer_id:
        raise ApiError(100, "you should specify peer_id, user_id, domain, chat_id or user_ids param")
    return _send(call, peer_id).public_id


def _sent_to_one_of_many(call: Call, peer_id: int) -> dict[str, Any]:
    try:
        # the messages of an `execute` are written together at its end, and not at each look for a peer
        with call.session.no_autoflush:
            message = _send(call, peer_id)
    except ApiError as error:
        if error.code not in OF_ONE_PEER:
            raise
        failure = {"code": error.code, "description": error.message}
        return {"peer_id": peer_id, "message_id": 0, "conversation_message_id": 0, "error": failure}
    return {"peer_id": peer_id, "message_id": message.public_id, "conversation_message_id": message.cmid}


def _send(call: Call, peer_id: int) -> Message:
    text, random_id, behaviour = call.text("message"), call.number("random_id"), call.sandbox.behaviour
    files = _attached(call)
    keyboard, template = _keyboard(call), _template(call)
    if not text.strip() and (template or not files):
        raise ApiError(100, "message is empty or invalid")
    if len(text) > TEXT_LIMIT:
        raise ApiError(914)
    peer = _peer(call, peer_id)
    if random_id:
        memory = (behaviour.random_id_seconds, behaviour.random_id_messages)
        if sent := store.already_sent(call.session, peer, random_id, *memory):
            return sent
    message = store.add_message(
        call.session,
        peer,
        -call.group(),
        text,
        random_id=random_id,
        keyboard=keyboard,
        template=template,
        file_ids=files,
        payload=call.text("payload") or None,
    )
    peer.in_read = message.id
    call.sandbox.show_typing(peer_id, on=False)
    return message


def _keyboard(call: Call) -> dict[str, Any] | None:
    keyboard = _accepted(call, "keyboard", keyboards.problem)
    return None if keyboard is None else keyboards.stored(keyboard, -call.group())


def _template(call: Call) -> dict[str, Any] | None:
    template = _accepted(call, "template", carousel.problem)
    if template is None:
        return None
    for number, card in enumerate(template["elements"]):
        if "photo_id" in card and _file(call, f"photo{card['photo_id']}") is None:
            raise ApiError(911, f"template['elements'][{number}] has invalid photo_id")
    return carousel.stored(template)


def _accepted(call: Call, name: str, problem: Callable[[Any], str | None]) -> Any:
    structure = call.structure(name)
    if structure is not None and (found := problem(structure)):
        raise ApiError(911, found)
    return structure


def _attached(call: Call) -> list[int]:
    """The ids of the files in `attachment`: `photo{owner}_{id}` or `doc{owner}_{id}_{access_key}`, between commas."""
    found = []
    for name in filter(None, map(str.strip, call.text("attachment").split(","))):
        file = _file(call, name)
        if file is None:
            raise ApiError(100, f"attachment {name} is invalid")
        found.append(file.id)
    return found


def _file(call: Call, name: str) -> File | None:
    parts = ATTACHMENT.fullmatch(name)
    file = call.session.get(File, int(parts[3])) if parts else None
    return file if parts and file and (file.kind, str(file.owner_id)) == (parts[1], parts[2]) else None


def _peer(call: Call, peer_id: int) -> Peer:
    suffer(call.sandbox, call.name, peer_id)
    peer = call.session.get(Peer, peer_id)
    if peer is None or not peer.allowed:
        raise ApiError(917 if peer_id > CHATS else 901)
    return peer


@_method("messages.getConversations")
def _messages_get_conversations(call: Call) -> Any:
    newest = select(Message.peer_id, func.max(Message.id).label("id")).group_by(Message.peer_id).subquery()
    query = select(Peer, Message).join(newest, newest.c.peer_id == Peer.id).join(Message, Message.id == newest.c.id)
    unread = Peer.in_read < newest.c.id
    match call.text("filter", "all"):
        case "all":
            pass
        case "unread" | "unanswered":
            query = query.where(unread)
        case other:
            raise ApiError(100, f"filter {other} is not supported")
    if start := call.number("start_message_id"):
        query = query.where(Message.id <= start)
    offset, count = call.count()
    rows = call.session.execute(query.order_by(Message.id.desc()).offset(offset).limit(count)).all()
    answer: dict[str, Any] = {
        "count": call.session.scalar(select(func.count()).select_from(query.subquery())),
        "items": [{"conversation": _conversation(call, peer), "last_message": _message(call, message)} for peer, message in rows],
    }
    if waiting := call.session.scalar(
        select(func.count()).select_from(Peer).join(newest, newest.c.peer_id == Peer.id).where(unread)
    ):
        answer["unread_count"] = waiting
    return answer | _extended(call, [peer for peer, _ in rows])


@_method("messages.getHistory")
def _messages_get_history(call: Call) -> Any:
    peer_id = call.number("peer_id") or call.number("user_id")
    if not peer_id:
        raise ApiError(100, "peer_id is a required parameter")
    peer = call.session.get(Peer, peer_id)
    offset, count = call.count()
    oldest_first = call.flag("rev")
    of_peer = Message.peer_id == peer_id
    if start := call.number("start_message_id"):
        # VK counts the offset from this message, in the direction of reading; it may be negative
        before: ColumnElement[bool] = Message.id < start if oldest_first else Message.id > start
        offset += call.session.scalar(select(func.count()).where(of_peer, before)) or 0
    order = Message.id.asc() if oldest_first else Message.id.desc()
    rows = call.session.scalars(select(Message).where(of_peer).order_by(order).offset(max(offset, 0)).limit(count))
    answer = {
        "count": call.session.scalar(select(func.count()).where(of_peer)),
        "items": [_message(call, message) for message in rows],
    }
    if call.flag("extended") and peer:
        answer["conversations"] = [_conversation(call, peer)]
    return answer | _extended(call, [peer] if peer else [])


@_method("messages.markAsRead")
def _messages_mark_as_read(call: Call) -> Any:
    peer = _peer(call, call.required("peer_id"))
    newest = select(func.max(Message.id)).where(Message.peer_id == peer.id)
    if start := call.number("start_message_id"):
        newest = newest.where(Message.id <= start)
    peer.in_read = max(peer.in_read, call.session.scalar(newest) or 0)
    return 1


@_method("messages.setActivity")
def _messages_set_activity(call: Call) -> Any:
    if call.text("type", "typing") not in ("audiomessage", "file", "photo", "typing", "video"):
        raise ApiError(100, "type is invalid")
    peer = _peer(call, call.number("peer_id") or call.required("user_id"))
    call.sandbox.show_typing(peer.id)
    return 1


@_method("messages.sendMessageEventAnswer")
def _messages_send_message_event_answer(call: Call) -> Any:
    peer_id, user_id = call.required("peer_id"), call.required("user_id")
    press = call.session.get(Press, call.text("event_id"))
    if press is None or press.answered or (press.peer_id, press.user_id) != (peer_id, user_id):
        raise ApiError(100, "event_id is invalid")
    answer = call.structure("event_data")
    if answer is not None and (not isinstance(answer, dict) or "type" not in answer):
        raise ApiError(100, "event_data is invalid")
    press.answered, press.answer = True, answer
    return 1


@_method("photos.getMessagesUploadServer")
def _photos_get_messages_upload_server(call: Call) -> Any:
    return {"album_id": -64, "upload_url": f"{call.base_url}upload/photo", "user_id": 0, "group_id": call.group()}


@_method("photos.saveMessagesPhoto")
def _photos_save_messages_photo(call: Call) -> Any:
    uploaded = call.text("photo")
    if uploaded in ("", "[]"):
        raise ApiError(100, "photo is undefined")
    if call.text("hash") != store.upload_hash(uploaded):
        raise ApiError(121)
    photos = [call.session.get_one(File, each["photo"]) for each in json.loads(uploaded)]
    for photo in photos:
        photo.owner_id = -call.group()
    return [store.attachment_object(photo, call.base_url)["photo"] for photo in photos]


@_method("docs.getMessagesUploadServer")
def _docs_get_messages_upload_server(call: Call) -> Any:
    if call.text("type", "doc") not in ("doc", "audio_message", "graffiti"):
        raise ApiError(100, "type is invalid")
    _peer(call, call.required("peer_id"))
    return {"upload_url": f"{call.base_url}upload/doc"}


@_method("docs.save")
def _docs_save(call: Call) -> Any:
    number, _, check = call.text("file").partition("|")
    if not check or check != store.upload_hash(number):
        raise ApiError(100, "file is undefined")
    file = call.session.get_one(File, int(number))
    file.owner_id, file.name = -call.group(), call.text("title") or file.name
    return store.attachment_object(file, call.base_url)


def named(name: str) -> Method:
    """The method of this name; raises error 3 when there is none here."""
    if name not in METHODS:
        raise ApiError(3)
    return METHODS[name]


def permit(sandbox: Sandbox, name: str) -> None:
    """Raise the error with which VK refuses a method to a token without the right, or to a community without messages."""
    section = name.partition(".")[0]
    if name.startswith(("groups.getLongPoll", "groups.getCallback")):
        section = "manage"
    if section in PERMISSIONS and section not in sandbox.behaviour.permissions:
        raise ApiError(15, "no access to call this method. It cannot be called with current scopes.")
    if section == "messages" and not sandbox.behaviour.messages_enabled:
        raise ApiError(15, "group messages are disabled")


def suffer(sandbox: Sandbox, name: str, peer_id: int | None = None) -> None:
    """Raise the error that was asked for by the control API."""
    if fault := sandbox.faults.take("error", method=name, peer_id=peer_id):
        raise ApiError(fault.code or 0)


def answer(call: Call) -> dict[str, Any]:
    """The whole answer: `{"response": …}`, for `execute` with `execute_errors`. Raises `ApiError`."""
    return _execute(call) if call.name == "execute" else {"response": named(call.name)(call)}


def _execute(call: Call) -> dict[str, Any]:
    errors: list[dict[str, Any]] = []
    calls = iter(range(CALLS_LIMIT))

    def run(name: str, params: dict[str, Any]) -> Any:
        if next(calls, None) is None:
            raise ApiError(13, "too many api calls")
        if call.sandbox.faults.take("unexplained", method=name):
            return False
        try:
            method = named(name)
            permit(call.sandbox, name)
            suffer(call.sandbox, name)
            return method(replace(call, name=name, params=dict(_as_sent(params))))
        except ApiError as error:
            errors.append({"method": name, "error_code": error.code, "error_msg": error.message})
            return False

    if not call.text("code"):
        raise ApiError(100, "code is a required parameter")
    try:
        response = script.run(call.text("code"), run, dict(call.params))
    except script.CompileError as error:
        raise ApiError(12, str(error)) from None
    except script.ScriptError as error:
        raise ApiError(13, str(error)) from None
    if len(compact(response).encode()) > ANSWER_LIMIT:
        raise ApiError(13, "response size is too big")
    if not errors:
        return {"response": response}
    # VK repeats the last error at the end, as that of `execute` itself
    return {"response": response, "execute_errors": [*errors, {**errors[-1], "method": "execute"}]}


def _as_sent(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Values of a script as they would have come in a form."""
    for name, value in params.items():
        match value:
            case None:
                continue
            case bool():
                yield name, str(int(value))
            case list():
                yield name, ",".join(str(item) for item in value)
            case dict():
                yield name, compact(value)
            case _:
                yield name, str(value)


def _group(call: Call) -> dict[str, Any]:
    group_id = call.group()
    return {
        "id": group_id,
        "name": call.sandbox.settings.app_name,
        "screen_name": f"club{group_id}",
        "is_closed": 0,
        "type": "page",
    }


def _profile(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "can_access_closed": True,
        "is_closed": False,
    }


def _message(call: Call, message: Message) -> dict[str, Any]:
    return store.message_object(call.session, message, call.base_url)


def _conversation(call: Call, peer: Peer) -> dict[str, Any]:
    of_peer = Message.peer_id == peer.id
    last = call.session.scalar(select(func.max(Message.id)).where(of_peer)) or 0
    in_chat = isinstance(peer, Chat)
    shape: dict[str, Any] = {
        "peer": {"id": peer.id, "type": peer.kind, "local_id": peer.id - CHATS if in_chat else peer.id},
        "version": 10_000_000 + last,
        "last_message_id": 0 if in_chat else last,
        "last_conversation_message_id": peer.last_cmid,
        "in_read": 0 if in_chat else peer.in_read,
        "out_read": 0 if in_chat else last,  # the person has the dialog open
        "sort_id": {"major_id": 0, "minor_id": last},
        "important": False,
        "unanswered": peer.in_read < last,
        "can_write": {"allowed": True} if peer.allowed else {"allowed": False, "reason": 917 if in_chat else 901},
    }
    if isinstance(peer, Chat):
        shape["chat_settings"] = _chat_settings(peer)
    unread = select(func.count()).where(of_peer, Message.from_id > 0, Message.id > peer.in_read)
    if waiting := call.session.scalar(unread):
        shape["unread_count"] = waiting
    return shape


def _chat_settings(chat: Chat) -> dict[str, Any]:
    return {
        "title": chat.title,
        "owner_id": chat.members[0],
        "members_count": len(chat.members) + 1,  # the community is one of them
        "active_ids": chat.members[:4],
        "state": "in" if chat.allowed else "kicked",
        "acl": {**dict.fromkeys(CHAT_RIGHTS, False), "can_invite": True},
    }


def _extended(call: Call, peers: list[Peer]) -> dict[str, Any]:
    if not call.flag("extended"):
        return {}
    ids = {person for peer in peers for person in (peer.members if isinstance(peer, Chat) else [peer.id])}
    persons = call.session.scalars(select(Person).where(Person.id.in_(ids)).order_by(Person.id))
    return {"profiles": [_profile(person) for person in persons], "groups": [_group(call)]}
