"""What the sandbox answers, against VK's own JSON schema, where a copy of it lies: VK_API_SCHEMA names its folder."""

import base64
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft7Validator, ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from tests.bot import Sandbox
from tests.test_sandbox import CARD, GROUP, PIXEL, answer, call, carousel, one_button, poll

CHAT = 2_000_000_001
FOLDER = Path(os.environ.get("VK_API_SCHEMA") or "no-schema")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="VK_API_SCHEMA does not name a folder with VK's schema")


def standard(schema: Any) -> Any:
    """VK marks a property as required inside of it, and its files refer to some that are not published."""
    if isinstance(schema, list):
        return [standard(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        file, _, place = schema["$ref"].removeprefix("../").partition("#")
        return {"$ref": f"vk:{file}#{place}"} if (FOLDER / file).is_file() else {}
    changed = {key: standard(value) for key, value in schema.items() if key != "required"}
    if isinstance(schema.get("properties"), dict):
        changed["required"] = [name for name, each in schema["properties"].items() if each.get("required") is True]
    return changed


@cache
def load(uri: str) -> Resource[Any]:
    return DRAFT7.create_resource(standard(json.loads((FOLDER / uri.removeprefix("vk:")).read_text())))


def check(value: Any, file: str, name: str) -> None:
    registry: Registry[Any] = Registry(retrieve=load)
    Draft7Validator({"$ref": f"vk:{file}#/definitions/{name}"}, registry=registry).validate(value)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox in which everything there is to answer with has happened."""
    sandbox = Sandbox(tmp_path)
    sandbox.post("settings", requests_per_second=None)
    sandbox.say(101, "Начать", payload={"command": "start"})
    url = call(sandbox, "photos.getMessagesUploadServer")["upload_url"]
    uploaded = requests.post(url, files={"photo": ("photo.png", PIXEL)}, timeout=10).json()
    [photo] = call(sandbox, "photos.saveMessagesPhoto", **uploaded)
    attachment = f"photo{photo['owner_id']}_{photo['id']}"
    keyboard = one_button(type="text", label="Да", payload={"answer": 1}).replace('"action"', '"color": "secondary", "action"')
    call(sandbox, "messages.send", peer_id=101, random_id=1, message="Привет", attachment=attachment, keyboard=keyboard)
    template = carousel(CARD | {"photo_id": f"{photo['owner_id']}_{photo['id']}"})
    call(sandbox, "messages.send", peer_id=101, random_id=5, message="Вот", template=template)
    sandbox.say(101, "Спасибо")
    sandbox.post("presses", from_id=101, conversation_message_id=2, payload={"more": 1})
    files = [
        {"name": name, "content": base64.b64encode(content).decode()} for name, content in (("a.png", PIXEL), ("a.txt", b"a"))
    ]
    sandbox.post("chats", title="Операторы", members=[101, 102])
    sandbox.say(102, "[club1|@desk] всем привет", peer_id=CHAT, attachments=files)
    sandbox.post("people/101", allowed=False)
    sandbox.post("people/101", allowed=True)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("groups.getById", {}, "groups_getById_object_response"),
        ("groups.getLongPollServer", {"group_id": GROUP}, "groups_getLongPollServer_response"),
        ("groups.getLongPollSettings", {"group_id": GROUP}, "groups_getLongPollSettings_response"),
        ("groups.getCallbackServers", {"group_id": GROUP}, "groups_getCallbackServers_response"),
        ("groups.getCallbackSettings", {"group_id": GROUP, "server_id": 1}, "groups_getCallbackSettings_response"),
        ("groups.getTokenPermissions", {}, "groups_getTokenPermissions_response"),
        ("users.get", {"user_ids": "101,102"}, "users_get_response"),
        ("messages.send", {"peer_id": 101, "message": "x", "random_id": 2}, "messages_send_deprecated_response"),
        ("messages.send", {"peer_ids": "101,102", "message": "x", "random_id": 2}, "messages_send_user_ids_response"),
        ("messages.send", {"peer_ids": CHAT, "message": "x", "random_id": 2}, "messages_send_user_ids_response"),
        ("messages.getConversations", {"extended": 1}, "messages_getConversations_response"),
        ("messages.getHistory", {"peer_id": 101}, "messages_getHistory_response"),
        ("messages.getHistory", {"peer_id": 101, "extended": 1}, "messages_getHistory_extended_response"),
        ("messages.getHistory", {"peer_id": CHAT, "extended": 1}, "messages_getHistory_extended_response"),
        ("photos.getMessagesUploadServer", {"peer_id": 101}, "photos_getMessagesUploadServer_response"),
    ],
)
def test_an_answer_has_the_shape_that_vk_describes(sandbox: Sandbox, method: str, params: Any, name: str) -> None:
    given = answer(sandbox, method, **params)
    assert given["response"]
    check(given, f"{method.split('.', maxsplit=1)[0]}/responses.json", name)


@pytest.mark.parametrize("method", ["messages.markAsRead", "messages.setActivity"])
def test_so_has_an_answer_that_says_only_yes(sandbox: Sandbox, method: str) -> None:
    check(answer(sandbox, method, peer_id=101), "base/responses.json", "base_ok_response")


def test_so_has_a_saved_picture(sandbox: Sandbox) -> None:
    [attachment] = sandbox.dialog(101)[1]["attachments"]
    check({"response": [attachment["photo"]]}, "photos/responses.json", "photos_saveMessagesPhoto_response")


@pytest.mark.parametrize("code", [901, 14, 17, 29])
def test_so_has_an_error(sandbox: Sandbox, code: int) -> None:
    sandbox.post("faults", fault="error", code=code, method="messages.send", times=1)
    failure = answer(sandbox, "messages.send", peer_id=101, message="x", random_id=1)["error"]
    assert failure["error_code"] == code
    # the schema's discriminator, which VK does not send
    check({"inner_type": "base_error", **failure}, "base/objects.json", "base_error")


def test_so_have_events(sandbox: Sandbox) -> None:
    first, second, press, invited, in_chat, denied, allowed = poll(sandbox)["updates"]
    for update in (first, second, invited, in_chat):
        check(update, "callback/objects.json", "callback_base")
        check(update["object"], "callback/objects.json", "callback_message_new")
    # the schema says that a payload is a string; VK sends what the button holds
    check({**press["object"], "payload": "{}"}, "callback/objects.json", "callback_message_event")
    check(denied["object"], "callback/objects.json", "callback_message_deny")
    check(allowed["object"], "callback/objects.json", "callback_message_allow")


def test_the_check_can_fail() -> None:
    with pytest.raises(ValidationError):
        check({"response": [{"id": "1"}]}, "users/responses.json", "users_get_response")
    with pytest.raises(ValidationError):
        check({"response": {"key": "", "ts": "1"}}, "groups/responses.json", "groups_getLongPollServer_response")
