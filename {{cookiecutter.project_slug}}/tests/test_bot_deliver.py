"""The outbox: what VK's answers mean, and how messages get to the sandbox."""

import io
import socket
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.bot.deliver import LEASE, REPEATABLE, deliver, settle
from app.bot.loops import Bot
from app.bot.vk import Elsewhere, Fault, SendResult, Vk, VkError
from app.settings import Settings, SettingsError
from app.storage.engine import make_engine
from app.storage.models import Conversation, Delivery, DeliveryState, Direction, Message, Person, Ticket, now
from app.storage.pace import Turns
from tests.bot import Sandbox
from tests.conftest import make_settings

NOW = now()
UNFINISHED = (DeliveryState.PENDING, DeliveryState.SENDING)


@pytest.fixture
def vk(sandbox: Sandbox) -> Vk:
    return Vk(make_settings(vk_api_url=sandbox.url))


def claimed(**more: Any) -> Delivery:
    """A delivery as it is after its first claim."""
    values = {"state": DeliveryState.SENDING, "attempts": 1, "first_tried_at": NOW, "next_try_at": NOW + LEASE, **more}
    return Delivery(peer_id=101, text="a", random_id=1, **values)


@pytest.mark.parametrize(
    ("codes", "fault", "state", "pause"),
    [
        ((None, 1, 6, 10), Fault.RETRY, DeliveryState.PENDING, (0.5, 1)),
        ((9, 29), Fault.SLOW, DeliveryState.PENDING, (30, 60)),
        ((5, 14, 15, 17, 25, 27, 28), Fault.TOKEN, DeliveryState.PENDING, (30, 60)),
        ((7, 900, 901, 902, 936, 945, 950), Fault.PEER, DeliveryState.FAILED, None),
        ((100, 911, 912, 913, 914, 777), Fault.OURS, DeliveryState.FAILED, None),
    ],
)
def test_every_error_has_its_consequence(
    codes: tuple[int | None, ...], fault: Fault, state: DeliveryState, pause: tuple[float, float] | None
) -> None:
    for code in codes:
        row, error = claimed(), VkError("it failed", code)
        settle(row, error, NOW)
        assert (error.fault, row.state, row.error, row.error_code) == (fault, state, "it failed", code)
        if pause:
            assert pause[0] <= (row.next_try_at - NOW).total_seconds() <= pause[1]


def test_the_pause_grows_up_to_ten_minutes() -> None:
    for attempts, longest in [(1, 1), (4, 8), (50, 600)]:
        row = claimed(attempts=attempts)
        settle(row, VkError("it failed", 10), NOW)
        assert longest / 2 <= (row.next_try_at - NOW).total_seconds() <= longest


@pytest.mark.parametrize(
    ("error", "first_tried_before", "kept"),
    [
        (VkError("refused", 6), timedelta(0), False),
        (VkError("no connection"), timedelta(0), False),
        (VkError("no answer", unsure=True), timedelta(0), True),
        (VkError("internal error", 10), timedelta(0), True),
        (VkError("refused", 6), timedelta(minutes=1), True),  # what an earlier try did is still not known
    ],
)
def test_a_try_that_surely_failed_does_not_count(error: VkError, first_tried_before: timedelta, kept: bool) -> None:
    row = claimed(first_tried_at=NOW - first_tried_before)
    settle(row, error, NOW)
    assert (row.first_tried_at is not None) == kept


def sent_by(vk: Vk, *rows: Delivery) -> list[SendResult]:
    return vk.send(rows)


def test_one_execute_tells_each_message_from_the_others(sandbox: Sandbox, vk: Vk) -> None:
    sandbox.say(101, "привет")
    sandbox.say(102, "привет")
    fine, stranger, long, empty, also_fine = sent_by(
        vk,
        Delivery(peer_id=101, text="раз", random_id=1),
        Delivery(peer_id=999, text="кто вы", random_id=2),
        Delivery(peer_id=102, text="д" * 4097, random_id=3),
        Delivery(peer_id=102, text="", random_id=4),
        Delivery(peer_id=102, text="два", random_id=5),
    )
    assert (fine, also_fine) == (2, 2)
    assert [error.code for error in (stranger, long, empty) if isinstance(error, VkError)] == [901, 914, 100]
    assert (sandbox.answers(101), sandbox.answers(102)) == (["раз"], ["два"])


