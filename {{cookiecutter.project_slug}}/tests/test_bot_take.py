"""What the bot decides about a message: who has the word, who is addressed, what the operators' chat is told and asks for."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.bot.dialog import dialog as story
from app.bot.keyboard import Button, Keyboard
from app.bot.operators import perform
from app.bot.take import Situation, after_closing, take
from app.bot.talk import Acknowledge, Action, Ask, Assign, Dialog, HandOver, Incoming, Reply, Report, Resume, Tell
from app.bot.texts import fill, load_texts
from app.storage import desk
from app.storage.inbox import IncomingMessage
from app.storage.models import GROUP_CHATS, Conversation, ConversationStatus, Heartbeat, Operator, Person, ReportJob, now

TEXTS = load_texts("ru")
WORDS = TEXTS.operators
GROUP, ANNA, CHAT, OPERATORS = 77, 101, GROUP_CHATS + 5, GROUP_CHATS + 9
MOSCOW = ZoneInfo("Europe/Moscow")

echo = Dialog()
echo.otherwise(lambda message: Reply(f"<{message.text}>"))


def decided(
    text: str = "", dialog: Dialog = echo, *, peer_id: int = ANNA, raw: dict[str, Any] | None = None, **known: Any
) -> list[Action]:
    message = {
        "peer_id": peer_id,
        "from_id": ANNA,
        "conversation_message_id": 1,
        "date": 1_750_000_000,
        "text": text,
        **(raw or {}),
    }
    situation = Situation(message=IncomingMessage.model_validate(message), group_id=GROUP, **known)
    return list(take(situation, dialog, TEXTS))


def said(actions: Sequence[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Reply)]


def test_the_bot_answers_a_person_and_has_the_word_then() -> None:
    assert decided(" привет ") == [Resume(), Reply("<привет>")]
    assert decided("привет", status=ConversationStatus.CLOSED) == [Resume(), Reply("<привет>")]


def test_the_bot_is_silent_while_the_operators_have_the_word() -> None:
    assert decided("привет", status=ConversationStatus.OPEN) == []


@pytest.mark.parametrize(
    ("text", "raw", "heard"),
    [
        ("[club77|@shop] привет", {}, "привет"),
        ("[club77|Наш магазин], привет", {}, "привет"),
        ("@club77 привет", {}, "привет"),
        ("@public77: привет", {}, "привет"),
        ("привет, [club77|@shop] и ещё", {}, "привет, и ещё"),
        ("[club77|@shop]", {}, ""),
        ("[club77|@shop] Меню", {"payload": '{"command": "x"}'}, "Меню"),
        ("Меню", {"payload": '{"command": "x"}'}, "Меню"),
        ("привет", {"reply_message": {"from_id": -GROUP}}, "привет"),
        ("/привет", {}, "/привет"),
    ],
)
def test_in_a_group_chat_the_bot_hears_what_is_said_to_it(text: str, raw: dict[str, Any], heard: str) -> None:
    assert decided(text, peer_id=CHAT, raw=raw) == [Resume(), Reply(f"<{heard}>")]


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("позовите оператора", {}),
        ("[club770|@other] привет", {}),
        ("@club770 привет", {}),
        ("[id77|Иван] привет", {}),
        ("почта a@club7.example", {}),
        ("привет", {"reply_message": {"from_id": 77}}),
        ("", {"attachments": [{"type": "photo"}]}),
    ],
)
def test_in_a_group_chat_the_bot_is_silent_about_the_rest(text: str, raw: dict[str, Any]) -> None:
    assert decided(text, story, peer_id=CHAT, raw=raw, step="request", operators_peer_id=OPERATORS) == []


def test_in_a_group_chat_its_name_alone_brings_the_menu() -> None:
    assert said(decided("[club77|@shop]", story, peer_id=CHAT)) == [TEXTS.menu]


@given(st.text(max_size=80), st.booleans())
def test_no_text_breaks_a_group_chat(text: str, mentioned: bool) -> None:
    mention = f"[club{GROUP}|@shop] " if mentioned else ""
    actions = decided(mention + text, story, peer_id=CHAT)
    assert actions or not mentioned


def test_a_press_is_acknowledged_once() -> None:
    said_so = Dialog()
    said_so.button("a")(lambda _: [Acknowledge("Готово"), Reply("a")])
    press = {"raw": {"payload": {"command": "a"}}, "is_press": True}
    assert decided(dialog=said_so, **press) == [Resume(), Acknowledge("Готово"), Reply("a")]
    assert decided(**press) == [Acknowledge(), Resume(), Reply("<>")]
    assert decided(**press, status=ConversationStatus.OPEN) == [Acknowledge()]


def test_who_has_forbidden_it_is_written_nothing() -> None:
    press = {"raw": {"payload": {"command": "human"}}, "is_press": True}
    assert decided("", story, **press, reachable=False, operators_peer_id=OPERATORS) == [Acknowledge()]


def test_a_step_goes_on_where_it_was() -> None:
    asking = Dialog()
    asking.step("number")(lambda message: [Reply(f"{message.form['from']} {message.text}"), Ask("number", {"from": "b"})])
    assert decided("5", asking, step="number", form={"from": "a"}) == [Resume(), Reply("a 5"), Ask("number", {"from": "b"})]


def test_after_closing_a_hand_over_is_left_out() -> None:
    again = Dialog()
    again.closed(lambda message: [Reply(f"{message.name}!"), HandOver()])
    assert after_closing(Incoming(name="Анна", texts=TEXTS), again) == [Reply("Анна!")]


# --- The operators' chat ---


@pytest.mark.parametrize("peer_id", [ANNA, CHAT, OPERATORS])
@pytest.mark.parametrize("status", ConversationStatus)
def test_any_dialog_tells_its_number(peer_id: int, status: ConversationStatus) -> None:
    (tell,) = decided("/operators", story, peer_id=peer_id, status=status, operators_peer_id=OPERATORS)
    assert isinstance(tell, Tell)
    assert tell.peer_id == peer_id
    assert f"OPERATORS_PEER_ID={peer_id} " in tell.text


def test_the_operators_chat_is_told_of_a_hand_over_with_a_button() -> None:
    actions = decided("где заказ {id}?", story, conversation_id=5, name="Анна", operators_peer_id=OPERATORS)
    assert actions[-2] == HandOver()
    button = Button("Беру", "take", {"conversation": 5}, "primary")
    assert actions[-1] == Tell(
        OPERATORS, f"Обращение №5: Анна, {WORDS.no_topic}\nгде заказ {{id}}?", Keyboard([[button]], inline=True)
    )
    assert not any(isinstance(action, Tell) for action in decided("где заказ?", story))


def test_the_operators_chat_is_shown_what_the_form_has_gathered() -> None:
    form = {"name": "Анна", "phone": "+79123456789", "comment": None}
    send = TEXTS.request.send
    *_, tell = decided(send, story, step="request", form=form, conversation_id=5, operators_peer_id=OPERATORS)
    assert isinstance(tell, Tell)
    assert tell.text == f"Обращение №5: {WORDS.nameless}, {TEXTS.buttons.request}\nАнна, +79123456789"


@pytest.mark.parametrize("peer_id", [CHAT, ANNA])
def test_the_operators_chat_is_understood(peer_id: int) -> None:
    def asked(text: str, payload: dict[str, Any] | None = None) -> list[Action]:
        return decided(text, story, peer_id=peer_id, raw={"payload": payload or {}}, operators_peer_id=peer_id)

    assert asked("[club77|@shop] Беру", {"command": "take", "conversation": 5}) == [Assign(5, ANNA, peer_id)]
    assert asked("/report") == asked("[club77|@shop] report") == asked("/report today") == [Report(peer_id)]
    assert (asked("/report week"), asked("/Report  month")) == ([Report(peer_id, 7)], [Report(peer_id, 30)])
    assert asked("/начать") == asked("", {"command": "take", "conversation": "5"}) == [Tell(peer_id, WORDS.help)]


def test_operators_can_talk_among_themselves() -> None:
    assert decided("кто возьмёт?", story, peer_id=OPERATORS, operators_peer_id=OPERATORS) == []


def test_only_the_operators_chat_takes_conversations_and_sees_figures() -> None:
    for text, payload in (("Беру", {"command": "take", "conversation": 5}), ("/report", {})):
        for peer_id in (ANNA, CHAT):
            actions = decided(text, story, peer_id=peer_id, raw={"payload": payload}, operators_peer_id=OPERATORS)
            assert not any(isinstance(action, Assign | Report) for action in actions)


@pytest.fixture
def waiting(engine: Engine) -> int:
    """The number of an open conversation with Anna; Ivan, whose VK id is 7, is an operator."""
    with Session(engine) as session, session.begin():
        session.add(Operator(login="ivan", name="Иван", password_hash="", vk_id=7))
        session.add(Operator(login="left", name="Ушёл", password_hash="", vk_id=8, active=False))
        conversation = Conversation(peer_id=ANNA, person=Person(vk_id=ANNA, first_name="Анна"))
        session.add(conversation)
        session.flush()
        desk.receive(session, conversation, "где заказ?", cmid=1)
        desk.answer(session, conversation, "передал")
        desk.hand_over(conversation)
        return conversation.id


def answered(engine: Engine, action: Assign | Report, at: datetime | None = None) -> str:
    with Session(engine) as session, session.begin():
        (tell,) = perform(session, action, TEXTS, at or now().astimezone(MOSCOW))
    assert tell.peer_id == OPERATORS
    return tell.text


def assignee(engine: Engine) -> str | None:
    with Session(engine) as session:
        return session.scalar(select(Operator.name).join(Conversation, Conversation.assignee_id == Operator.id))


def test_who_presses_the_button_gets_the_conversation(engine: Engine, waiting: int) -> None:
    known = {"id": waiting, "name": "Анна", "operator": "Иван"}
    for stranger in (5, 8):
        assert answered(engine, Assign(waiting, stranger, OPERATORS)) == fill(WORDS.stranger, **known, vk_id=stranger)
    assert assignee(engine) is None
    assert answered(engine, Assign(waiting, 7, OPERATORS)) == fill(WORDS.taken, **known)
    assert assignee(engine) == "Иван"
    assert answered(engine, Assign(waiting, 5, OPERATORS)) == fill(WORDS.already, **known)


def test_what_is_over_cannot_be_taken(engine: Engine, waiting: int) -> None:
    assert answered(engine, Assign(waiting + 1, 7, OPERATORS)) == WORDS.gone
    with Session(engine) as session, session.begin():
        desk.close(session.get_one(Conversation, waiting))
    assert answered(engine, Assign(waiting, 7, OPERATORS)) == fill(WORDS.closed, id=waiting, name="Анна")
    assert assignee(engine) is None


def test_the_report_counts_the_day_in_the_projects_time_zone(engine: Engine, waiting: int) -> None:
    with Session(engine) as session, session.begin():
        conversation = session.get_one(Conversation, waiting)
        conversation.opened_at = datetime(2026, 5, 14, 9, 55, tzinfo=MOSCOW)
        for minute, hour in ((59, 20), (0, 21), (30, 22)):  # UTC: in Moscow the first is yesterday's
            at = datetime(2026, 5, 13, hour, minute, tzinfo=ZoneInfo("UTC"))
            desk.receive(session, conversation, "?", at=at)
        desk.receive(session, conversation, "?", at=datetime(2026, 5, 14, 8, 0, tzinfo=MOSCOW))
    # the fixture's own two messages are of this very moment, later than the report
    report = answered(engine, Report(OPERATORS), datetime(2026, 5, 14, 12, 0, tzinfo=MOSCOW))
    assert report.splitlines() == [
        "14.05.2026 12:00",
        "Получено сообщений: 3",
        "Отправлено сообщений: 0",
        "Открытых обращений: 1",
        "Дольше всех ждёт Анна: 2 ч 5 мин.",
    ]
    week = answered(engine, Report(OPERATORS, 7), datetime(2026, 5, 14, 12, 0, tzinfo=MOSCOW))
    assert week.startswith("08.05.2026 – 14.05.2026 12:00\nПолучено сообщений: 4\n")
    today = answered(engine, Report(OPERATORS), now().astimezone(MOSCOW) + timedelta(seconds=1))
    assert "Получено сообщений: 1\nОтправлено сообщений: 1\n" in today


def test_a_report_without_open_conversations_ends_with_their_number(engine: Engine) -> None:
    assert answered(engine, Report(OPERATORS)).endswith("Открытых обращений: 0")


def test_where_reports_are_alive_they_are_asked_for_a_picture(engine: Engine) -> None:
    at = datetime(2026, 5, 14, 1, 0, tzinfo=MOSCOW)
    with Session(engine) as session, session.begin():
        session.add(Heartbeat(name="reports", at=now() - timedelta(minutes=2)))
        assert list(perform(session, Report(OPERATORS), TEXTS, at))
        session.get_one(Heartbeat, "reports").at = now()
        assert list(perform(session, Report(OPERATORS, 7), TEXTS, at)) == []
        job = session.scalars(select(ReportJob)).one()
        assert (job.kind, job.peer_id, job.params) == ("picture", OPERATORS, {"first": "2026-05-08", "last": "2026-05-14"})
