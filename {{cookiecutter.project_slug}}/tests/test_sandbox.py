"""The sandbox against VK's rules, as the unmodified vk_api and plain HTTP see them."""

import io
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import vk_api
from requests.adapters import HTTPAdapter
from sqlalchemy import update
from sqlalchemy.orm import Session
from vk_api.bot_longpoll import VkBotEventType, VkBotLongPoll
from vk_api.keyboard import VkKeyboard, VkKeyboardColor
from vk_api.requests_pool import VkRequestsPool, vk_request_one_param_pool

from app.sandbox import create_app, store
from app.settings import SettingsError
from tests.bot import Sandbox
from tests.conftest import make_settings

GROUP = 1
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


class ToSandbox(HTTPAdapter):
    """Sends what is meant for VK to the sandbox."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        request.url = (request.url or "").replace("https://api.vk.ru", self.url)
        return super().send(request, *args, **options)


@pytest.fixture
def vk(sandbox: Sandbox) -> vk_api.VkApi:
    """The library as it is, but for where its requests go."""
    session = requests.Session()
    session.mount("https://api.vk.ru/", ToSandbox(sandbox.url))
    return vk_api.VkApi(token="any", api_version="5.199", session=session)


@pytest.fixture
def person(sandbox: Sandbox) -> int:
    """Somebody who has written once, as VK wants it before a community may answer."""
    person = sandbox.person()
    sandbox.say(person, "Привет")
    return person


def answer(sandbox: Sandbox, method: str, **params: Any) -> Any:
    """The whole answer to one call."""
    params = {"v": "5.199", "access_token": "any", **params}
    response = requests.post(f"{sandbox.url}/method/{method}", data=params, timeout=10)
    assert response.status_code == 200
    return response.json()


def call(sandbox: Sandbox, method: str, **params: Any) -> Any:
    return answer(sandbox, method, **params)["response"]


def error(sandbox: Sandbox, method: str, **params: Any) -> int:
    return int(answer(sandbox, method, **params)["error"]["error_code"])


def poll(sandbox: Sandbox, wait: int = 0, **changes: Any) -> Any:
    """One long poll from the beginning of time, or from `ts`."""
    server = call(sandbox, "groups.getLongPollServer", group_id=GROUP)
    params = {"act": "a_check", "key": server["key"], "ts": "0", "wait": wait, **changes}
    return requests.get(server["server"], params=params, timeout=30).json()


# ---- events


def test_the_long_poll_of_vk_api_brings_a_message(sandbox: Sandbox, vk: vk_api.VkApi) -> None:
    longpoll = VkBotLongPoll(vk, GROUP, wait=10)
    person = sandbox.person()
    sandbox.say(person, "Начать", payload={"command": "start"})
    [event] = longpoll.check()
    assert (event.type, event.from_user, event.group_id) == (VkBotEventType.MESSAGE_NEW, True, GROUP)
    message = event.object.message
    assert (message["from_id"], message["peer_id"], message["text"], message["out"]) == (person, person, "Начать", 0)
    assert json.loads(message["payload"]) == {"command": "start"}
    assert event.client_info.keyboard is True


def test_a_waiting_poll_is_woken_by_the_message(sandbox: Sandbox, person: int) -> None:
    ts = poll(sandbox)["ts"]
    timer = threading.Timer(0.3, sandbox.say, [person, "ещё"])
    timer.start()
    assert [update["object"]["message"]["text"] for update in poll(sandbox, wait=25, ts=ts)["updates"]] == ["ещё"]
    timer.join()


def test_a_poll_without_news_keeps_its_ts(sandbox: Sandbox, person: int) -> None:
    ts = poll(sandbox)["ts"]
    assert poll(sandbox, ts=ts) == {"ts": ts, "updates": []}


def test_from_an_older_ts_all_events_come_again_in_order_each_with_its_id(sandbox: Sandbox, person: int) -> None:
    for text in ("один", "два"):
        sandbox.say(person, text)
    first, again = poll(sandbox), poll(sandbox)
    assert first == again
    assert [update["object"]["message"]["text"] for update in first["updates"]] == ["Привет", "один", "два"]
    assert len({update["event_id"] for update in first["updates"]}) == 3


@pytest.mark.parametrize(
    ("changes", "failure"),
    [({"key": "old"}, {"failed": 2}), ({"ts": "99"}, {"failed": 1, "ts": 1}), ({"ts": "x"}, {"failed": 3})],
)
def test_a_poll_that_cannot_be_served_says_how(sandbox: Sandbox, person: int, changes: Any, failure: Any) -> None:
    assert poll(sandbox, **changes) == failure


def test_a_ts_older_than_the_memory_is_told_so(sandbox: Sandbox, person: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EVENTS_KEPT", 2)
    for text in ("один", "два", "три"):
        sandbox.say(person, text)
    assert poll(sandbox, ts="1") == {"failed": 1, "ts": 4}
    assert len(poll(sandbox, ts="2")["updates"]) == 2


def test_failures_asked_for_come_as_often_as_asked_and_wake_who_waits(sandbox: Sandbox, person: int) -> None:
    ts = poll(sandbox)["ts"]
    timer = threading.Timer(0.3, sandbox.post, ["faults"], {"fault": "failed", "code": 2, "times": 2})
    timer.start()
    assert poll(sandbox, wait=25, ts=ts) == {"failed": 2}
    timer.join()
    assert poll(sandbox, ts=ts) == {"failed": 2}
    assert poll(sandbox, ts=ts) == {"ts": ts, "updates": []}


@pytest.mark.parametrize("failed", [1, 2, 3])
def test_vk_api_gets_over_a_failure(sandbox: Sandbox, vk: vk_api.VkApi, person: int, failed: int) -> None:
    longpoll = VkBotLongPoll(vk, GROUP, wait=1)
    sandbox.post("faults", fault="failed", code=failed, times=1)
    assert longpoll.check() == []
    sandbox.say(person, "после")
    assert [event.message.text for event in longpoll.check()] == ["после"]


def test_a_press_of_a_callback_button_is_an_event_that_is_answered_once(sandbox: Sandbox, person: int) -> None:
    pressed = sandbox.post("presses", from_id=person, conversation_message_id=1, payload='{"more": 1}')["event_id"]
    event = poll(sandbox, ts="1")["updates"][0]
    assert event["type"] == "message_event"
    assert event["object"] == {
        "user_id": person,
        "peer_id": person,
        "event_id": pressed,
        "conversation_message_id": 1,
        "payload": {"more": 1},
    }
    look = f"{sandbox.url}/control/presses/{pressed}"
    assert requests.get(look, timeout=10).json() == {"answered": False, "answer": None}
    shown = {"type": "show_snackbar", "text": "Готово"}
    said = {"event_id": pressed, "user_id": person, "peer_id": person, "event_data": json.dumps(shown)}
    assert call(sandbox, "messages.sendMessageEventAnswer", **said) == 1
    assert requests.get(look, timeout=10).json() == {"answered": True, "answer": shown}
    assert error(sandbox, "messages.sendMessageEventAnswer", **said) == 100


# ---- sending


def test_a_message_arrives_with_its_keyboard(sandbox: Sandbox, vk: vk_api.VkApi, person: int) -> None:
    keyboard = VkKeyboard(one_time=True)
    keyboard.add_button("Да", VkKeyboardColor.POSITIVE, payload={"answer": "yes"})
    sent = vk.method(
        "messages.send", {"peer_id": person, "message": "Ну что?", "random_id": 7, "keyboard": keyboard.get_keyboard()}
    )
    shown = sandbox.dialog(person)[-1]
    assert (shown["id"], shown["from_id"], shown["text"], shown["random_id"]) == (sent, -GROUP, "Ну что?", 7)
    [[button]] = shown["keyboard"]["buttons"]
    assert (button["action"]["label"], json.loads(button["action"]["payload"])) == ("Да", {"answer": "yes"})


def test_sending_to_many_answers_for_each(sandbox: Sandbox, person: int) -> None:
    silent = sandbox.person()
    sent, refused = call(sandbox, "messages.send", peer_ids=f"{person},{silent}", message="всем", random_id=1)
    assert (sent["peer_id"], sent["conversation_message_id"]) == (person, 2)
    assert (refused["peer_id"], refused["error"]["code"]) == (silent, 901)


def test_who_has_not_written_cannot_be_written_to(sandbox: Sandbox) -> None:
    silent = sandbox.person()
    assert error(sandbox, "messages.send", peer_id=silent, message="реклама", random_id=1) == 901
    sandbox.say(silent, "здравствуйте")
    assert call(sandbox, "messages.send", peer_id=silent, message="здравствуйте", random_id=1)


def test_a_random_id_sends_once_in_a_dialog(sandbox: Sandbox, person: int) -> None:
    other = sandbox.person()
    sandbox.say(other, "и я")
    first = [call(sandbox, "messages.send", peer_id=peer, message="раз", random_id=5) for peer in (person, other)]
    again = [call(sandbox, "messages.send", peer_id=peer, message="два", random_id=5) for peer in (person, other)]
    assert first == again
    assert sandbox.answers(person) == sandbox.answers(other) == ["раз"]


def test_zero_as_random_id_protects_nothing(sandbox: Sandbox, person: int) -> None:
    for _ in range(2):
        call(sandbox, "messages.send", peer_id=person, message="раз", random_id=0)
    assert sandbox.answers(person) == ["раз", "раз"]


def test_a_random_id_is_forgotten_after_a_hundred_messages(sandbox: Sandbox, person: int) -> None:
    first = call(sandbox, "messages.send", peer_id=person, message="раз", random_id=1000)
    for start in (0, 25, 50, 75):
        assert call(sandbox, "messages.send", peer_id=person, message="раз", random_id=1000) == first
        sends = [f'API.messages.send({{"peer_id":{person},"message":"x","random_id":{start + n}}})' for n in range(1, 26)]
        call(sandbox, "execute", code=f"return [{','.join(sends)}];")
    assert call(sandbox, "messages.send", peer_id=person, message="раз", random_id=1000) > first


def test_a_random_id_is_forgotten_after_an_hour(sandbox: Sandbox, person: int) -> None:
    first = call(sandbox, "messages.send", peer_id=person, message="раз", random_id=5)
    with Session(sandbox.parts.engine) as session, session.begin():
        session.execute(update(store.Message).values(date=int(time.time()) - 3601))
    assert call(sandbox, "messages.send", peer_id=person, message="раз", random_id=5) > first


def test_a_random_id_sends_once_from_many_threads(sandbox: Sandbox, person: int) -> None:
    sent: list[int] = []
    threads = [
        threading.Thread(target=lambda: sent.append(call(sandbox, "messages.send", peer_id=person, message="раз", random_id=5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 8
    assert len(set(sent)) == 1
    assert sandbox.answers(person) == ["раз"]


def buttons(number: int, **more: Any) -> str:
    """A keyboard of `number` buttons in rows of five."""
    button = {"action": {"type": "text", "label": "x"}, "color": "primary"}
    rows = [[button] * min(5, number - at) for at in range(0, number, 5)]
    return json.dumps({"buttons": rows, **more})


def one_button(**action: Any) -> str:
    return json.dumps({"buttons": [[{"action": action}]]})


CARD = {"title": "x", "buttons": [{"action": {"type": "text", "label": "x"}}]}


def carousel(*cards: Any) -> str:
    return json.dumps({"type": "carousel", "elements": cards})


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"message": "я" * 4097}, 914),
        ({"message": " "}, 100),
        ({"random_id": ""}, 100),
        ({"random_id": "x"}, 100),
        ({"peer_id": "x"}, 100),
        ({"peer_id": ""}, 100),
        ({"peer_id": 2_000_000_001}, 917),
        ({"peer_ids": ",".join(map(str, range(1, 102)))}, 100),
        ({"attachment": "photo-1_5"}, 100),
        ({"attachment": "видео"}, 100),
        ({"keyboard": "{"}, 100),
        ({"keyboard": "[]"}, 911),
        ({"keyboard": json.dumps({"buttons": [5]})}, 911),
        ({"keyboard": json.dumps({"buttons": [[5]]})}, 911),
        ({"keyboard": buttons(41)}, 911),
        ({"keyboard": buttons(11, inline=True)}, 911),
        ({"keyboard": buttons(1, inline=True, one_time=True)}, 911),
        ({"keyboard": buttons(1, colour="red")}, 911),
        ({"keyboard": buttons(5).replace("[[", '[[{"action": {"type": "text", "label": "x"}},')}, 911),
        ({"keyboard": json.dumps({"buttons": [[]] * 11})}, 911),
        ({"keyboard": one_button(type="dance")}, 911),
        ({"keyboard": one_button(type="text", label="")}, 911),
        ({"keyboard": one_button(type="text", label="x" * 41)}, 911),
        ({"keyboard": one_button(type="text", label="x", link="https://vk.ru")}, 911),
        ({"keyboard": one_button(type="text", label="x", payload=None)}, 911),
        ({"keyboard": one_button(type="text", label="x", payload="{")}, 911),
        ({"keyboard": one_button(type="text", label="x", payload={"a": "x" * 255})}, 911),
        ({"keyboard": json.dumps({"buttons": [[{"action": {"type": "location"}, "color": "primary"}]]})}, 911),
        ({"template": "{"}, 100),
        ({"template": carousel(CARD), "message": ""}, 100),
        ({"template": json.dumps({"type": "dance", "elements": [CARD]})}, 911),
        ({"template": carousel()}, 911),
        ({"template": carousel(*[CARD] * 11)}, 911),
        ({"template": carousel(5)}, 911),
        ({"template": carousel(CARD | {"buttons": []})}, 911),
        ({"template": carousel(CARD | {"buttons": CARD["buttons"] * 4})}, 911),
        ({"template": carousel(CARD | {"buttons": [[]]})}, 911),
        ({"template": carousel({"buttons": CARD["buttons"]})}, 911),
        ({"template": carousel(CARD | {"title": "x" * 81})}, 911),
        ({"template": carousel(CARD | {"colour": "red"})}, 911),
        ({"template": carousel(CARD | {"photo_id": "photo-1_5"})}, 911),
        ({"template": carousel(CARD | {"photo_id": "-1_5"})}, 911),
        ({"template": carousel(CARD | {"action": {"type": "open_link"}})}, 911),
        ({"template": carousel(CARD, CARD | {"description": "x"})}, 911),
    ],
)
def test_what_vk_refuses_is_refused_and_nothing_is_shown(sandbox: Sandbox, person: int, params: Any, code: int) -> None:
    assert error(sandbox, "messages.send", **{"peer_id": person, "message": "x", "random_id": 1, **params}) == code
    assert sandbox.answers(person) == []


@pytest.mark.parametrize(
    "params",
    [
        {"message": "я" * 4096},
        {"keyboard": buttons(40)},
        {"keyboard": buttons(10, inline=True)},
        {"keyboard": buttons(0)},
        {"keyboard": one_button(type="text", label="x" * 40, payload={"a": "x" * 247})},
        {"keyboard": one_button(type="open_link", label="x", link="https://vk.ru")},
        {"template": carousel(*[CARD | {"title": "x" * 80, "action": {"type": "open_link", "link": "https://vk.ru"}}] * 10)},
    ],
)
def test_what_is_just_within_the_limits_is_taken(sandbox: Sandbox, person: int, params: Any) -> None:
    assert call(sandbox, "messages.send", **{"peer_id": person, "message": "x", "random_id": 1, **params})
    assert len(sandbox.answers(person)) == 1


# ---- execute


def test_the_pool_of_vk_api_gives_each_call_its_result(sandbox: Sandbox, vk: vk_api.VkApi, person: int) -> None:
    silent = sandbox.person()
    text = 'с "кавычками",\nпереносом и %'
    with VkRequestsPool(vk) as pool:
        sent = [
            pool.method("messages.send", {"peer_id": silent if number % 3 else person, "message": text, "random_id": number})
            for number in range(1, 31)
        ]
    assert [result.ok for result in sent] == [number % 3 == 0 for number in range(1, 31)]
    assert {result.error["error_code"] for result in sent if not result.ok} == {901}
    assert sandbox.answers(person) == [text] * 10
    with VkRequestsPool(vk) as pool:  # different methods make another script
        group, people = pool.method("groups.getById"), pool.method("users.get", {"user_ids": [person]})
    assert (group.result["groups"][0]["id"], people.result[0]["id"]) == (GROUP, person)
    names, errors = vk_request_one_param_pool(vk, "users.get", "user_ids", [person, silent])
    assert ({key: value[0]["id"] for key, value in names.items()}, errors) == ({person: person, silent: silent}, {})


def test_the_errors_of_a_script_stand_in_the_order_of_its_calls_and_the_last_again_for_execute(
    sandbox: Sandbox, person: int
) -> None:
    code = f"""
        var text = "два", a = API.messages.send({{"peer_id": 999, "message": "раз", "random_id": 1}});
        return [a, API.messages.send({{"peer_id": {person}, "message": text, "random_id": 2}}), API.no.such(), API.execute()];
    """
    result = answer(sandbox, "execute", code=code)
    assert [each is False for each in result["response"]] == [True, False, True, True]
    assert [(each["method"], each["error_code"]) for each in result["execute_errors"]] == [
        ("messages.send", 901),
        ("no.such", 3),
        ("execute", 3),
        ("execute", 3),
    ]
    assert sandbox.answers(person) == ["два"]


def test_the_26th_call_of_a_script_ends_it_and_the_first_25_stand(sandbox: Sandbox, person: int) -> None:
    code = f"""
        var i = 0;
        while (i < 26) {{ i = i + 1; API.messages.send({{"peer_id": {person}, "message": "" + i, "random_id": i}}); }}
        return i;
    """
    assert error(sandbox, "execute", code=code) == 13
    assert sandbox.answers(person) == [str(number) for number in range(1, 26)]


def test_a_script_may_hold_25_of_the_longest_messages(sandbox: Sandbox, person: int) -> None:
    text = "🙂" * 4096
    sends = [f'API.messages.send({{"peer_id":{person},"message":"{text}","random_id":{n}}})' for n in range(1, 26)]
    assert len(call(sandbox, "execute", code=f"return [{','.join(sends)}];")) == 25
    assert sandbox.answers(person) == [text] * 25


@pytest.mark.parametrize(("code", "expected"), [("return 1", 12), ("return nothing();", 13), ("", 100)])
def test_a_script_that_cannot_run_is_an_error(sandbox: Sandbox, code: str, expected: int) -> None:
    assert error(sandbox, "execute", code=code) == expected


def test_an_answer_of_a_script_has_a_largest_size(sandbox: Sandbox) -> None:
    double = "s = s + s;" * 13
    assert error(sandbox, "execute", code=f'var s = "{"x" * 1024}"; {double} return s;') == 13


# ---- reading


def test_the_history_fills_a_gap(sandbox: Sandbox, person: int) -> None:
    for text in ("2", "3", "4"):
        sandbox.say(person, text)

    def texts(**params: Any) -> list[str]:
        return [message["text"] for message in call(sandbox, "messages.getHistory", peer_id=person, **params)["items"]]

    ids = [message["id"] for message in sandbox.dialog(person)]
    assert texts() == ["4", "3", "2", "Привет"]
    assert texts(rev=1, count=2) == ["Привет", "2"]
    assert texts(offset=1, count=2) == ["3", "2"]
    assert texts(start_message_id=ids[1]) == ["2", "Привет"]
    assert texts(start_message_id=ids[1], offset=-2, count=2) == ["4", "3"]
    assert texts(start_message_id=ids[1], rev=1) == ["2", "3", "4"]
    history = call(sandbox, "messages.getHistory", peer_id=person, extended=1)
    assert (history["count"], history["profiles"][0]["id"], history["conversations"][0]["peer"]["id"]) == (4, person, person)


def test_conversations_are_unread_until_they_are_answered_or_marked(sandbox: Sandbox) -> None:
    people = [sandbox.person(name) for name in ("Анна", "Борис", "Вера")]
    for person in people:
        sandbox.say(person, "вопрос")
    sandbox.person("Глеб")  # has not written: no conversation

    def peers(**params: Any) -> list[int]:
        found = call(sandbox, "messages.getConversations", **params)
        assert found["count"] == len(found["items"]) or "count" in params
        return [item["conversation"]["peer"]["id"] for item in found["items"]]

    assert peers(filter="unread") == people[::-1]
    call(sandbox, "messages.send", peer_id=people[0], message="ответ", random_id=1)
    call(sandbox, "messages.markAsRead", peer_id=people[1])
    assert peers() == [people[0], people[2], people[1]]
    assert peers(count=1, offset=1) == [people[2]]
    assert peers(filter="unread") == peers(filter="unanswered") == [people[2]]
    [waiting] = call(sandbox, "messages.getConversations", filter="unread", extended=1)["items"]
    assert (waiting["conversation"]["unread_count"], waiting["last_message"]["text"]) == (1, "вопрос")


def test_people_are_found_by_number_and_by_address(sandbox: Sandbox, person: int) -> None:
    found = call(sandbox, "users.get", user_ids=f"id{person},999,durov")
    assert [(each["id"], each["first_name"], each["last_name"]) for each in found] == [(person, "Вера", "Ким")]


def test_typing_is_shown_until_the_answer(sandbox: Sandbox, person: int) -> None:
    def typing() -> Any:
        return requests.get(f"{sandbox.url}/control/messages", params={"peer_id": person}, timeout=10).json()["typing"]

    assert typing() is False
    assert call(sandbox, "messages.setActivity", peer_id=person, type="typing") == 1
    assert typing() is True
    call(sandbox, "messages.send", peer_id=person, message="вот", random_id=1)
    assert typing() is False


# ---- pictures


def test_a_picture_goes_the_whole_way_through_vk_api(sandbox: Sandbox, vk: vk_api.VkApi, person: int) -> None:
    [saved] = vk_api.VkUpload(vk).photo_messages(io.BytesIO(PIXEL), peer_id=person)
    name = f"photo{saved['owner_id']}_{saved['id']}_{saved['access_key']}"
    vk.method("messages.send", {"peer_id": person, "attachment": name, "random_id": 1})
    [attachment] = sandbox.dialog(person)[-1]["attachments"]
    [size] = attachment["photo"]["sizes"]
    assert (size["width"], size["height"]) == (1, 1)
    assert requests.get(size["url"], timeout=10).content == PIXEL
    assert requests.get(size["url"] + "x", timeout=10).status_code == 404


def test_what_is_no_picture_is_refused_when_it_is_saved(sandbox: Sandbox) -> None:
    url = call(sandbox, "photos.getMessagesUploadServer")["upload_url"]
    uploaded = requests.post(url, files={"photo": ("photo.png", b"no picture")}, timeout=10).json()
    assert error(sandbox, "photos.saveMessagesPhoto", **uploaded) == 100
    uploaded = requests.post(url, files={"photo": ("photo.png", PIXEL)}, timeout=10).json()
    assert error(sandbox, "photos.saveMessagesPhoto", **{**uploaded, "hash": "another"}) == 121


# ---- the way in


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no.such", {}, 3),
        ("users.get", {"v": ""}, 8),
        ("users.get", {"access_token": ""}, 5),
        ("groups.getLongPollServer", {"group_id": 999}, 15),
        ("groups.getLongPollServer", {}, 100),
    ],
)
def test_errors_have_vks_envelope_and_tell_no_token(sandbox: Sandbox, method: str, params: Any, code: int) -> None:
    failure = answer(sandbox, method, **params)["error"]
    assert failure["error_code"] == code
    assert failure["error_msg"]
    sent = {each["key"]: each["value"] for each in failure["request_params"]}
    assert sent["method"] == method
    assert "access_token" not in sent


@pytest.mark.parametrize(
    ("verb", "in_address", "in_body"),
    [
        ("GET", ("v", "access_token", "user_ids"), ()),
        ("POST", ("v", "access_token", "user_ids"), ()),
        ("POST", ("v", "access_token"), ("user_ids",)),
        ("POST", ("user_ids",), ("v", "access_token")),
    ],
)
def test_parameters_may_stand_in_the_address_or_in_the_body(
    sandbox: Sandbox, person: int, verb: str, in_address: Sequence[str], in_body: Sequence[str]
) -> None:
    values = {"v": "5.199", "access_token": "any", "user_ids": person}
    query, form = ({name: values[name] for name in names} for names in (in_address, in_body))
    response = requests.request(verb, f"{sandbox.url}/method/users.get", params=query, data=form, timeout=10).json()
    assert response["response"][0]["id"] == person


def test_only_the_token_that_was_set_is_taken(sandbox: Sandbox) -> None:
    sandbox.post("settings", token="right")
    assert error(sandbox, "users.get", access_token="wrong") == 5
    assert answer(sandbox, "users.get", access_token="right") == {"response": []}
    sandbox.post("settings", token=None)
    assert answer(sandbox, "users.get", access_token="wrong") == {"response": []}


def test_no_second_of_a_token_holds_more_requests_than_its_limit(sandbox: Sandbox) -> None:
    sandbox.post("settings", requests_per_second=5)
    taken: list[tuple[float, float]] = []
    refused = 0
    while len(taken) < 12:
        sent = time.monotonic()
        result = answer(sandbox, "users.get")
        if "response" in result:
            taken.append((sent, time.monotonic()))
        else:
            assert result["error"]["error_code"] == 6
            refused += 1
            assert "response" in answer(sandbox, "users.get", access_token=f"another {refused}")
    # the sixth was taken at least a second after the first, whatever the clocks of the two sides say
    assert all(later[1] - earlier[0] >= 1 for earlier, later in zip(taken, taken[5:], strict=False))
    sandbox.post("settings", requests_per_second=None)
    assert all("response" in answer(sandbox, "users.get") for _ in range(12))


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("messages", b"{", 400, "JSON"),
        ("messages", b"[]", 400, "dictionary"),
        ("messages", b'{"from_id": 999, "text": "x"}', 404, "no person 999"),
        ("messages", b'{"from_id": 101, "text": " "}', 400, "text"),
        ("messages", b'{"text": "x"}', 400, "from_id"),
        ("messages", b'{"from_id": 101, "text": "x", "txet": 1}', 400, "txet"),
        ("people", b'{"first_name": ""}', 400, "first_name"),
        ("presses", b'{"from_id": 101, "conversation_message_id": 7}', 404, "no message 7"),
        ("faults", b'{"fault": "failed"}', 400, "code"),
        ("faults", b'{"fault": "unexplained"}', 400, "method"),
        ("faults", b'{"fault": "dance"}', 400, "fault"),
        ("settings", b"[]", 400, "object"),
        ("settings", b'{"requests_per_second": 0}', 400, "requests_per_second"),
        ("settings", b'{"speed": 1}', 400, "speed"),
    ],
)
def test_the_control_api_says_what_is_wrong(sandbox: Sandbox, path: str, body: bytes, status: int, said: str) -> None:
    response = requests.post(f"{sandbox.url}/control/{path}", data=body, headers={"Content-Type": "application/json"}, timeout=10)
    assert response.status_code == status
    assert said in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("messages", 400), ("messages?peer_id=999", 404), ("messages?peer_id=x", 400), ("presses/x", 404), ("nothing", 404)],
)
def test_so_does_reading_from_it(sandbox: Sandbox, path: str, status: int) -> None:
    assert requests.get(f"{sandbox.url}/control/{path}", timeout=10).status_code == status


def test_there_are_two_people_to_begin_with_in_the_projects_language(tmp_path: Path) -> None:
    for language, name in (("ru", "Анна"), ("en", "Anna")):
        app = create_app(make_settings(data_dir=tmp_path / language, app_language=language))
        people = app.test_client().get("/control/people").get_json()["items"]
        assert (people[0]["first_name"], len(people)) == (name, 2)


def test_a_file_of_another_shape_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        client = create_app(make_settings(data_dir=tmp_path)).test_client()
        client.post("/control/people", json={"first_name": "Вера"})
        return [person["first_name"] for person in client.get("/control/people").get_json()["items"]]

    assert (names(), names()) == (["Анна", "Иван", "Вера"], ["Анна", "Иван", "Вера", "Вера"])
    monkeypatch.setattr(store, "SHAPE", store.SHAPE + 1)
    assert names() == ["Анна", "Иван", "Вера"]


def test_it_is_alive_and_ready(sandbox: Sandbox) -> None:
    for path in ("healthz", "readyz"):
        assert requests.get(f"{sandbox.url}/{path}", timeout=10).text == "ok"


def test_it_is_not_for_production(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="development"):
        create_app(make_settings(data_dir=tmp_path, app_env="production"))
    assert list(tmp_path.iterdir()) == []