@pytest.mark.parametrize(
    "text",
    [
        '"}); API.messages.send({peer_ids: "102", message: "x"}); return [1]; //',
        "a\\",
        "{0} %s \u2028\u2029 \t\n'",
        "👍🏽 ё <b>",
        "\x01",
    ],
)
def test_no_text_can_break_out_of_the_script(sandbox: Sandbox, vk: Vk, text: str) -> None:
    sandbox.say(101, "привет")
    sandbox.say(102, "привет")
    keyboard = {"one_time": False, "buttons": [[{"action": {"type": "text", "label": "\"'\\", "payload": '{"a": "\\""}'}}]]}
    assert sent_by(vk, Delivery(peer_id=101, text=text, random_id=1, keyboard=keyboard)) == [2]
    (_, message) = sandbox.dialog(101)
    assert message["text"] == text
    assert message["keyboard"]["buttons"] == keyboard["buttons"]
    assert sandbox.answers(102) == []


def test_a_repeat_is_the_same_message(sandbox: Sandbox, vk: Vk) -> None:
    sandbox.say(101, "привет")
    row = Delivery(peer_id=101, text="раз", random_id=7)
    assert sent_by(vk, row) == sent_by(vk, row) == [2]
    assert sandbox.answers(101) == ["раз"]


def test_too_many_requests_is_an_error_and_not_a_loop(sandbox: Sandbox, vk: Vk) -> None:
    sandbox.post("settings", requests_per_second=1)
    vk.call("groups.getById")
    with pytest.raises(VkError) as caught:
        vk.call("groups.getById")
    assert (caught.value.code, caught.value.fault) == (6, Fault.RETRY)


