"""The story that the bot tells: edit this file to change what it does, and `texts/*.toml` to change what it says.

A handler takes a person's message and returns what to do, one action or several: `Reply`, `Ask` for more, `HandOver` to the
operators. It is a plain function: no database, no network, nothing to wait for. What it raises is logged, and the message goes
to the operators. See `tests/test_bot_dialog.py` for how to test it.
"""

import re
from collections.abc import Sequence

from app.bot.keyboard import Button, Keyboard
from app.bot.talk import Action, Again, Ask, Dialog, Field, Form, HandOver, Incoming, Reply
from app.bot.texts import Texts, fill

dialog = Dialog()


@dialog.button("start")
@dialog.command("start", "начать", "старт", "привет", "здравствуй", "здравствуйте", "доброе утро", "добрый день", "добрый вечер")
@dialog.command("hello", "hi", "hey", "good morning", "good afternoon", "good evening")
def greet(message: Incoming) -> Reply:
    """Say who is here and what there is to choose from."""
    return Reply(_hello(message, message.texts.greeting), _menu(message.texts))


@dialog.button("menu")
@dialog.command("menu", "меню", "назад", "back")
def menu(message: Incoming) -> Reply:
    """Back to the beginning."""
    return Reply(message.texts.menu, _menu(message.texts))


@dialog.button("topics")
def topics(message: Incoming) -> Reply:
    """Let the person choose what it is about."""
    return Reply(message.texts.choose_topic, _choices(message.texts, "topic", [topic.title for topic in message.texts.topics]))


@dialog.button("topic")
def topic_chosen(message: Incoming) -> Action | Sequence[Action]:
    """Ask for what the operators need to know, so that they can answer at once."""
    for topic in message.texts.topics:
        if topic.title == message.payload.get("title"):
            return [Reply(topic.ask, Keyboard([[_back(message.texts)]])), Ask("describe", {"topic": topic.title})]
    return topics(message)


@dialog.step("describe")
def described(message: Incoming) -> Sequence[Action]:
    """The person has told everything: the operators' turn."""
    return _hand_over(message, message.texts.handed_over, HandOver(message.form["topic"]))


@dialog.button("questions")
def questions(message: Incoming) -> Reply:
    """Let the person choose a frequent question."""
    titles = [question.title for question in message.texts.questions]
    return Reply(message.texts.choose_question, _choices(message.texts, "question", titles))


@dialog.button("question")
def question_chosen(message: Incoming) -> Reply:
    """Answer it; the questions stay on the buttons."""
    for question in message.texts.questions:
        if question.title == message.payload.get("title"):
            return Reply(question.answer)
    return questions(message)


@dialog.button("human")
@dialog.pattern(r"\b(оператор|менеджер|консультант|поддержк|жалоб)\w*|\b(человек(а|у|ом)?|позови(те)?|позвать|пожаловаться)\b")
@dialog.pattern(r"\b((operator|manager|human|agent|complaint)s?|complain|support|representative)\b")
def call_a_human(message: Incoming) -> Sequence[Action]:
    """Hand over without further questions."""
    return _hand_over(message, message.texts.handed_over, HandOver(message.texts.buttons.human))


@dialog.pattern(r"^(спасибо|благодарю|thanks|thank you)\b")
def thanked(message: Incoming) -> Reply:
    """A word of thanks needs no operator."""
    return Reply(message.texts.welcome, _menu(message.texts))


@dialog.closed
def closed(message: Incoming) -> Reply:
    """The operators are done: the bot is here again."""
    return Reply(message.texts.closed, _menu(message.texts))


@dialog.otherwise
def free_text(message: Incoming) -> Action | Sequence[Action]:
    """Answer a frequent question; hand everything else over, and say so. A newcomer is greeted too."""
    for question in message.texts.questions:
        if question.asked_in(message.text):
            return Reply(question.answer, _menu(message.texts))
    if message.in_chat and not message.text:  # only the bot's name
        return greet(message) if message.first else menu(message)
    text = _hello(message, message.texts.newcomer) if message.first else message.texts.unknown
    return _hand_over(message, text, HandOver())


# --- A form: three questions and a last look, then the operators' turn ---


def phone(message: Incoming) -> str:
    """The check of a phone number: 10 to 15 digits, with or without the usual signs between them."""
    digits = re.sub(r"[\s().-]", "", message.text)
    if not re.fullmatch(r"\+?[0-9]{10,15}", digits):
        raise Again(message.texts.request.wrong_phone)
    return digits


def summary(message: Incoming) -> str:
    """Everything that was answered, for the last look."""
    comment = message.form["comment"] or message.texts.request.no_comment
    return fill(message.texts.request.confirm, name=message.form["name"], phone=message.form["phone"], comment=comment)


def requested(message: Incoming) -> Sequence[Action]:
    """The operators call back."""
    note = f"{message.form['name']}, {message.form['phone']}\n{message.form['comment'] or ''}".strip()
    return _hand_over(message, message.texts.request.done, HandOver(message.texts.buttons.request, note))


def request_cancelled(message: Incoming) -> Reply:
    """Nothing is kept."""
    return Reply(message.texts.request.cancelled, _menu(message.texts))


request = dialog.form(
    Form(
        "request",
        [
            Field("name", ask=lambda message: message.texts.request.name),
            Field("phone", ask=lambda message: message.texts.request.phone, check=phone),
            Field("comment", ask=lambda message: message.texts.request.comment, optional=True),
            Field("confirmed", ask=summary, choices=lambda texts: [texts.request.send]),
        ],
        done=requested,
        cancelled=request_cancelled,
    )
)


@dialog.button("request")
@dialog.command("request", "заявка", "перезвоните мне", "call me back")
def request_started(message: Incoming) -> Sequence[Action]:
    """Begin with the first question."""
    return request.start(message)


# --- Keyboards, and what several handlers say ---


def _hello(message: Incoming, text: str) -> str:
    return fill(text, name=f", {message.name}" if message.name else "")


def _hand_over(message: Incoming, text: str, hand_over: HandOver) -> Sequence[Action]:
    hours = message.texts.hours
    notice = hours.notice(message.at) if hours else ""
    return [Reply(f"{text}\n{notice}".strip(), Keyboard()), hand_over]


def _menu(texts: Texts) -> Keyboard:
    buttons = texts.buttons
    return Keyboard(
        [
            [Button(buttons.topics, "topics", color="primary")],
            [Button(buttons.questions, "questions"), Button(buttons.request, "request")],
            [Button(buttons.human, "human")],
        ]
    )


def _choices(texts: Texts, command: str, titles: Sequence[str]) -> Keyboard:
    return Keyboard([*([Button(title, command, {"title": title})] for title in titles), [_back(texts)]])


def _back(texts: Texts) -> Button:
    return Button(texts.buttons.back, "menu")
