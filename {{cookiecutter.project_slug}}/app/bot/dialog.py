"""The story that the bot tells: edit this file to change what it does, and `texts/*.toml` to change what it says.

A handler takes a person's message and returns what to do: `Reply`, `Ask` for more, `HandOver` to the operators, in that order
or any other. It is a plain function: no database, no network, nothing to wait for. What it raises is logged, and the message
is set aside for the operators. See `tests/test_bot_dialog.py` for how to test it.
"""

from collections.abc import Sequence

from app.bot.talk import Action, Ask, Button, Dialog, HandOver, Incoming, Keyboard, Reply
from app.bot.texts import Texts

dialog = Dialog()


@dialog.button("start")
@dialog.command("start", "начать", "старт", "hello", "hi", "привет", "здравствуйте")
def greet(message: Incoming) -> Sequence[Action]:
    """Say who is here and what there is to choose from."""
    name = f", {message.name}" if message.name else ""
    return [Reply(message.texts.greeting.replace("{name}", name), _menu(message.texts))]


@dialog.button("menu")
@dialog.command("menu", "меню", "назад", "back")
def menu(message: Incoming) -> Sequence[Action]:
    """Back to the beginning."""
    return [Reply(message.texts.menu, _menu(message.texts))]


@dialog.button("topics")
def topics(message: Incoming) -> Sequence[Action]:
    """Let the person choose what it is about."""
    return [Reply(message.texts.choose_topic, _choices(message.texts, "topic", [topic.title for topic in message.texts.topics]))]


@dialog.button("topic")
def topic_chosen(message: Incoming) -> Sequence[Action]:
    """Ask for what the operators need to know, so that they can answer at once."""
    for topic in message.texts.topics:
        if topic.title == message.payload.get("title"):
            return [Reply(topic.ask, Keyboard([[_back(message.texts)]])), Ask("describe", {"topic": topic.title})]
    return topics(message)


@dialog.step("describe")
def described(message: Incoming) -> Sequence[Action]:
    """The person has told everything: the operators' turn."""
    return [Reply(message.texts.handed_over, Keyboard()), HandOver(message.form["topic"])]


@dialog.button("questions")
def questions(message: Incoming) -> Sequence[Action]:
    """Let the person choose a frequent question."""
    titles = [question.title for question in message.texts.questions]
    return [Reply(message.texts.choose_question, _choices(message.texts, "question", titles))]


@dialog.button("question")
def question_chosen(message: Incoming) -> Sequence[Action]:
    """Answer it; the questions stay on the buttons."""
    for question in message.texts.questions:
        if question.title == message.payload.get("title"):
            return [Reply(question.answer)]
    return questions(message)


@dialog.button("human")
@dialog.pattern(r"\b(оператор|менеджер|жив(ой|ым) человек|operator|human)")
def call_a_human(message: Incoming) -> Sequence[Action]:
    """Hand over without further questions."""
    return [Reply(message.texts.handed_over, Keyboard()), HandOver(message.texts.buttons.human)]


@dialog.pattern(r"^(спасибо|благодарю|thanks|thank you)\b")
def thanked(message: Incoming) -> Sequence[Action]:
    """A word of thanks needs no operator."""
    return [Reply(message.texts.welcome, _menu(message.texts))]


@dialog.otherwise
def free_text(message: Incoming) -> Sequence[Action]:
    """Answer a frequent question, greet a newcomer; hand everything else over, and say so."""
    for question in message.texts.questions:
        if question.asked_in(message.text):
            return [Reply(question.answer, _menu(message.texts))]
    if message.first:
        return greet(message)
    return [Reply(message.texts.unknown, Keyboard()), HandOver()]


def _menu(texts: Texts) -> Keyboard:
    buttons = texts.buttons
    return Keyboard(
        [
            [Button(buttons.topics, "topics", color="primary")],
            [Button(buttons.questions, "questions")],
            [Button(buttons.human, "human")],
        ]
    )


def _choices(texts: Texts, command: str, titles: Sequence[str]) -> Keyboard:
    return Keyboard([*([Button(title, command, {"title": title})] for title in titles), [_back(texts)]])


def _back(texts: Texts) -> Button:
    return Button(texts.buttons.back, "menu")
