"""The story and what it is made of. Neither VK nor a database is needed: a handler is a plain function."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bot.dialog import dialog
from app.bot.keyboard import AnyButton, Button, Card, Carousel, Keyboard
from app.bot.talk import Acknowledge, Action, Ask, Dialog, Document, Field, File, Form, HandOver, Incoming, Photo, Picture, Reply
from app.bot.texts import Texts, fill, load_texts
from app.settings import SettingsError

MOSCOW = ZoneInfo("Europe/Moscow")
WORKING = datetime(2026, 5, 14, 12, 0, tzinfo=MOSCOW)  # a Thursday
CAROUSEL = Carousel([Card("a", buttons=[Button("a", "a")])])
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
    [{"payload": {"command": "start"}}, {"text": "/Start"}, {"text": " НАЧАТЬ! "}, {"text": "Добрый день!"}, {"in_chat": True}],
)
def test_a_newcomer_is_greeted_by_name_and_offered_the_menu(texts: Texts, message: dict[str, Any]) -> None:
    (reply,) = told(texts, name="Анна", first=True, **message)
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


@pytest.mark.parametrize("message", [{"text": "есть кто?"}, {"text": "Здравствуйте, где мой заказ?"}, {"attachments": [{}]}])
def test_a_newcomer_who_is_not_understood_is_greeted_and_handed_over(texts: Texts, message: dict[str, Any]) -> None:
    reply, hand_over = told(texts, name="Анна", first=True, **message)
    assert reply == Reply(fill(texts.newcomer, name=", Анна"), Keyboard())
    assert hand_over == HandOver()


def test_a_newcomer_who_is_understood_is_only_answered(texts: Texts) -> None:
    assert told(texts, texts.questions[0].words[0], first=True)[0].text == texts.questions[0].answer
    assert told(texts, "/menu", first=True)[0].text == texts.menu
    assert told(texts, "оператора!", first=True) == [Reply(texts.handed_over, Keyboard()), HandOver(texts.buttons.human)]


HUMANS = (
    *("позовите оператора", "Менеджер!", "нужен живой человек", "поговорить с человеком", "служба поддержки", "есть жалоба"),
    *("хочу пожаловаться", "позовите кого-нибудь", "A HUMAN!", "two agents", "call support", "a complaint", "an operator"),
)


@pytest.mark.parametrize("message", [{"payload": {"command": "human"}}, *({"text": text} for text in HUMANS)])
def test_a_human_is_called(texts: Texts, message: dict[str, Any]) -> None:
    assert told(texts, **message) == [Reply(texts.handed_over, Keyboard()), HandOver(texts.buttons.human)]


@pytest.mark.parametrize("text", ["как человечно", "кооператор", "humane", "an agency", "insupportable", "supporting"])
def test_only_whole_words_call_a_human(texts: Texts, text: str) -> None:
    assert told(texts, text) == [Reply(texts.unknown, Keyboard()), HandOver()]


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


# --- The form ---


def wait_for(texts: Texts, *answers: str) -> tuple[Reply, Ask]:
    """The question after `answers`."""
    reply, ask = told(texts, payload={"command": "request"})
    for text in answers:
        assert isinstance(ask, Ask)
        reply, ask = told(texts, text, step=ask.step, form=ask.form)
    assert isinstance(reply, Reply)
    assert isinstance(ask, Ask)
    return reply, ask


def test_a_form_asks_checks_and_hands_over(texts: Texts) -> None:
    asked = [wait_for(texts, *["Анна", "+7 (912) 345-67-89"][:number])[0] for number in range(3)]
    assert [reply.text for reply in asked] == [texts.request.name, texts.request.phone, texts.request.comment]
    assert [button.label for button in buttons(asked[2])] == [texts.form.skip, texts.form.back, texts.form.cancel]
    reply, ask = wait_for(texts, "Анна", "+7 (912) 345-67-89", "о доставке {name}")
    for said in ("Анна", "+79123456789", "о доставке {name}"):
        assert said in reply.text
    done, hand_over = press(texts, buttons(reply)[0], step=ask.step, form=ask.form)
    assert done == Reply(texts.request.done, Keyboard())
    assert hand_over == HandOver(texts.buttons.request, "Анна, +79123456789\nо доставке {name}")


@pytest.mark.parametrize("wrong", ["", "позже", "12345", "+7 912", "1234567890123456", "+7912345678a", "٣٤٥٦٧٨٩٠١٢"])
def test_a_wrong_answer_is_asked_for_again_and_kindly(texts: Texts, wrong: str) -> None:
    reply, ask = wait_for(texts, "Анна", wrong)
    assert reply.text == texts.request.wrong_phone
    assert ask.form == {"name": "Анна"}


def test_words_are_wanted_where_words_are_asked_for(texts: Texts) -> None:
    _reply, ask = told(texts, payload={"command": "request"})
    assert isinstance(ask, Ask)
    assert told(texts, attachments=[{"type": "sticker"}], step=ask.step)[0].text == texts.form.words
    assert told(texts, "я" * 1001, step=ask.step)[0].text == texts.form.shorter
    assert wait_for(texts, "Анна", "89123456789", "-", "да, наверное")[0].text == texts.form.choose


def test_a_question_can_be_skipped_and_gone_back_to_and_the_form_left(texts: Texts) -> None:
    reply, ask = wait_for(texts, "Анна", "89123456789", texts.form.skip)
    assert texts.request.no_comment in reply.text
    for question, answers in ((texts.request.comment, 2), (texts.request.phone, 1), (texts.request.name, 0)):
        reply, ask = told(texts, texts.form.back.upper(), step=ask.step, form=ask.form)
        assert isinstance(ask, Ask)
        assert (reply.text, len(ask.form)) == (question, answers)
    for word in (texts.form.back, texts.form.cancel):
        assert told(texts, word, step=ask.step)[0].text == texts.request.cancelled


def test_words_that_are_commands_elsewhere_are_answers_in_a_form(texts: Texts) -> None:
    for word in ("Меню", "привет", "оператор", "спасибо"):
        assert wait_for(texts, word)[1].form == {"name": word}


@pytest.mark.parametrize(("payload", "text"), [({"command": "menu"}, "В начало"), ({}, "/menu")])
def test_a_form_is_not_left_without_a_word(texts: Texts, payload: dict[str, str], text: str) -> None:
    left, menu = told(texts, text, payload=payload, step="request", form={"name": "Анна"})
    assert left == Reply(texts.form.left)
    assert menu.text == texts.menu


def test_a_question_that_the_story_no_longer_has_is_not_forgotten_without_a_word(texts: Texts) -> None:
    assert told(texts, "спасибо", step="forgotten")[0] == Reply(texts.form.left)


def test_a_button_of_a_form_that_is_over_says_so(texts: Texts) -> None:
    assert told(texts, texts.form.back, payload={"command": "form.back"}) == [Reply(texts.form.over, Keyboard())]
    waiting = {"step": "describe", "form": {"topic": "Заказ"}}
    assert told(texts, "", payload={"command": "form.back"}, **waiting) == [
        Reply(texts.form.over),
        Ask("describe", {"topic": "Заказ"}),
    ]


def test_a_form_that_has_changed_asks_what_is_missing(texts: Texts) -> None:
    reply, ask = told(texts, "без имени", step="request", form={"phone": "89123456789", "gone": 1})
    assert isinstance(ask, Ask)
    assert ask.form == {"phone": "89123456789", "gone": 1, "name": "без имени"}
    assert reply.text == texts.request.comment


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_a_form_needs_fields_of_different_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="different names"):
        Form("f", [Field(name, ask=lambda _: "?") for name in names], done=lambda _: [], cancelled=lambda _: [])


def anything() -> st.SearchStrategy[str]:
    """What people write, and the words that mean something."""
    russian = load_texts("ru")
    words = [
        russian.form.back,
        russian.form.cancel,
        russian.form.skip,
        russian.request.send,
        "+7 912 345-67-89",
        "/menu",
        "оператор",
    ]
    return st.one_of(st.sampled_from(words), st.text(max_size=60))


def any_payload() -> st.SearchStrategy[dict[str, Any]]:
    commands = ["request", "menu", "topic", "question", "form.back", "form.cancel", "form.skip", "form.answer", "human", "x"]
    values = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2))
    named = st.fixed_dictionaries({"command": st.sampled_from(commands)}, optional={"title": values})
    return st.one_of(st.just({}), named, st.dictionaries(st.sampled_from(["command", "title"]), values))


@given(st.lists(st.tuples(anything(), any_payload()), max_size=12))
def test_no_message_breaks_a_form_or_loses_it_silently(messages: list[tuple[str, dict[str, Any]]]) -> None:
    texts = load_texts("ru")
    ends = {texts.form.left, texts.request.cancelled, texts.request.done}
    _, ask = wait_for(texts)
    step, form = ask.step, ask.form
    for text, payload in messages:
        actions = told(texts, text, payload=payload, step=step, form=form)
        said = [action.text for action in actions if isinstance(action, Reply)]
        assert said
        asked = [action for action in actions if isinstance(action, Ask)]
        if step == "request" and not (asked and asked[-1].step == "request"):
            assert ends & set(said), actions
        step, form = (asked[-1].step, json.loads(json.dumps(asked[-1].form))) if asked else ("", {})


# --- Hours, files, replies ---


@pytest.mark.parametrize(
    ("at", "back"),
    [
        ("2026-05-14 10:00", ""),
        ("2026-05-14 18:59", ""),
        ("2026-05-14 09:59", "сегодня в 10:00"),
        ("2026-05-14 19:00", "завтра в 10:00"),
        ("2026-05-15 19:00", "в понедельник в 10:00"),
        ("2026-05-16 12:00", "в понедельник в 10:00"),
        ("2026-05-17 12:00", "завтра в 10:00"),
    ],
)
def test_a_hand_over_says_when_the_operators_are_back(at: str, back: str) -> None:
    texts = load_texts("ru")
    reply, hand_over = told(texts, "позовите оператора", at=datetime.fromisoformat(at).replace(tzinfo=MOSCOW))
    assert isinstance(reply, Reply)
    assert hand_over == HandOver(texts.buttons.human)
    assert reply.text == (
        f"{texts.handed_over}\nСейчас операторы отдыхают. Они вернутся {back} и ответят вам." if back else texts.handed_over
    )


def test_without_hours_the_operators_are_always_there(texts: Texts) -> None:
    always = texts.model_copy(update={"hours": None})
    night = datetime(2026, 5, 16, 3, 0, tzinfo=MOSCOW)
    assert told(always, "human", at=night)[0].text == texts.handed_over


def test_the_person_is_told_that_the_operators_are_done(texts: Texts) -> None:
    (reply,) = dialog.after_closing(Incoming(texts=texts))
    assert isinstance(reply, Reply)
    assert reply.text == texts.closed
    assert buttons(reply)


def test_handlers_get_photos_and_documents_as_values(texts: Texts) -> None:
    sizes = [{"url": "small", "width": 75, "height": 50}, {"url": "large", "width": 1280, "height": 853}, {"width": "?"}]
    attachments = [
        {"type": "photo", "photo": {"sizes": sizes}},
        {"type": "doc", "doc": {"title": "счёт.pdf", "url": "u", "size": 2048}},
        {"type": "photo", "photo": {"sizes": "none"}},
        {"type": "photo", "photo": None},
        {"type": "doc", "doc": {}},
        {"type": "wall"},
        {},
    ]
    message = Incoming(texts=texts, attachments=attachments)
    assert message.photos == [Picture("large", 1280, 853)]
    assert message.documents == [File("счёт.pdf", "u", 2048)]


def test_files_are_sent_from_the_disk_or_from_memory(tmp_path: Path) -> None:
    file = tmp_path / "map.png"
    file.write_bytes(b"png")
    assert Photo(file).render() == {"kind": "photo", "name": "map.png", "path": str(file)}
    assert Photo(b"png").render() == {"kind": "photo", "name": "photo.png", "data": "cG5n"}
    assert Document(b"a,b", "цены.csv").render() == {"kind": "doc", "name": "цены.csv", "data": "YSxi"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Photo(Path("nowhere.png")), "there is no file nowhere.png"),
        (lambda: Photo(b"png", "a.tiff"), "pictures that end in"),
        (lambda: Photo(b""), "not none"),
        (lambda: Document(b"a" * (5 * 2**20 + 1), "a.csv"), "put more into a file"),
        (lambda: Document(b"a"), "a name with an ending"),
        (lambda: Reply(""), "needs a text"),
        (lambda: Reply("", carousel=CAROUSEL), "needs a text beside it"),
        (lambda: Reply("a", Keyboard([[Button("a", "a")]], inline=True), carousel=CAROUSEL), "not both"),
        (lambda: Acknowledge("a" * 91), "at most 90"),
    ],
)
def test_an_answer_that_vk_would_refuse_cannot_be_made(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
