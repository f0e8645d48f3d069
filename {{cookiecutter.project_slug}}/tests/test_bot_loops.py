"""The three loops together, against the real sandbox: what people write is answered once, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from app.bot import loops
from app.bot import receive as receive_room
from app.bot.loops import Bot, Pulse
from app.bot.receive import DeposedError, _leadership, _Receiver
from app.bot.texts import fill, load_texts
from app.sandbox import store
from app.settings import Settings
from app.storage import desk
from app.storage.migrate import migrate
from app.storage.models import (
    Conversation,
    ConversationStatus,
    Cursor,
    Delivery,
    DeliveryState,
    Direction,
    Event,
    EventState,
    Heartbeat,
    Message,
    Operator,
    Person,
)
from tests.bot import Sandbox, all_of, running, wait_for
from tests.conftest import on_postgresql, on_sqlite

TEXTS = load_texts("ru")
QUESTION = TEXTS.questions[0]
PROJECT = Path(__file__).parent.parent


@pytest.fixture
def bot_settings(settings: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # a poll that is under way cannot be stopped, and no test should wait 25 seconds for its end
    monkeypatch.setattr(receive_room, "POLL_WAIT", 1)
    monkeypatch.setattr(receive_room, "STANDBY", 1.0)
    monkeypatch.setattr(loops, "HEARTBEAT", 0.5)
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.1)
    return settings.model_copy(update={"vk_api_url": sandbox.url})


def problems(engine: Engine) -> dict[str, str | None]:
    return {row.name: row.problem for row in all_of(engine, Heartbeat)}


def test_a_message_is_answered_from_end_to_end(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person("Вера")
    with running(bot_settings) as bot:
        sandbox.say(vera, "Начать", payload={"command": "start"})
        wait_for(lambda: all_of(bot.engine, Delivery) and all_of(bot.engine, Delivery)[0].state == DeliveryState.SENT)
        (answer,) = sandbox.dialog(vera)[1:]
        assert answer["text"] == TEXTS.greeting.replace("{name}", ", Вера")
        labels = [button["action"]["label"] for row in answer["keyboard"]["buttons"] for button in row]
        buttons = TEXTS.buttons
        assert labels == [buttons.topics, buttons.questions, buttons.request, buttons.human]
        assert [person.name for person in all_of(bot.engine, Person)] == ["Вера Ким"]
        assert [(row.direction, row.cmid) for row in all_of(bot.engine, Message)] == [(Direction.IN, 1), (Direction.OUT, 2)]
        wait_for(lambda: problems(bot.engine) == {"bot.receive": None, "bot.answer": None, "bot.deliver": None})


def test_a_question_goes_to_the_operators_and_back(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    with running(bot_settings) as bot:
        sandbox.say(vera, "Начать")
        sandbox.say(vera, "Мой кот съел чек")
        wait_for(lambda: len(sandbox.answers(vera)) == 2)
        sandbox.say(vera, "Вы тут?")
        wait_for(lambda: len(all_of(bot.engine, Message)) == 5)
        (conversation,) = all_of(bot.engine, Conversation)
        assert conversation.status == ConversationStatus.OPEN
        with Session(bot.engine) as session, session.begin():
            desk.answer(session, session.get_one(Conversation, conversation.id), "Бывает. Пришлите фото кота.")
        wait_for(lambda: len(sandbox.answers(vera)) == 3)
        with Session(bot.engine) as session, session.begin():
            desk.close(session.get_one(Conversation, conversation.id))
        sandbox.say(vera, "Спасибо!")
        wait_for(lambda: len(sandbox.answers(vera)) == 5)
        assert sandbox.answers(vera)[1:] == [TEXTS.unknown, "Бывает. Пришлите фото кота.", TEXTS.closed, TEXTS.welcome]


@on_sqlite
def test_the_operators_chat_takes_a_request(bot_settings: Settings, sandbox: Sandbox, engine: Engine) -> None:
    vera, ivan = sandbox.person(), sandbox.person("Иван")
    chat = sandbox.post("chats", title="Операторы", members=[ivan])["id"]
    with Session(engine) as session, session.begin():
        session.add(Operator(login="ivan", name="Иван", password_hash="", vk_id=ivan))
    with running(bot_settings.model_copy(update={"operators_peer_id": chat})) as bot:
        sandbox.say(vera, "Где мой заказ?")
        wait_for(lambda: sandbox.answers(chat))
        button = sandbox.dialog(chat)[-1]["keyboard"]["buttons"][0][0]["action"]
        sandbox.say(ivan, button["label"], peer_id=chat, payload=button["payload"])
        wait_for(lambda: len(sandbox.answers(chat)) == 2)
        (request,) = all_of(bot.engine, Conversation)
        taken = {"id": request.id, "name": "Вера Ким", "operator": "Иван"}
        assert sandbox.answers(chat)[1] == fill(TEXTS.operators.taken, **taken)
        assert request.assignee_id == next(row.id for row in all_of(bot.engine, Operator) if row.vk_id == ivan)


@on_sqlite
def test_a_form_goes_on_after_a_restart(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera, said = sandbox.person(), TEXTS.request
    with running(bot_settings):
        sandbox.say(vera, "/request")
        sandbox.say(vera, "Вера")
        wait_for(lambda: sandbox.answers(vera) == [said.name, said.phone])
    sandbox.say(vera, "+7 912 345-67-89")
    with running(bot_settings) as bot:
        sandbox.say(vera, "О доставке")
        sandbox.say(vera, said.send)
        wait_for(lambda: len(sandbox.answers(vera)) == 5)
        assert "Вера" in sandbox.answers(vera)[3]
        assert sandbox.answers(vera)[4].startswith(said.done)
        assert [row.topic for row in all_of(bot.engine, Conversation)] == [TEXTS.buttons.request]


def test_what_was_written_while_the_bot_was_down_is_answered_once(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    sandbox.say(vera, QUESTION.words[0])  # before the first start of all: found in the history
    with running(bot_settings) as bot:
        wait_for(lambda: len(sandbox.answers(vera)) == 1)
        wait_for(lambda: all_of(bot.engine, Cursor)[0].value == "1")
    sandbox.say(vera, QUESTION.words[0])
    sandbox.say(vera, QUESTION.words[0])
    with running(bot_settings) as bot:
        wait_for(lambda: len(sandbox.answers(vera)) == 3)
        sandbox.say(vera, QUESTION.words[0])
        wait_for(lambda: len(sandbox.answers(vera)) == 4)
        with_ids = [row.event_id is not None for row in all_of(bot.engine, Event)]
    assert with_ids == [False, True, True, True]
    assert sandbox.answers(vera) == [QUESTION.answer] * 4


def test_old_messages_are_not_answered_at_the_first_start(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera, read, old = sandbox.person(), sandbox.person(), sandbox.person()
    for person in (vera, read, old):
        sandbox.say(person, QUESTION.words[0])
    with sandbox.parts.transaction() as session:
        session.get(store.Person, read).in_read = 100
        session.execute(update(store.Message).where(store.Message.peer_id == old).values(date=int(time.time()) - 2 * 86400))
    with running(bot_settings) as bot:
        wait_for(lambda: sandbox.answers(vera))
        assert [row.peer_id for row in all_of(bot.engine, Event)] == [vera]


@on_sqlite
def test_unread_messages_are_answered_at_the_first_start_in_group_chats_too(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    peers = [vera, sandbox.post("chats", title="Чат", members=[vera])["id"]]
    for peer in peers:
        sandbox.say(vera, "/menu", peer_id=peer)
    with sandbox.parts.transaction() as session:
        session.execute(update(store.Peer).values(in_read=select(func.max(store.Message.id)).scalar_subquery()))
    for peer in peers:
        sandbox.say(vera, "/start", peer_id=peer)
    with running(bot_settings) as bot:
        wait_for(lambda: all(sandbox.answers(peer) for peer in peers))
        assert [row.peer_id for row in all_of(bot.engine, Event)] == peers[::-1]


@on_sqlite
@pytest.mark.parametrize("code", [1, 3])
def test_a_gap_in_a_group_chat_is_filled_too(bot_settings: Settings, sandbox: Sandbox, code: int) -> None:
    vera = sandbox.person()
    chat = sandbox.post("chats", title="Чат", members=[vera])["id"]
    sandbox.say(vera, "/menu", peer_id=chat)
    with running(bot_settings):
        wait_for(lambda: sandbox.answers(chat) == [TEXTS.menu])
    sandbox.say(vera, "/menu", peer_id=chat)
    sandbox.post("faults", fault="forget")
    sandbox.post("faults", fault="failed", code=code, times=1)
    with running(bot_settings) as bot:
        sandbox.say(vera, "/menu", peer_id=chat)
        wait_for(lambda: sandbox.answers(chat) == [TEXTS.menu] * 3)
        written = [message["conversation_message_id"] for message in sandbox.dialog(chat) if message["from_id"] == vera]
        assert [row.cmid for row in all_of(bot.engine, Event)] == written


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_failed_long_poll_loses_nothing(bot_settings: Settings, sandbox: Sandbox, code: int) -> None:
    vera, ivan = sandbox.person(), sandbox.person()
    with running(bot_settings) as bot:
        sandbox.say(vera, QUESTION.words[0])
        wait_for(lambda: sandbox.answers(vera))
    sandbox.say(ivan, QUESTION.words[0])
    sandbox.say(vera, QUESTION.words[0])
    if code != 2:
        with sandbox.parts.transaction() as session:  # VK remembers the messages, and has forgotten the events
            session.execute(store.Event.__table__.delete().where(store.Event.id <= 3))
    sandbox.post("faults", fault="failed", code=code, times=1)
    with running(bot_settings) as bot:
        sandbox.say(vera, QUESTION.words[0])
        wait_for(lambda: len(sandbox.answers(vera)) == 3 and len(sandbox.answers(ivan)) == 1)
        events = all_of(bot.engine, Event)
    assert len(events) == 4
    assert {row.state for row in events} == {EventState.DONE}


def test_a_long_poll_that_fails_for_ever_is_a_problem_and_not_a_busy_loop(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    sandbox.post("faults", fault="failed", code=2)
    with running(bot_settings) as bot:
        wait_for(lambda: "failed: 2" in str(problems(bot.engine).get("bot.receive")))
        assert sandbox.parts.faults.shown()[0]["hits"] < 100
        sandbox.parts.faults.clear()
        sandbox.say(vera, QUESTION.words[0])
        wait_for(lambda: sandbox.answers(vera))
        wait_for(lambda: problems(bot.engine)["bot.receive"] is None)


def test_a_malformed_event_takes_no_other_with_it(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    with running(bot_settings) as bot:
        wait_for(lambda: all_of(bot.engine, Cursor))
    sandbox.say(vera, QUESTION.words[0])
    with sandbox.parts.transaction() as session:
        store.add_event(session, "message_new", {"message": {"peer_id": "nobody", "text": ["a", "\0"]}})
        store.add_event(session, "message_new", {})
    sandbox.say(vera, QUESTION.words[0])
    with running(bot_settings) as bot:
        wait_for(lambda: len(sandbox.answers(vera)) == 2)
        states = [row.state for row in all_of(bot.engine, Event)]
    assert states == [EventState.DONE, EventState.FAILED, EventState.FAILED, EventState.DONE]


@on_sqlite
def test_the_loops_wait_for_the_database_and_go_on(bot_settings: Settings, sandbox: Sandbox, tmp_path: Path) -> None:
    vera = sandbox.person()
    late = bot_settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/late.db"})
    sandbox.say(vera, QUESTION.words[0])
    with running(late):
        time.sleep(1)
        migrate(late)
        wait_for(lambda: sandbox.answers(vera))


@on_postgresql
def test_a_database_that_cuts_every_line_is_forgiven(bot_settings: Settings, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    with running(bot_settings) as bot:
        sandbox.say(vera, QUESTION.words[0])
        wait_for(lambda: sandbox.answers(vera))
        for number in range(2, 4):
            with bot.engine.connect() as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
                connection.execute(text(others + "current_database()"))
            sandbox.say(vera, QUESTION.words[0])
            wait_for(lambda number=number: len(sandbox.answers(vera)) == number)


@on_postgresql
def test_the_bots_own_role_may_do_all_that_it_needs(bot_settings: Settings, sandbox: Sandbox) -> None:
    migrate(bot_settings.model_copy(update={"db_password_bot": SecretStr("bot-password")}))
    as_bot = bot_settings.database.set(username="bot", password="bot-password").render_as_string(hide_password=False)
    vera = sandbox.person()
    sandbox.say(vera, QUESTION.words[0])
    with running(bot_settings.model_copy(update={"database_url": as_bot})) as bot:
        wait_for(lambda: sandbox.answers(vera))
        with sandbox.parts.transaction() as session:
            store.add_event(session, "message_deny", {"user_id": vera})
            session.get(store.Person, vera).allowed = False
            vk_events = store.newest_event(session)
        wait_for(lambda: all_of(bot.engine, Cursor)[0].value == str(vk_events))
        wait_for(lambda: not all_of(bot.engine, Person)[0].reachable)
        assert set(problems(bot.engine).values()) == {None}


def test_only_one_process_receives(engine: Engine) -> None:
    with _leadership(engine, "longpoll:1") as other, _leadership(engine, "longpoll:2") as third:
        with _leadership(engine, "longpoll:1") as first:
            assert first()
            assert first()
            assert third()
            assert other() == (engine.dialect.name == "sqlite")
        wait_for(other)  # the server notices a moment later that the line is gone


def test_a_deposed_leader_stores_nothing_more(bot_settings: Settings, engine: Engine, sandbox: Sandbox) -> None:
    bot = Bot(bot_settings, engine)
    old = _Receiver(bot, "longpoll:1")
    old._store([], "5")
    new = _Receiver(bot, "longpoll:1")
    assert new._ts == "5"
    with pytest.raises(DeposedError):
        old._store([{"type": "wall_post_new", "object": {}}], "6")
    assert [row.value for row in all_of(engine, Cursor)] == ["5"]
    assert all_of(engine, Event) == []


def test_two_bots_answer_once(bot_settings: Settings, sandbox: Sandbox) -> None:
    people = [sandbox.person() for _ in range(4)]
    with running(bot_settings) as bot, running(bot_settings):
        for _ in range(5):
            for person in people:
                sandbox.say(person, QUESTION.words[0])
        wait_for(lambda: all(len(sandbox.answers(person)) == 5 for person in people))
        wait_for(lambda: all(row.state == DeliveryState.SENT for row in all_of(bot.engine, Delivery)))
        assert len(all_of(bot.engine, Delivery)) == 20


def test_the_file_of_life_is_not_renewed_when_a_loop_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "ALIVE_FILE", tmp_path / "alive")
    pulse = Pulse({"bot.answer": lambda _: iter(()), "bot.deliver": lambda _: iter(())})
    pulse.touch()
    assert (tmp_path / "alive").exists()
    (tmp_path / "alive").unlink()
    pulse._seen["bot.deliver"] -= loops.ALIVE_WITHIN
    pulse.touch()
    assert pulse.living() == {"bot.answer": None}
    assert not (tmp_path / "alive").exists()


class Process:
    """`python -m app.bot`, as a container runs it."""

    def __init__(self, settings: Settings, folder: Path, *arguments: str, token: str) -> None:
        secrets = folder / "secrets"
        secrets.mkdir(exist_ok=True)
        (secrets / "vk_token").write_text(token)
        self.output = folder / "stderr"
        environment = {
            "PATH": os.environ["PATH"],
            "SECRETS_DIR": str(secrets),
            "DATABASE_URL": settings.database.render_as_string(hide_password=False),
            "VK_API_URL": settings.vk_api_url or "",
            "APP_ENV": settings.app_env,
            "LOG_LEVEL": settings.log_level,
            "TMPDIR": str(folder),
            "PYTHONPATH": str(PROJECT),
        }
        with self.output.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.bot", *arguments], cwd=folder, env=environment, stderr=output
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def end(self, how: signal.Signals, seconds: float = 10) -> int:
        self._process.send_signal(how)
        return self._process.wait(seconds)

    def wait(self) -> int:
        return self._process.wait(30)


@pytest.fixture
def process(bot_settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started = []

    def start(*arguments: str, settings: Settings = bot_settings, token: str | None = None) -> Process:
        started.append(Process(settings, tmp_path, *arguments, token="a-token" if token is None else token))
        return started[-1]

    yield start
    for each in started:
        if each._process.poll() is None:
            each.end(signal.SIGKILL)


def test_a_process_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(
    process: Callable[..., Process], sandbox: Sandbox, engine: Engine
) -> None:
    people = [sandbox.person() for _ in range(3)]
    written = 0
    for _ in range(4):
        running = process()
        wait_for(lambda: all_of(engine, Cursor))
        for _ in range(8):
            for person in people:
                sandbox.say(person, f"{QUESTION.words[0]} {written}")
            written += 1
            time.sleep(0.1)
        running.end(signal.SIGKILL)
        for person in people:
            sandbox.say(person, f"{QUESTION.words[0]} {written}")
        written += 1
    process()
    wait_for(lambda: all(len(sandbox.answers(person)) >= written for person in people), seconds=120)
    wait_for(lambda: all(row.state == DeliveryState.SENT for row in all_of(engine, Delivery)))
    for person in people:
        assert sandbox.answers(person) == [QUESTION.answer] * written
    with Session(engine) as session:
        received = session.execute(
            select(Conversation.peer_id, func.count(), func.count(Message.text.distinct()))
            .join(Message)
            .where(Message.direction == Direction.IN)
            .group_by(Conversation.peer_id)
        ).all()
    assert sorted(received) == [(person, written, written) for person in people]


@on_postgresql
def test_two_processes_share_the_work_and_keep_the_order(
    process: Callable[..., Process], sandbox: Sandbox, engine: Engine
) -> None:
    people = [sandbox.person() for _ in range(6)]
    for number in range(10):
        for person in people:
            sandbox.say(person, f"{QUESTION.words[0]} {number}")
    process()
    process()
    wait_for(lambda: all(len(sandbox.answers(person)) == 10 for person in people))
    wait_for(lambda: all(row.state == DeliveryState.SENT for row in all_of(engine, Delivery)))
    meant: dict[int, list[int]] = {person: [] for person in people}
    for delivery in all_of(engine, Delivery):
        meant[delivery.peer_id].append(delivery.random_id)
    for person in people:
        assert [message["random_id"] for message in sandbox.dialog(person) if message["from_id"] < 0] == meant[person]
    for conversation in all_of(engine, Conversation):
        written = [row for row in all_of(engine, Message) if row.conversation_id == conversation.id]
        assert [row.text for row in written if row.direction == Direction.IN] == [f"{QUESTION.words[0]} {n}" for n in range(10)]
        assert [row.direction for row in written] == [Direction.IN, Direction.OUT] * 10


def test_sigterm_ends_it_at_once_with_exit_code_0(process: Callable[..., Process], engine: Engine, tmp_path: Path) -> None:
    running = process()
    wait_for(lambda: all_of(engine, Cursor))
    wait_for((tmp_path / "bot-alive").exists)
    assert running.end(signal.SIGTERM) == 0  # its poll would have taken 25 seconds
    assert "stopped" in running.said


@on_sqlite
@pytest.mark.parametrize("loop", ["receive", "answer", "deliver"])
def test_each_loop_can_have_its_own_process(process: Callable[..., Process], engine: Engine, loop: str) -> None:
    running = process(loop)
    wait_for(lambda: problems(engine) == {f"bot.{loop}": None})
    assert running.end(signal.SIGTERM) == 0


@on_sqlite
def test_a_wrong_token_is_said_and_kept_and_nothing_is_lost(
    process: Callable[..., Process], sandbox: Sandbox, engine: Engine
) -> None:
    sandbox.post("settings", token="the-right-token")
    vera = sandbox.person()
    sandbox.say(vera, QUESTION.words[0])
    running = process(token="a-wrong-token-that-is-secret")
    wait_for(lambda: "refuses the token" in str(problems(engine).get("bot.receive")))
    assert running.said.count("VK refuses the token") == 1
    sandbox.post("settings", token="a-wrong-token-that-is-secret")
    wait_for(lambda: sandbox.answers(vera) == [QUESTION.answer])
    wait_for(lambda: problems(engine)["bot.receive"] is None)
    assert running.end(signal.SIGTERM) == 0
    assert "a-wrong-token" not in running.said


@on_sqlite
def test_no_log_tells_the_token_or_the_long_polls_key(
    process: Callable[..., Process], bot_settings: Settings, sandbox: Sandbox
) -> None:
    vera = sandbox.person()
    sandbox.say(vera, QUESTION.words[0])
    for method in ("longpoll", "execute", "users.get", "groups.getLongPollServer"):
        sandbox.post("faults", fault="reset", method=method, times=1)
        sandbox.post("faults", fault="http", method=method, times=1)
        sandbox.post("faults", fault="error", code=5, method=method, times=1)
    running = process(settings=bot_settings.model_copy(update={"log_level": "debug"}), token="the-token-that-is-secret")
    wait_for(lambda: sandbox.answers(vera) == [QUESTION.answer])
    wait_for(lambda: running.said.count("VK refuses the token (5") >= 2)
    assert running.end(signal.SIGTERM) == 0
    with sandbox.parts.transaction() as session:
        key = session.get_one(store.Memory, "longpoll").value["key"]
    assert "VK does not answer (the long poll: " in running.said
    assert "the-token-that" not in running.said
    assert key not in running.said


@on_sqlite
def test_a_vk_that_is_not_there_is_one_line(process: Callable[..., Process], bot_settings: Settings, engine: Engine) -> None:
    running = process(settings=bot_settings.model_copy(update={"vk_api_url": "http://127.0.0.1:9"}))
    wait_for(lambda: "VK does not answer" in str(problems(engine).get("bot.receive")))
    time.sleep(2)
    assert running.end(signal.SIGTERM) == 0
    assert running.said.count("VK does not answer") == 1
    assert "Traceback" not in running.said


@on_sqlite
def test_a_missing_token_is_one_line(process: Callable[..., Process]) -> None:
    running = process(token="")
    assert running.wait() == 2
    assert running.said.startswith("bot: secret vk_token is missing or empty")
    assert running.said.count("\n") == 1


@on_sqlite
def test_in_production_the_word_sandbox_is_no_key(process: Callable[..., Process], bot_settings: Settings) -> None:
    production = bot_settings.model_copy(update={"app_env": "production", "vk_api_url": None})
    running = process(settings=production, token="sandbox")
    assert running.wait() == 2
    assert running.said.startswith("bot: there is no key of VK yet: write one into secrets/vk_token; `make vk-check`")
    assert running.said.count("\n") == 1


@on_sqlite
def test_a_wrong_argument_is_refused(process: Callable[..., Process]) -> None:
    running = process("dance")
    assert running.wait() == 1
    assert "usage: python -m app.bot" in running.said
