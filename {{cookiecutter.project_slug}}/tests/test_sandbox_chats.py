"""The sandbox's group chats, files from people, and its Callback API."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import vk_api
from werkzeug import Request, Response
from werkzeug.serving import make_server

from app.sandbox import callback
from tests.bot import Sandbox, wait_for
from tests.test_sandbox import GROUP, PIXEL, ToSandbox, answer, call, error, poll


def file(name: str, content: bytes, **more: str) -> dict[str, str]:
    return {"name": name, "content": base64.b64encode(content).decode(), **more}


# ---- group chats


@pytest.fixture
def chat(sandbox: Sandbox) -> int:
    """A chat of the two people who are there to begin with; its first message says that the community was invited."""
    return int(sandbox.post("chats", title="Операторы", members=[101, 102])["id"])


def test_a_chat_begins_with_the_invitation(sandbox: Sandbox, chat: int) -> None:
    [update] = poll(sandbox)["updates"]
    message = update["object"]["message"]
    assert chat == 2_000_000_001
    assert (message["id"], message["peer_id"], message["from_id"], message["conversation_message_id"]) == (0, chat, 101, 1)
    assert message["action"] == {"type": "chat_invite_user", "member_id": -GROUP}
    [shown] = requests.get(f"{sandbox.url}/control/chats", timeout=10).json()["items"]
    assert (shown["title"], shown["members"]) == ("Операторы", [101, 102])


def test_its_members_write_there_and_so_does_the_community(sandbox: Sandbox, chat: int) -> None:
    sandbox.say(101, "[club1|@desk] привет", peer_id=chat)
    sandbox.say(102, "и я", peer_id=chat)
    assert call(sandbox, "messages.send", peer_id=chat, message="всем привет", random_id=1) == 0
    [sent] = call(sandbox, "messages.send", peer_ids=chat, message="всем привет", random_id=1)
    assert (sent["peer_id"], sent["message_id"], sent["conversation_message_id"]) == (chat, 0, 4)
    assert [(each["from_id"], each["text"]) for each in sandbox.dialog(chat)[1:]] == [
        (101, "[club1|@desk] привет"),
        (102, "и я"),
        (-GROUP, "всем привет"),
    ]
    assert sandbox.dialog(101) == []
    history = call(sandbox, "messages.getHistory", peer_id=chat, extended=1)
    assert ([each["id"] for each in history["items"]], len(history["profiles"])) == ([0] * 4, 2)
    [item] = call(sandbox, "messages.getConversations")["items"]
    assert item["conversation"]["peer"] == {"id": chat, "type": "chat", "local_id": 1}
    assert item["conversation"]["chat_settings"]["title"] == "Операторы"


def test_who_is_not_in_a_chat_cannot_write_there(sandbox: Sandbox, chat: int) -> None:
    stranger = sandbox.person()
    with pytest.raises(requests.HTTPError, match="404"):
        sandbox.say(stranger, "пустите", peer_id=chat)
    assert error(sandbox, "messages.send", peer_id=chat + 1, message="x", random_id=1) == 917
    with pytest.raises(requests.HTTPError, match="404"):
        sandbox.post("chats", title="x", members=[999])


def test_a_press_in_a_chat_is_of_the_person_who_pressed(sandbox: Sandbox, chat: int) -> None:
    ts = poll(sandbox)["ts"]
    pressed = sandbox.post("presses", from_id=102, peer_id=chat, conversation_message_id=1)["event_id"]
    [update] = poll(sandbox, ts=ts)["updates"]
    assert (update["object"]["user_id"], update["object"]["peer_id"]) == (102, chat)
    about = {"event_id": pressed, "peer_id": chat}
    assert error(sandbox, "messages.sendMessageEventAnswer", **about, user_id=101) == 100
    assert call(sandbox, "messages.sendMessageEventAnswer", **about, user_id=102) == 1


# ---- files


def test_people_send_pictures_and_documents(sandbox: Sandbox) -> None:
    sandbox.say(101, "", attachments=[file("кот.png", PIXEL), file("счёт.pdf", b"%PDF"), file("кот.png", PIXEL, type="doc")])
    [update] = poll(sandbox)["updates"]
    photo, bill, cat = update["object"]["message"]["attachments"]
    assert [each["type"] for each in (photo, bill, cat)] == ["photo", "doc", "doc"]
    assert (photo["photo"]["owner_id"], bill["doc"]["owner_id"]) == (101, 101)
    assert (bill["doc"]["title"], bill["doc"]["ext"], bill["doc"]["size"]) == ("счёт.pdf", "pdf", 4)
    assert requests.get(photo["photo"]["sizes"][0]["url"], timeout=10).content == PIXEL
    served = requests.get(bill["doc"]["url"], timeout=10)
    assert (served.content, served.headers["Content-Type"]) == (b"%PDF", "application/pdf")
    assert served.headers["Content-Disposition"].startswith("attachment")
    assert requests.get(bill["doc"]["url"].replace("/doc/", "/photo/"), timeout=10).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"text": ""}, "text"),
        ({"attachments": [{"name": "a", "content": "a"}]}, "content"),
        ({"attachments": [file("a.txt", b"a", type="photo")]}, "no picture"),
        ({"attachments": [file("a", b"a")] * 11}, "attachments"),
    ],
)
def test_what_is_no_message_is_said(sandbox: Sandbox, body: dict[str, Any], said: str) -> None:
    response = requests.post(f"{sandbox.url}/control/messages", json={"from_id": 101, **body}, timeout=10)
    assert response.status_code == 400
    assert said in response.json()["error"]


def test_a_document_goes_the_whole_way_through_vk_api(sandbox: Sandbox, tmp_path: Any) -> None:
    sandbox.say(101, "Пришлите договор")
    session = requests.Session()
    session.mount("https://api.vk.ru/", ToSandbox(sandbox.url))
    vk = vk_api.VkApi(token="any", api_version="5.199", session=session)
    (tmp_path / "contract.txt").write_text("договор")
    saved = vk_api.VkUpload(vk).document_message(str(tmp_path / "contract.txt"), title="Договор.txt", peer_id=101)["doc"]
    vk.method("messages.send", {"peer_id": 101, "attachment": f"doc{saved['owner_id']}_{saved['id']}", "random_id": 1})
    [attachment] = sandbox.dialog(101)[-1]["attachments"]
    assert (attachment["type"], attachment["doc"]["title"], attachment["doc"]["owner_id"]) == ("doc", "Договор.txt", -GROUP)
    assert requests.get(attachment["doc"]["url"], timeout=10).text == "договор"
    assert error(sandbox, "docs.save", file="1|x") == 100
    assert error(sandbox, "messages.send", peer_id=101, attachment=f"photo{saved['owner_id']}_{saved['id']}", random_id=2) == 100


# ---- the Callback API


class Endpoint:
    """A community's own address, which answers as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self._server = make_server("127.0.0.1", 0, Request.application(self._answer))
        self.url = f"http://127.0.0.1:{self._server.server_port}/vk"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def _answer(self, request: Request) -> Response:
        body = json.loads(request.data)
        self.asked.append((body, request.headers.get("X-Retry-Counter")))
        if body["type"] == "confirmation":
            return Response("abc123")
        status, said = self.answers.pop(0) if self.answers else (200, "ok")
        return Response(said, status)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(callback, "FIRST_PAUSE", 0.05)
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def state(sandbox: Sandbox) -> Any:
    return requests.get(f"{sandbox.url}/control/callback", timeout=10).json()


