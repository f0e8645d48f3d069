"""Every fault of the sandbox, and every wrong state of a community, as a plain HTTP client sees them."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from sqlalchemy.orm import Session

from app.sandbox.store import Memory
from tests.bot import Sandbox
from tests.test_sandbox import GROUP, answer, call, error, poll


def hits(sandbox: Sandbox) -> list[int]:
    return [item["hits"] for item in requests.get(f"{sandbox.url}/control/faults", timeout=10).json()["items"]]


def clear(sandbox: Sandbox) -> None:
    assert requests.delete(f"{sandbox.url}/control/faults", timeout=10).status_code == 204


@pytest.fixture
def person(sandbox: Sandbox) -> int:
    person = sandbox.person()
    sandbox.say(person, "Привет")
    return person


def send(peer_id: int, text: str = "ответ", random_id: int = 7) -> dict[str, Any]:
    return {"peer_id": peer_id, "message": text, "random_id": random_id}


def request(sandbox: Sandbox, what: str, person: int) -> requests.Response:
    """One request of each kind that can be struck."""
    if what == "longpoll":
        key = {"act": "a_check", "key": poll_key(sandbox), "ts": "0", "wait": 0}
        return requests.get(f"{sandbox.url}/whp/{GROUP}", params=key, timeout=10)
    if what == "upload":
        return requests.post(f"{sandbox.url}/upload/doc", files={"file": ("a.txt", b"a")}, timeout=10)
    params = {"v": "5.199", "access_token": "any", **send(person)}
    return requests.post(f"{sandbox.url}/method/{what}", data=params, timeout=10)


def poll_key(sandbox: Sandbox) -> str:
    with Session(sandbox.parts.engine) as session:
        return str(session.get_one(Memory, "longpoll").value["key"])


@pytest.mark.parametrize("what", ["messages.send", "longpoll", "upload"])
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"fault": "http"}, requests.JSONDecodeError),
        ({"fault": "html"}, requests.JSONDecodeError),
        ({"fault": "reset"}, requests.exceptions.ChunkedEncodingError),
        ({"fault": "hang", "seconds": 0.2}, requests.exceptions.ChunkedEncodingError),
    ],
)
def test_a_request_that_is_struck_was_not_heard_and_the_next_one_is(
    sandbox: Sandbox, person: int, what: str, fault: dict[str, Any], expected: type[Exception]
) -> None:
    sandbox.post("faults", **fault, method=what, times=1)
    with pytest.raises(expected):
        request(sandbox, what, person).json()
    assert hits(sandbox) == [1]
    assert sandbox.answers(person) == []
    assert "error" not in request(sandbox, what, person).json()
    assert hits(sandbox) == [1]


def test_the_status_is_the_one_that_was_asked_for(sandbox: Sandbox) -> None:
    for fault, status in (({"fault": "http"}, 502), ({"fault": "http", "code": 504}, 504), ({"fault": "html"}, 200)):
        sandbox.post("faults", **fault, times=1)
        response = requests.post(f"{sandbox.url}/method/users.get", timeout=10)
        assert (response.status_code, response.text[:6]) == (status, "<html>")


def test_a_lost_answer_is_one_to_a_message_that_was_delivered(sandbox: Sandbox, person: int) -> None:
    sandbox.post("faults", fault="lost", method="messages.send", times=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        call(sandbox, "messages.send", **send(person))
    assert sandbox.answers(person) == ["ответ"]
    call(sandbox, "messages.send", **send(person))
    assert sandbox.answers(person) == ["ответ"]


def test_a_fault_without_a_method_strikes_every_method_and_no_poll_until_it_is_cleared(sandbox: Sandbox, person: int) -> None:
    sandbox.post("faults", fault="error", code=10)
    assert request(sandbox, "longpoll", person).json()["updates"]
    assert [error(sandbox, method) for method in ("users.get", "groups.getById", "execute")] == [10, 10, 10]
    assert hits(sandbox) == [3]
    clear(sandbox)
    assert (hits(sandbox), "response" in answer(sandbox, "users.get")) == ([], True)


def test_who_hangs_is_let_go_when_the_faults_are_cleared(sandbox: Sandbox, person: int) -> None:
    sandbox.post("faults", fault="hang", method="longpoll")
    threading.Timer(0.3, clear, [sandbox]).start()
    started = time.monotonic()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        poll(sandbox)
    assert time.monotonic() - started < 20  # it would have been a minute


def script(*peers: int) -> str:
    sends = (f"API.messages.send({json.dumps({'peer_id': peer, 'message': 'x', 'random_id': peer})})" for peer in peers)
    return f"return [{','.join(sends)}];"


def test_some_calls_of_a_script_fail_and_say_why_in_their_order(sandbox: Sandbox, person: int) -> None:
    sandbox.post("faults", fault="error", code=6, method="messages.send", times=2)
    result = answer(sandbox, "execute", code=script(person, person, person))
    assert [each is False for each in result["response"]] == [True, True, False]
    assert [(each["method"], each["error_code"]) for each in result["execute_errors"]] == [
        ("messages.send", 6),
        ("messages.send", 6),
        ("execute", 6),
    ]
    assert sandbox.answers(person) == ["x"]


def test_a_call_of_a_script_can_fail_without_a_word(sandbox: Sandbox, person: int) -> None:
    sandbox.post("faults", fault="unexplained", method="messages.send", times=1)
    result = answer(sandbox, "execute", code=script(person, 999))
    assert result["response"] == [False, False]
    assert [each["error_code"] for each in result["execute_errors"]] == [901, 901]
    assert sandbox.answers(person) == []


@pytest.mark.parametrize("code", [1, 5, 7, 9, 10, 14, 17, 29, 900, 902, 936, 945, 950, 12345])
def test_any_error_can_strike_one_peer(sandbox: Sandbox, person: int, code: int) -> None:
    other = sandbox.person()
    sandbox.say(other, "и я")
    sandbox.post("faults", fault="error", code=code, peer_id=person)
    refused = answer(sandbox, "messages.send", **send(person))["error"]
    assert (refused["error_code"], "captcha_sid" in refused) == (code, code == 14)
    assert call(sandbox, "messages.send", **send(other))
    many = answer(sandbox, "messages.send", peer_ids=f"{other},{person}", message="всем", random_id=8)
    if code in (7, 900, 902, 936, 945, 950):
        assert [each.get("error", {}).get("code") for each in many["response"]] == [None, code]
    else:
        assert many["error"]["error_code"] == code
    inside = answer(sandbox, "execute", code=script(person, other))
    assert [each["error_code"] for each in inside["execute_errors"]] == [code, code]
    assert inside["response"][1]
    assert "x" not in sandbox.answers(person)


@pytest.mark.parametrize(
    ("code", "said"), [(1, {"failed": 1, "ts": 1}), (2, {"failed": 2}), (3, {"failed": 3}), (9, {"failed": 9})]
)
def test_the_long_poll_fails_with_any_code(sandbox: Sandbox, person: int, code: int, said: Any) -> None:
    sandbox.post("faults", fault="failed", code=code, times=1)
    assert poll(sandbox) == said
    assert poll(sandbox)["updates"]


def test_history_is_forgotten_and_a_ts_from_before_is_too_old(sandbox: Sandbox, person: int) -> None:
    sandbox.say(person, "ещё")
    sandbox.post("faults", fault="forget")
    assert poll(sandbox, ts="1") == {"failed": 1, "ts": 2}
    assert poll(sandbox, ts="2") == {"ts": "2", "updates": []}
    sandbox.say(person, "новое")
    assert [update["object"]["message"]["text"] for update in poll(sandbox, ts="2")["updates"]] == ["новое"]
    assert poll(sandbox, ts="1") == {"failed": 1, "ts": 3}


def test_an_update_comes_twice_and_then_once_more(sandbox: Sandbox, person: int) -> None:
    sandbox.say(person, "ещё")
    sandbox.post("faults", fault="repeat", times=1)
    first = poll(sandbox)
    again = poll(sandbox, ts=first["ts"])
    assert (first["ts"], again["ts"]) == ("0", "2")
    assert [update["event_id"] for update in first["updates"]] == [
        update["event_id"] for update in again["updates"] for _ in range(2)
    ]


def test_malformed_updates_wake_who_waits_and_stand_before_the_others(sandbox: Sandbox, person: int) -> None:
    threading.Timer(0.3, sandbox.post, ["faults"], {"fault": "malformed", "times": 1}).start()
    odd = poll(sandbox, ts="1", wait=25)
    assert odd["ts"] == "1"
    assert None in odd["updates"]
    assert (
        len({update["event_id"] for update in odd["updates"] if isinstance(update, dict) and update}) == len(odd["updates"]) - 3
    )
    sandbox.post("faults", fault="malformed", times=1)
    assert poll(sandbox)["updates"][-1]["object"]["message"]["text"] == "Привет"


# ---- consent


def test_a_person_forbids_and_allows_and_the_community_hears_of_each_change(sandbox: Sandbox, person: int) -> None:
    for allowed in (True, False, False, True):
        assert sandbox.post(f"people/{person}", allowed=allowed)["allowed"] is allowed
        assert error_of(answer(sandbox, "messages.send", **send(person))) == (None if allowed else 901)
    updates = poll(sandbox, ts="1")["updates"]
    assert [(update["type"], update["object"]["user_id"]) for update in updates] == [
        ("message_deny", person),
        ("message_allow", person),
    ]


def error_of(result: dict[str, Any]) -> int | None:
    return result["error"]["error_code"] if "error" in result else None


# ---- how the community is set up


STATES: list[tuple[dict[str, Any], Callable[[Sandbox], Any], Any]] = [
    ({"token": "another"}, lambda box: error(box, "groups.getById"), 5),
    ({"permissions": ["photos"]}, lambda box: error(box, "messages.send", peer_id=101, message="x", random_id=1), 15),
    ({"permissions": ["messages"]}, lambda box: error(box, "photos.getMessagesUploadServer"), 15),
    ({"permissions": ["messages"]}, lambda box: error(box, "groups.getLongPollSettings", group_id=GROUP), 15),
    ({"permissions": ["messages"]}, lambda box: call(box, "groups.getTokenPermissions")["mask"], 4096),
    ({"permissions": []}, lambda box: call(box, "groups.getTokenPermissions")["permissions"], []),
    ({"messages_enabled": False}, lambda box: error(box, "messages.getConversations"), 15),
    ({"longpoll_enabled": False}, lambda box: error(box, "groups.getLongPollServer", group_id=GROUP), 100),
    ({"longpoll_enabled": False}, lambda box: call(box, "groups.getLongPollSettings", group_id=GROUP)["is_enabled"], False),
    ({"longpoll_version": "5.92"}, lambda box: call(box, "groups.getLongPollSettings", group_id=GROUP)["api_version"], "5.92"),
    ({"events": []}, lambda box: call(box, "groups.getLongPollSettings", group_id=GROUP)["events"]["message_new"], 0),
]


@pytest.mark.parametrize(("changes", "look", "seen"), STATES)
def test_every_wrong_state_can_be_seen_and_put_right(
    sandbox: Sandbox, changes: dict[str, Any], look: Callable[[Sandbox], Any], seen: Any
) -> None:
    before = sandbox.post("settings")
    sandbox.post("settings", **changes)
    assert look(sandbox) == seen
    sandbox.post("settings", **{name: before[name] for name in changes})
    with pytest.raises((AssertionError, KeyError)):
        assert look(sandbox) == seen


def test_events_that_are_off_do_not_come_and_old_versions_have_another_form(sandbox: Sandbox, person: int) -> None:
    sandbox.post("settings", events=["message_allow"])
    sandbox.say(person, "не слышно")
    assert poll(sandbox, ts="1")["updates"] == []
    sandbox.post("settings", longpoll_version="5.92")
    [update] = poll(sandbox)["updates"]
    assert (update["v"], update["object"]["text"]) == ("5.92", "Привет")


def test_the_memory_for_random_ids_can_be_short(sandbox: Sandbox, person: int) -> None:
    sandbox.post("settings", random_id_messages=1)
    for random_id in (7, 7, 8, 7):
        call(sandbox, "messages.send", **send(person, str(random_id), random_id))
    assert sandbox.answers(person) == ["7", "8", "7"]
