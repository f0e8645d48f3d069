"""The inbox: how events get in, and how they become conversations and answers."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.bot.answer import Story, Strangers, answer_next
from app.bot.dialog import dialog as story
from app.bot.keyboard import Button, Card, Carousel
from app.bot.talk import Acknowledge, Action, Ask, Dialog, Document, HandOver, Incoming, Reply
from app.bot.texts import load_texts
from app.bot.vk import Vk
from app.settings import Settings
from app.storage import desk
from app.storage.inbox import add_events
from app.storage.models import (
    GROUP_CHATS,
    Conversation,
    ConversationStatus,
    Delivery,
    Direction,
    Event,
    EventState,
    Message,
    Operator,
    Person,
)
from tests.bot import Sandbox
from tests.conftest import make_settings, on_sqlite

TEXTS = load_texts("ru")
SETTINGS = make_settings()
OPERATORS = GROUP_CHATS + 9
ANNA = 101


def wrote(text: str, cmid: int, *, peer_id: int = ANNA, from_id: int = ANNA, **more: Any) -> dict[str, Any]:
    message = {
        "peer_id": peer_id,
        "from_id": from_id,
        "conversation_message_id": cmid,
        "date": 1_750_000_000,
        "text": text,
        **more,
    }
    return {
        "type": "message_new",
        "event_id": f"{peer_id}-{cmid}",
        "group_id": 1,
        "v": "5.199",
        "object": {"message": message | more},
    }


def add(engine: Engine, *updates: Any) -> None:
    with Session(engine) as session, session.begin():
        add_events(session, updates)


def answer_all(
    engine: Engine, dialog: Dialog = story, newest: int = 10**9, settings: Settings = SETTINGS, limit: int = 100
) -> None:
    while answer_next(engine, Story(settings, TEXTS, dialog), newest, limit):
        pass


def get(engine: Engine, table: Any) -> Sequence[Any]:
    with Session(engine) as session:
        return session.scalars(select(table).order_by(table.id)).all()


def test_a_message_becomes_a_conversation_with_an_answer(engine: Engine) -> None:
    add(engine, wrote("Начать", 1))
    answer_all(engine)
    (person,) = get(engine, Person)
    (conversation,) = get(engine, Conversation)
    message, reply = get(engine, Message)
    (delivery,) = get(engine, Delivery)
    assert (person.vk_id, person.name, person.reachable) == (ANNA, "id101", True)
    assert (conversation.peer_id, conversation.status, conversation.unread) == (ANNA, ConversationStatus.BOT, 1)
    assert (message.text, message.cmid, message.created_at.year) == ("Начать", 1, 2025)
    assert reply.text == delivery.text == TEXTS.greeting.replace("{name}", "")
    assert delivery.keyboard["buttons"]
    assert [event.state for event in get(engine, Event)] == [EventState.DONE]


def test_people_are_asked_for_before_their_messages_are_answered(engine: Engine, sandbox: Sandbox) -> None:
    vk = Vk(make_settings(vk_api_url=sandbox.url))
    strangers = Strangers(vk, "ru")
    vera, ivan = sandbox.person("Вера"), sandbox.person("Иван")
    add(engine, wrote("Начать", 1, peer_id=vera), wrote("Начать", 1, peer_id=10**6), wrote("Начать", 1, peer_id=GROUP_CHATS + 1))
    newest = strangers.meet(engine)
    add(engine, wrote("Начать", 1, peer_id=ivan))
    answer_all(engine, newest=newest)
    assert [person.name for person in get(engine, Person)] == ["Вера Ким", "id1000000"]
    answer_all(engine, newest=strangers.meet(engine))
    assert [person.name for person in get(engine, Person)] == ["Вера Ким", "id1000000", "Иван Ким"]


def test_a_name_comes_later_if_vk_does_not_tell_it_at_once(engine: Engine, sandbox: Sandbox) -> None:
    vera = sandbox.person()
    nobody = Strangers(Vk(make_settings(vk_api_url="http://127.0.0.1:9")), "ru")
    add(engine, wrote("Начать", 1, peer_id=vera))
    answer_all(engine, newest=nobody.meet(engine))
    assert [person.name for person in get(engine, Person)] == [f"id{vera}"]
    add(engine, wrote("Начать", 2, peer_id=vera))
    answer_all(engine, newest=Strangers(Vk(make_settings(vk_api_url=sandbox.url)), "ru").meet(engine))
    assert [person.name for person in get(engine, Person)] == ["Вера Ким"]
    assert [event.state for event in get(engine, Event)] == [EventState.DONE] * 2


def test_an_event_that_comes_again_is_left_out(engine: Engine) -> None:
    message = wrote("Начать", 1)
    from_history = {"type": "message_new", "object": message["object"]}
    add(engine, message, message)
    add(engine, from_history, {**message, "event_id": "another"}, wrote("ещё", 2))
    answer_all(engine)
    assert [event.cmid for event in get(engine, Event)] == [1, 2]
    assert [row.text for row in get(engine, Message) if row.direction == Direction.IN] == ["Начать", "ещё"]


def test_what_cannot_be_read_is_set_aside_alone(engine: Engine) -> None:
    nothing: dict[str, Any] = {"type": "message_new", "event_id": "x", "object": {}}
    large = wrote("", 1, peer_id=2**63)
    add(
        engine, wrote("Начать", 1), nothing, "?", None, {"event_id": 7}, large, {"type": "t" * 51, "object": {}}, wrote("меню", 2)
    )
    answer_all(engine)
    states = [event.state for event in get(engine, Event)]
    assert states == [EventState.DONE, *[EventState.FAILED] * 6, EventState.DONE]
    reasons = [event.error for event in get(engine, Event) if event.state == EventState.FAILED]
    assert all(reason.startswith("not in VK's form: ") for reason in reasons)
    assert get(engine, Event)[2].raw == {"update": "?"}


def test_characters_that_a_database_refuses_do_no_harm(engine: Engine) -> None:
    add(engine, wrote("а\0б\ud800в", 1, geo={"x\0": [float("nan"), float("inf"), 1.5]}))
    answer_all(engine)
    assert get(engine, Message)[0].text == "аб?в"
    assert get(engine, Event)[0].raw["object"]["message"]["geo"] == {"x": [None, None, 1.5]}


def test_what_the_bot_does_not_act_on_is_only_kept(engine: Engine) -> None:
    add(engine, {"type": "wall_post_new", "event_id": "w", "object": {"id": 1}})
    (event,) = get(engine, Event)
    assert (event.state, event.raw["object"]) == (EventState.DONE, {"id": 1})


def test_an_exception_in_the_dialog_sets_its_event_aside_and_hands_over(engine: Engine) -> None:
    fragile = Dialog()

    @fragile.otherwise
    def _(message: Incoming) -> Sequence[Action]:
        if message.text == "b":
            raise RuntimeError("the story is broken here\nand there")
        return [Reply(f"heard {message.text}")]

    add(engine, wrote("a", 1), wrote("a", 1, peer_id=102), wrote("b", 2), wrote("b", 2, peer_id=102), wrote("c", 3))
    add(engine, wrote("d", 1, peer_id=103))
    answer_all(engine, fragile)
    assert [(event.state, event.attempts) for event in get(engine, Event)] == [
        (EventState.DONE, 1),
        (EventState.DONE, 1),
        (EventState.FAILED, 1),
        (EventState.FAILED, 1),
        (EventState.DONE, 1),
        (EventState.DONE, 1),
    ]
    assert get(engine, Event)[2].error == "RuntimeError: the story is broken here"
    # what the bot could not answer is the operators'
    assert [(row.peer_id, row.status, row.unread) for row in get(engine, Conversation)] == [
        (101, ConversationStatus.OPEN, 3),
        (102, ConversationStatus.OPEN, 2),
        (103, ConversationStatus.BOT, 1),
    ]
    first = get(engine, Conversation)[0].id
    assert [row.text for row in get(engine, Message) if row.conversation_id == first] == ["a", "heard a", "b", "c"]
    assert [row.text for row in get(engine, Delivery)] == ["heard a", "heard a", "heard d"]


def test_an_event_that_was_set_aside_can_be_run_again(engine: Engine) -> None:
    broken = Dialog()
    broken.otherwise(lambda _: [Reply("half"), *([] * (1 // 0))])
    add(engine, wrote("a", 1))
    answer_all(engine, broken)
    assert [event.state for event in get(engine, Event)] == [EventState.FAILED]
    with Session(engine) as session, session.begin():
        desk.close(session.scalars(select(Conversation)).one())
        session.execute(update(Event).values(state=EventState.NEW))
    mended = Dialog()
    mended.otherwise(lambda _: [Reply("whole")])
    answer_all(engine, mended)
    event, closing = get(engine, Event)
    assert (event.state, event.error, event.attempts) == (EventState.DONE, None, 2)
    assert (closing.type, closing.state) == ("conversation_closed", EventState.DONE)
    assert [row.text for row in get(engine, Message)] == ["a", "whole"]


def test_what_cannot_be_stored_leaves_nothing_half_written(engine: Engine) -> None:
    wrong = Dialog()
    wrong.otherwise(lambda _: [Reply("first"), Ask("step", {"a set": {1}})])
    add(engine, wrote("a", 1), wrote("b", 1, peer_id=102))
    answer_all(engine, wrong)
    assert [event.state for event in get(engine, Event)] == [EventState.FAILED] * 2
    assert [row.text for row in get(engine, Message)] == ["a", "b"]
    assert list(get(engine, Delivery)) == []


def test_a_step_is_remembered_and_left(engine: Engine) -> None:
    asking = Dialog()
    asking.otherwise(lambda _: [Reply("your number?"), Ask("number", {"from": "otherwise"})])
    asking.step("number")(lambda message: [Reply(f"{message.text} {message.form['from']}")])
    add(engine, wrote("hello", 1))
    answer_all(engine, asking)
    assert get(engine, Conversation)[0].step == "number"
    add(engine, wrote("5", 2))
    answer_all(engine, asking)
    (conversation,) = get(engine, Conversation)
    assert (conversation.step, conversation.form) == (None, {})
    assert [row.text for row in get(engine, Delivery)] == ["your number?", "5 otherwise"]


def test_the_bot_is_silent_while_operators_have_the_word_and_not_after(engine: Engine) -> None:
    echo = Dialog()
    echo.otherwise(lambda message: [Reply(message.text)])
    echo.command("human")(lambda _: [HandOver("delivery")])
    add(engine, wrote("human", 1), wrote("are you there?", 2))
    answer_all(engine, echo)
    (conversation,) = get(engine, Conversation)
    assert (conversation.status, conversation.topic, conversation.unread) == (ConversationStatus.OPEN, "delivery", 2)
    assert list(get(engine, Delivery)) == []
    with Session(engine) as session, session.begin():
        desk.close(session.get_one(Conversation, conversation.id))
    add(engine, wrote("again", 3))
    answer_all(engine, echo)
    assert get(engine, Conversation)[0].status == ConversationStatus.BOT
    assert [row.text for row in get(engine, Delivery)] == ["again"]


def test_a_group_chat_is_stored_and_not_answered(engine: Engine) -> None:
    add(engine, wrote("Начать", 1, peer_id=GROUP_CHATS + 5))
    answer_all(engine)
    (conversation,) = get(engine, Conversation)
    assert (conversation.person_id, conversation.unread) == (None, 1)
    assert list(get(engine, Delivery)) == list(get(engine, Person)) == []


def pressed(press: int, **payload: Any) -> dict[str, Any]:
    content = {"peer_id": ANNA, "user_id": ANNA, "event_id": f"press-{press}", "conversation_message_id": 2, "payload": payload}
    return {"type": "message_event", "event_id": f"e{press}", "object": content}


def test_a_press_is_answered_without_becoming_a_message(engine: Engine) -> None:
    counter = Dialog()
    counter.button("count")(lambda message: [Acknowledge(f"{message.payload['number']}!"), Reply("counted")])
    add(engine, wrote("a", 1), pressed(1, command="count", number=5), pressed(2), pressed(2))
    answer_all(engine, counter)
    assert [event.state for event in get(engine, Event)] == [EventState.DONE] * 3
    assert [row.text for row in get(engine, Message)] == ["a", "counted"]
    presses = [(row.peer_id, row.press, row.text) for row in get(engine, Delivery) if row.press]
    assert presses == [
        (ANNA, {"event_id": "press-1", "user_id": ANNA}, "5!"),
        (ANNA, {"event_id": "press-2", "user_id": ANNA}, ""),
    ]


def test_the_operators_chat_hears_of_a_hand_over_and_takes_it(engine: Engine) -> None:
    with_chat = make_settings(operators_peer_id=OPERATORS)
    human = Dialog()
    human.otherwise(lambda _: [HandOver("delivery")])
    with Session(engine) as session, session.begin():
        session.execute(update(Operator).values(vk_id=777))
    add(engine, wrote("where is it?", 1))
    answer_all(engine, human, settings=with_chat)
    (told,) = get(engine, Delivery)
    assert (told.peer_id, told.message_id) == (OPERATORS, None)
    assert "where is it?" in told.text
    payload = told.keyboard["buttons"][0][0]["action"]["payload"]
    add(engine, wrote("Взять", 1, peer_id=OPERATORS, from_id=777, payload=payload))
    answer_all(engine, human, settings=with_chat)
    (conversation,) = get(engine, Conversation)
    assert conversation.assignee_id == get(engine, Operator)[0].id
    assert len(get(engine, Delivery)) == 2
    add(engine, wrote("/report", 2, peer_id=OPERATORS, from_id=777))
    answer_all(engine, human, settings=with_chat)
    assert [row.peer_id for row in get(engine, Delivery)] == [OPERATORS] * 3
    assert [row.text for row in get(engine, Message)] == ["where is it?"]


def test_the_bot_has_a_word_when_operators_close(engine: Engine) -> None:
    polite = Dialog()
    polite.otherwise(lambda _: [HandOver()])
    polite.closed(lambda message: [Reply(f"How was it{message.text}?"), Ask("rate")])
    add(engine, wrote("help", 1))
    answer_all(engine, polite)
    with Session(engine) as session, session.begin():
        desk.close(session.scalars(select(Conversation)).one())
    answer_all(engine, polite)
    (conversation,) = get(engine, Conversation)
    assert (conversation.status, conversation.step) == (ConversationStatus.CLOSED, "rate")
    assert [row.text for row in get(engine, Message)] == ["help", "How was it?"]


def test_who_has_forbidden_it_is_written_nothing(engine: Engine) -> None:
    eager = Dialog()
    eager.otherwise(lambda _: [HandOver(), Reply("hello")])
    eager.closed(lambda _: Reply("goodbye"))
    add(engine, wrote("help", 1), {"type": "message_deny", "event_id": "deny", "object": {"user_id": ANNA}})
    answer_all(engine, eager)
    with Session(engine) as session, session.begin():
        desk.close(session.scalars(select(Conversation)).one())
    add(engine, pressed(1, command="count"))
    answer_all(engine, eager)
    assert [(row.text, row.press is None) for row in get(engine, Delivery)] == [("hello", True), ("", False)]


def test_operators_see_the_name_of_a_file_that_the_bot_sends(engine: Engine) -> None:
    sending = Dialog()
    sending.otherwise(lambda _: Reply("the prices", upload=Document(b"a,b", "prices.csv")))
    add(engine, wrote("prices?", 1))
    answer_all(engine, sending)
    assert get(engine, Message)[-1].attachments == [{"type": "doc", "doc": {"title": "prices.csv"}}]
    assert [row.upload["name"] for row in get(engine, Delivery)] == ["prices.csv"]


@on_sqlite
def test_a_carousel_arrives_whole(engine: Engine, sandbox: Sandbox) -> None:
    vera, shop = sandbox.person(), Dialog()
    sandbox.say(vera, "Что есть?")
    roses = [Card(f"Роза № {number}", "Алая", buttons=[Button("Купить", "buy", {"n": number})]) for number in range(10)]
    shop.otherwise(lambda _: Reply("Вот", carousel=Carousel(roses)))
    add(engine, wrote("Что есть?", 1, peer_id=vera))
    answer_all(engine, shop)
    assert Vk(make_settings(vk_api_url=sandbox.url)).send(get(engine, Delivery)) == [2]
    shown = sandbox.dialog(vera)[-1]["template"]["elements"]
    assert [(card["title"], card["description"]) for card in shown] == [(rose.title, "Алая") for rose in roses]
    assert [card["buttons"][0]["action"]["payload"] for card in shown] == [f'{{"command":"buy","n":{n}}}' for n in range(10)]


def test_consent_is_taken_back_and_given(engine: Engine) -> None:
    def reachable() -> list[bool]:
        answer_all(engine)
        return [person.reachable for person in get(engine, Person)]

    add(engine, {"type": "message_deny", "event_id": "1", "object": {"user_id": ANNA}})
    assert reachable() == [False]
    add(engine, {"type": "message_allow", "event_id": "2", "object": {"user_id": ANNA, "key": ""}})
    assert reachable() == [True]
    add(engine, {"type": "message_deny", "event_id": "3", "object": {"user_id": ANNA}}, wrote("Начать", 1))
    assert reachable() == [True]


@pytest.mark.parametrize("payload", ["not json", "[1]", "7", None])
def test_a_payload_can_be_anything(engine: Engine, payload: str | None) -> None:
    add(engine, wrote("Начать", 1, payload=payload))
    answer_all(engine)
    assert len(get(engine, Delivery)) == 1


def test_the_queue_is_done_once_by_several_workers(engine: Engine) -> None:
    add(engine, *(wrote("Начать", cmid, peer_id=peer, from_id=peer) for cmid in range(1, 6) for peer in range(101, 121)))
    workers = [threading.Thread(target=answer_all, args=(engine,), kwargs={"limit": 7}) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    answer_all(engine)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 100
        assert sorted(session.scalars(select(Person.vk_id))) == list(range(101, 121))
    for conversation in get(engine, Conversation):
        received = [row.cmid for row in get(engine, Message) if row.conversation_id == conversation.id and row.cmid]
        assert received == [1, 2, 3, 4, 5]


def test_many_messages_of_one_person_are_answered_in_order(engine: Engine) -> None:
    echo = Dialog()
    echo.otherwise(lambda message: [Reply(f"{message.text} {message.first}")])
    add(engine, *(wrote(str(cmid), cmid) for cmid in range(1, 251)))
    answer_all(engine, echo)
    assert [row.text for row in get(engine, Delivery)] == ["1 True", *(f"{cmid} False" for cmid in range(2, 251))]
    (conversation,) = get(engine, Conversation)
    assert (conversation.unread, conversation.last_message_text) == (250, "250")