def test_an_address_is_confirmed_and_then_has_every_event_once_and_in_order(sandbox: Sandbox, endpoint: Endpoint) -> None:
    sandbox.say(101, "раньше")
    sandbox.post("callback", url=endpoint.url, secret="тайна", confirmation="abc123")
    assert endpoint.asked == [({"type": "confirmation", "group_id": GROUP}, None)]
    for text in ("один", "два"):
        sandbox.say(101, text)
    wait_for(lambda: len(endpoint.asked) == 3)
    wait_for(lambda: state(sandbox)["waiting"] == 0)
    bodies = [body for body, _ in endpoint.asked[1:]]
    assert [body["object"]["message"]["text"] for body in bodies] == ["один", "два"]
    assert {body["secret"] for body in bodies} == {"тайна"}
    assert [body["event_id"] for body in bodies] == [update["event_id"] for update in poll(sandbox, ts="1")["updates"]]
    assert requests.delete(f"{sandbox.url}/control/callback", timeout=10).status_code == 204
    sandbox.say(101, "потом")
    time.sleep(0.3)
    assert (len(endpoint.asked), state(sandbox)["url"]) == (3, None)


@pytest.mark.parametrize("refusal", [(500, "ok"), (200, "not ok"), (200, "")])
def test_what_is_not_taken_is_sent_again_and_counted(sandbox: Sandbox, endpoint: Endpoint, refusal: tuple[int, str]) -> None:
    sandbox.post("callback", url=endpoint.url)
    endpoint.answers = [refusal, refusal]
    sandbox.say(101, "раз")
    sandbox.say(101, "два")
    wait_for(lambda: state(sandbox)["waiting"] == 0)
    assert [(body["object"]["message"]["text"], retry) for body, retry in endpoint.asked[1:]] == [
        ("раз", None),
        ("раз", "1"),
        ("раз", "2"),
        ("два", None),
    ]


def test_an_address_that_does_not_confirm_is_not_taken(sandbox: Sandbox, endpoint: Endpoint) -> None:
    for url, confirmation in ((endpoint.url, "another"), ("http://127.0.0.1:9/", "abc123"), ("ftp://x", "abc123")):
        response = requests.post(f"{sandbox.url}/control/callback", json={"url": url, "confirmation": confirmation}, timeout=20)
        assert response.status_code == 400
        assert response.json()["error"].startswith("url: ")
    assert state(sandbox)["url"] is None
    assert "response" in answer(sandbox, "users.get")