def test_all_who_call_with_one_token_take_turns(settings: Settings, engine: Engine) -> None:
    other = make_engine(settings.database)  # of another process
    Turns(engine, "vk:2", 1, 60).take()
    Turns(engine, "vk:1", 5, 0.3).take()
    turns: list[float] = []

    def use_tickets(engine: Engine) -> None:
        for _ in range(5):
            with Session(engine) as session, session.begin():
                ticket = Turns(engine, "vk:1", 5, 0.3)._use_ticket(session)
                assert ticket
                turns.append(ticket[0])

    threads = [threading.Thread(target=use_tickets, args=[each]) for each in (engine, engine, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turns.sort()
    assert len(turns) == 20
    assert min(later - earlier for earlier, later in zip(turns, turns[5:], strict=False)) > 0.3 - 1e-5
    other.dispose()


def test_turns_that_are_free_are_given_at_once(engine: Engine) -> None:
    turns = Turns(engine, "vk:1", 2, 50)
    turns.take()
    turns.take()
    with Session(engine) as session, session.begin():
        assert turns.reserve(session) > time.monotonic() + 30


def test_a_clock_that_was_wrong_stops_nobody(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Ticket(name="vk:1", number=0, free_at=time.time() + 86400))
    Turns(engine, "vk:1", 1, 1).take()
    with Session(engine) as session:
        assert session.scalars(select(Ticket.free_at)).one() < time.time() + 60


def test_a_wrong_token_is_named_without_being_shown(sandbox: Sandbox, vk: Vk) -> None:
    sandbox.post("settings", token="the-right-one")
    with pytest.raises(VkError) as caught:
        vk.call("groups.getById")
    assert caught.value.fault is Fault.TOKEN
    assert "secret vk_token" in str(caught.value)
    assert make_settings().secret("vk_token") not in f"{caught.value} {vars(caught.value)}"


def server(answer: bytes) -> str:
    """An address where the first request gets `answer`, byte for byte, and the line is cut."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def page(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("answer", "said", "unsure"),
    [
        (b"", "VK does not answer (execute: ConnectionError)", True),
        (page("502 Bad Gateway", "<html>"), "VK answers execute with HTTP status 502", True),
        (page("200 OK", "<html>"), "VK's answer to execute cannot be read", True),
        (page("200 OK", "[]"), "VK's answer to execute cannot be read", True),
        (page("200 OK", '{"error": {}}'), "VK's answer to execute cannot be read", True),
        (page("200 OK", '{"response": [1, 2]}'), "VK's answer to execute cannot be read", True),
    ],
)
def test_an_answer_that_is_none_is_one_short_line(answer: bytes, said: str, unsure: bool) -> None:
    vk = Vk(make_settings(vk_api_url=server(answer)))
    with pytest.raises(VkError) as caught:
        sent_by(vk, Delivery(peer_id=101, text="a", random_id=1))
    assert (str(caught.value), caught.value.unsure, caught.value.fault) == (said, unsure, Fault.RETRY)


def test_a_vk_that_cannot_be_reached_says_where_to_look() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    without_internet = Vk(make_settings())
    without_internet._session.mount("https://", Elsewhere(nobody))
    without_sandbox = Vk(make_settings(vk_api_url=nobody))
    for vk, said in ((without_internet, "network egress?"), (without_sandbox, f"does the sandbox run at {nobody}?")):
        with pytest.raises(VkError) as caught:
            vk.call("users.get")
        assert str(caught.value).startswith("VK does not answer (users.get: ConnectionError): ")
        assert str(caught.value).endswith(said)
        assert (caught.value.unsure, caught.value.fault) == (False, Fault.RETRY)


def test_the_sandbox_is_not_for_production() -> None:
    with pytest.raises(SettingsError, match="VK_API_URL"):
        Vk(make_settings(vk_api_url="http://sandbox", app_env="production"))


@pytest.fixture
def bot(settings: Settings, engine: Engine, sandbox: Sandbox) -> Bot:
    return Bot(settings.model_copy(update={"vk_api_url": sandbox.url}), engine)


def deliver_all(bot: Bot) -> None:
    """Let the loop go round until nothing is due."""
    with closing(deliver(bot)) as rounds:
        for _ in rounds:
            if not any(row.state in UNFINISHED and row.next_try_at <= now() + LEASE for row in rows(bot.engine)):
                return


def put(engine: Engine, *deliveries: Delivery) -> None:
    """Deliveries of messages in the conversation with their peer."""
    with Session(engine) as session, session.begin():
        for row in deliveries:
            conversation = session.scalar(select(Conversation).where(Conversation.peer_id == row.peer_id))
            if conversation is None:
                conversation = Conversation(peer_id=row.peer_id, person=Person(vk_id=row.peer_id))
            row.message = Message(conversation=conversation, direction=Direction.OUT, author="bot", text=row.text)
            session.add(row)
            session.flush()


def rows(engine: Engine) -> list[Delivery]:
    with Session(engine) as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def test_the_outbox_is_sent_in_order_and_numbered(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    put(bot.engine, *(Delivery(peer_id=101, text=str(number), random_id=number) for number in range(1, 6)))
    deliver_all(bot)
    assert sandbox.answers(101) == ["1", "2", "3", "4", "5"]
    with Session(bot.engine) as session:
        assert session.scalars(select(Message.cmid).order_by(Message.id)).all() == [2, 3, 4, 5, 6]
    assert all(row.state == DeliveryState.SENT and row.sent_at for row in rows(bot.engine))


def test_a_person_who_cannot_be_reached_is_marked_and_stops_nobody(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    put(bot.engine, Delivery(peer_id=999, text="a", random_id=1), Delivery(peer_id=101, text="b", random_id=2))
    deliver_all(bot)
    assert [(row.state, row.error_code) for row in rows(bot.engine)] == [(DeliveryState.FAILED, 901), (DeliveryState.SENT, None)]
    with Session(bot.engine) as session:
        assert session.scalars(select(Person.reachable).order_by(Person.vk_id)).all() == [True, False]


def test_a_message_that_spoils_the_call_for_all_fails_alone(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    sandbox.say(102, "привет")
    answer = sandbox.app.wsgi_app

    def refuse_poison(environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if b"poison" not in body:
            return answer({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"error": {"error_code": 12, "error_msg": "Unable to compile code"}}']

    sandbox.app.wsgi_app = refuse_poison
    put(bot.engine, Delivery(peer_id=101, text="poison", random_id=1), Delivery(peer_id=102, text="b", random_id=2))
    deliver_all(bot)
    assert [(row.state, row.error_code) for row in rows(bot.engine)] == [(DeliveryState.FAILED, 12), (DeliveryState.SENT, None)]
    assert sandbox.answers(102) == ["b"]


def test_what_may_have_been_sent_an_hour_ago_is_held_for_a_person_to_decide(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    long_ago = now() - REPEATABLE
    put(bot.engine, Delivery(peer_id=101, text="a", random_id=1, first_tried_at=long_ago, attempts=3))
    put(bot.engine, Delivery(peer_id=101, text="b", random_id=2))
    deliver_all(bot)
    assert [row.state for row in rows(bot.engine)] == [DeliveryState.HELD, DeliveryState.SENT]
    assert sandbox.answers(101) == ["b"]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_files_are_given_to_vk_once_and_sent(bot: Bot, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.say(101, "привет")
    file = tmp_path / "price.txt"
    file.write_text("дорого")
    put(
        bot.engine,
        Delivery(peer_id=101, text="a", random_id=1, upload={"kind": "photo", "name": "a.png", "data": PIXEL}),
        Delivery(peer_id=101, text="b", random_id=2, upload={"kind": "doc", "name": "price.txt", "path": str(file)}),
        Delivery(peer_id=101, text="c", random_id=3, upload={"kind": "doc", "name": "x.txt", "path": str(tmp_path / "x")}),
        Delivery(peer_id=101, text="d", random_id=4),
    )
    deliver_all(bot)
    assert [(row.state, row.upload is None) for row in rows(bot.engine)] == [
        (DeliveryState.SENT, True),
        (DeliveryState.SENT, True),
        (DeliveryState.FAILED, False),
        (DeliveryState.SENT, True),
    ]
    assert "cannot be read" in str(rows(bot.engine)[2].error)
    sent = [message for message in sandbox.dialog(101) if message["from_id"] < 0]
    assert [(message["text"], [each["type"] for each in message["attachments"]]) for message in sent] == [
        ("a", ["photo"]),
        ("b", ["doc"]),
        ("d", []),
    ]


def test_presses_are_acknowledged_with_the_messages(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    press = sandbox.post("presses", from_id=101, conversation_message_id=1)["event_id"]
    with Session(bot.engine) as session, session.begin():
        session.add(Delivery(peer_id=101, text="принято", random_id=1, press={"event_id": press, "user_id": 101}))
    put(bot.engine, Delivery(peer_id=101, text="раз", random_id=2))
    deliver_all(bot)
    assert [row.state for row in rows(bot.engine)] == [DeliveryState.SENT] * 2
    answer = requests.get(f"{sandbox.url}/control/presses/{press}", timeout=10).json()
    assert answer == {"answered": True, "answer": {"type": "show_snackbar", "text": "принято"}}
    assert sandbox.answers(101) == ["раз"]


def test_a_wrong_token_puts_everything_back(bot: Bot, sandbox: Sandbox) -> None:
    sandbox.say(101, "привет")
    sandbox.post("settings", token="the-right-one")
    put(bot.engine, Delivery(peer_id=101, text="a", random_id=1))
    with pytest.raises(VkError, match="refuses the token"):
        deliver_all(bot)
    (row,) = rows(bot.engine)
    assert (row.state, row.first_tried_at, row.error_code) == (DeliveryState.PENDING, None, 5)
    sandbox.post("settings", token=None)
    deliver_all(bot)
    assert sandbox.answers(101) == ["a"]


def test_news_of_another_workers_delivery_are_not_overwritten(bot: Bot, sandbox: Sandbox) -> None:
    """VK is slow to refuse, the lease is over, and another worker has sent it meanwhile."""
    sandbox.say(101, "привет")
    put(bot.engine, Delivery(peer_id=999, text="a", random_id=1))
    sandbox.post("settings", latency_ms=1000)
    slow = threading.Thread(target=lambda: next(deliver(bot)))
    slow.start()
    taken_over = update(Delivery).where(Delivery.state == DeliveryState.SENDING)
    while True:
        with Session(bot.engine) as session, session.begin():
            if session.execute(taken_over.values(state=DeliveryState.SENT, attempts=2).returning(Delivery.id)).all():
                break
    slow.join()
    assert [(row.state, row.error) for row in rows(bot.engine)] == [(DeliveryState.SENT, None)]
