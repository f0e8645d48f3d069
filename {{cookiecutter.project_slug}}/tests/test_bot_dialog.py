"""The story and what it is made of. Neither VK nor a database is needed: a handler is a plain function."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.bot.dialog import dialog
from app.bot.keyboard import AnyButton, Button, Keyboard
from app.bot.talk import Action, Ask, Dialog, HandOver, Incoming, Reply
from app.bot.texts import Texts, load_texts
from app.settings import SettingsError

MOSCOW = ZoneInfo("Europe/Moscow")
WORKING = datetime(2026, 5, 14, 12, 0, tzinfo=MOSCOW)  # a Thursday
TEXTS_FOLDER = Path(load_texts.__code__.co_filename).parent


@pytest.fixture(params=["ru", "en"])
def texts(request: pytest.FixtureRequest) -> Texts:
    return load_texts(request.param)


def told(texts: Texts, text: str = "", **more: Any) -> list[Action]:
    return list(dialog(Incoming(text=text, texts=texts, **{"at": WORKING, **more})))


def buttons(action: Action) -> list[AnyButton]:
    assert isinstance(action, Reply)
    assert action.keyboard is not None
    return [button for row in action.keyboard.rows for button in row]


def press(texts: Texts, button: AnyButton, **more: Any) -> list[Action]:
    assert isinstance(button, Button)
    return told(texts, button.label, payload=json.loads(button.render()["action"]["payload"]), **more)


@pytest.mark.parametrize(
    "message",
    [{"payload": {"command": "start"}}, {"text": "/Start"}, {"text": " НАЧАТЬ! "}, {"text": "есть кто?", "first": True}],
)
def test_a_newcomer_is_greeted_by_name_and_offered_the_menu(texts: Texts, message: dict[str, Any]) -> None:
    (reply,) = told(texts, name="Анна", **message)
    assert isinstance(reply, Reply)
    assert ", Анна!" in reply.text
    assert [button.label for button in buttons(reply)] == [
        texts.buttons.topics,
        texts.buttons.questions,
        texts.buttons.request,
        texts.buttons.human,
    ]


def test_a_greeting_without_a_name_has_no_hole(texts: Texts) -> None:
    (reply,) = told(texts, "start")
    assert isinstance(reply, Reply)
    assert "{" not in reply.text
    assert ", !" not in reply.text


def test_every_topic_is_described_and_then_handed_over(texts: Texts) -> None:
    *topics, back = buttons(told(texts, payload={"command": "topics"})[0])
    assert [topic.label for topic in topics] == [topic.title for topic in texts.topics]
    for topic in topics:
        reply, ask = press(texts, topic)
        assert isinstance(ask, Ask)
        described = told(texts, "заказ 15 потерялся", step=ask.step, form=ask.form)
        assert described == [Reply(texts.handed_over, Keyboard()), HandOver(topic.label)]
        assert press(texts, buttons(reply)[0]) == press(texts, back), "the way back leads out of the step"


def test_every_question_is_answered_by_its_button_and_by_its_words(texts: Texts) -> None:
    *questions, _back = buttons(told(texts, payload={"command": "questions"})[0])
    for button, question in zip(questions, texts.questions, strict=True):
        assert press(texts, button) == [Reply(question.answer)]
        for word in question.words:
            assert told(texts, f"Скажите, {word.upper()}?")[0].text == question.answer


@pytest.mark.parametrize("command", ["topic", "question"])
def test_a_button_of_an_older_list_shows_the_new_one(texts: Texts, command: str) -> None:
    (reply,) = told(texts, payload={"command": command, "title": "no longer there"})
    assert len(buttons(reply)) > 1


@pytest.mark.parametrize("message", [{"payload": {"command": "human"}}, {"text": "позовите оператора"}, {"text": "A HUMAN!"}])
def test_a_human_is_called(texts: Texts, message: dict[str, Any]) -> None:
    assert told(texts, **message) == [Reply(texts.handed_over, Keyboard()), HandOver(texts.buttons.human)]


@pytest.mark.parametrize("message", [{"text": "кто вы такие"}, {"attachments": [{}]}, {"payload": {"command": "gone"}}])
def test_what_it_does_not_know_goes_to_the_operators(texts: Texts, message: dict[str, Any]) -> None:
    assert told(texts, **message) == [Reply(texts.unknown, Keyboard()), HandOver()]


def test_thanks_call_nobody(texts: Texts) -> None:
    (reply,) = told(texts, "Спасибо большое")
    assert isinstance(reply, Reply)
    assert reply.text == texts.welcome


def test_a_button_comes_before_a_command_a_step_a_pattern_and_the_rest(texts: Texts) -> None:
    story = Dialog()
    story.otherwise(lambda _: [Reply("otherwise")])
    story.pattern("b+")(lambda _: [Reply("pattern")])
    story.step("s")(lambda _: [Reply("step")])
    story.command("b")(lambda _: [Reply("command")])
    story.button("b")(lambda _: [Reply("button")])
    order: list[dict[str, Any]] = [
        {"text": "b", "step": "s", "payload": {"command": "b"}},
        {"text": "b", "step": "s"},
        {"text": "abba", "step": "s"},
        {"text": "abba"},
        {"text": "a"},
    ]
    said = [story(Incoming(texts=texts, **message)) for message in order]
    assert said == [[Reply(word)] for word in ("button", "command", "step", "pattern", "otherwise")]


def test_two_handlers_of_one_button_are_a_mistake() -> None:
    story = Dialog()
    story.button("a")(lambda _: [])
    with pytest.raises(ValueError, match="two handlers for 'a'"):
        story.button("a")(lambda _: [])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("greeting =", "greting =", "greeting: Field required"),
        ('menu = "', 'menu = "" # "', "menu: String should have at least 1 character"),
        ('back = "', 'back = "123456789012345678901234567890123456789012', "buttons.back: String should have at most 40"),
        ("[buttons]", "[buttons", "Expected ']'"),
        ("{name}!", "{nome}!", "greeting: {nome} means nothing here, only {name} does"),
        ("closes = 19", "closes = 09", "hours: opens has to be before closes"),
    ],
)
def test_a_mistake_in_the_texts_is_one_clear_line(tmp_path: Path, before: str, after: str, said: str) -> None:
    file = tmp_path / "ru.toml"
    shutil.copy(TEXTS_FOLDER / "ru.toml", file)
    file.write_text(file.read_text("utf-8").replace(before, after, 1), "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_texts("ru", tmp_path)
    assert f"{file}: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
