"""What a dialog is made of: messages, actions, forms and the register of handlers. The story itself is in `dialog.py`."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from app.bot.keyboard import Button, Carousel, Keyboard
from app.bot.texts import Texts

PICTURES = {".jpg", ".jpeg", ".png", ".gif"}
BYTES_LIMIT = 5 * 2**20  # of what goes through the database; files do not
NOTICE_LIMIT = 90  # characters
ANSWER_LIMIT = 1000  # characters of an answer in a form


@dataclass(frozen=True)
class Picture:
    """A photo that a person sent, in its largest size."""

    url: str
    width: int
    height: int


@dataclass(frozen=True)
class File:
    """A document that a person sent; `size` in bytes."""

    title: str
    url: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A person's message, and where they are in the dialog."""

    text: str = ""  # in group chats without the mention of the bot
    payload: Mapping[str, Any] = field(default_factory=dict)  # of the pressed button: {"command": …, …}
    attachments: Sequence[Mapping[str, Any]] = ()  # VK's own structures
    name: str = ""  # the first name; empty while it is unknown
    first: bool = False  # they never wrote before
    in_chat: bool = False  # in a group chat, where the bot was addressed
    step: str | None = None  # what the last answer asked for (`Ask`, `Form`)
    form: Mapping[str, Any] = field(default_factory=dict)  # what `Ask` wanted to be remembered, or a form's answers so far
    at: datetime = field(default_factory=lambda: datetime.now(UTC))  # this moment, in the project's time zone
    texts: Texts

    @property
    def photos(self) -> list[Picture]:
        """The photos among the attachments; what is not in VK's form is left out."""
        sizes = [_list_of_dicts(photo.get("sizes")) for photo in self._of_kind("photo")]
        largest = [max(known, key=lambda size: _number(size.get("width"))) for known in sizes if known]
        return [
            Picture(str(size["url"]), _number(size.get("width")), _number(size.get("height")))
            for size in largest
            if "url" in size
        ]

    @property
    def documents(self) -> list[File]:
        """The documents among the attachments; what is not in VK's form is left out."""
        return [
            File(str(doc.get("title", "")), str(doc["url"]), _number(doc.get("size")))
            for doc in self._of_kind("doc")
            if "url" in doc
        ]

    def _of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return _list_of_dicts([attachment.get(kind) for attachment in self.attachments if attachment.get("type") == kind])


def _list_of_dicts(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True)
class Photo:
    """A picture to send: a file beside the code, or bytes up to 5 MiB that were made just now. VK takes JPEG, PNG and GIF."""

    content: Path | bytes
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or _file_name(self.content, "photo.png"))
        if Path(self.name).suffix.lower() not in PICTURES:
            raise ValueError(f"VK takes pictures that end in {', '.join(sorted(PICTURES))}: {self.name!r}")
        _require_content(self.content)

    def render(self) -> dict[str, Any]:
        """What stands in `delivery.upload`."""
        return {"kind": "photo", "name": self.name, **_stored(self.content)}


@dataclass(frozen=True)
class Document:
    """A document to send: a file beside the code, or bytes up to 5 MiB that were made just now. `name` is what people see."""

    content: Path | bytes
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or _file_name(self.content, ""))
        if not Path(self.name).suffix:
            raise ValueError(f"a document needs a name with an ending, like price.pdf: {self.name!r}")
        _require_content(self.content)

    def render(self) -> dict[str, Any]:
        """What stands in `delivery.upload`."""
        return {"kind": "doc", "name": self.name, **_stored(self.content)}


def _file_name(content: Path | bytes, otherwise: str) -> str:
    return content.name if isinstance(content, Path) else otherwise


def _require_content(content: Path | bytes) -> None:
    if isinstance(content, Path) and not content.is_file():
        raise ValueError(f"there is no file {content}")
    if isinstance(content, bytes) and not 0 < len(content) <= BYTES_LIMIT:
        raise ValueError(f"up to {BYTES_LIMIT} bytes can be sent, and not none: {len(content)}; put more into a file")


def _stored(content: Path | bytes) -> dict[str, str]:
    if isinstance(content, Path):
        return {"path": str(content.resolve())}
    return {"data": base64.b64encode(content).decode()}


@dataclass(frozen=True)
class Reply:
    """Say something. `upload` is sent along; `attachment` is VK's word for what it has already: "photo{owner}_{id}_{key}".

    A long text goes in parts; all else goes with the last of them.
    """

    text: str = ""
    keyboard: Keyboard | None = None
    attachment: str | None = None
    carousel: Carousel | None = None
    upload: Photo | Document | None = None

    def __post_init__(self) -> None:
        if self.carousel and not self.text.strip():
            raise ValueError("a carousel needs a text beside it")
        if self.carousel and self.keyboard and self.keyboard.inline:
            raise ValueError("a message has a carousel or a keyboard inside it, not both")
        if not (self.text.strip() or self.attachment or self.upload):
            raise ValueError("a reply needs a text, an attachment or an upload")


@dataclass(frozen=True)
class Ask:
    """Give the person's next message to the handler of `step`, together with `form`."""

    step: str
    form: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HandOver:
    """Give the word to the operators; the bot is silent until they close the conversation.

    `note` is what the operators' chat is shown of it; without one, the message itself.
    """

    topic: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Acknowledge:
    """Answer the press of a `Callback` button, which shows that it waits: `text` is shown for a moment, up to 90 characters.

    A press that no handler acknowledges is acknowledged without a text; a message that is no press needs none.
    """

    text: str = ""

    def __post_init__(self) -> None:
        if len(self.text) > NOTICE_LIMIT:
            raise ValueError(f"at most {NOTICE_LIMIT} characters are shown for a moment: {self.text!r}")


@dataclass(frozen=True)
class Tell:
    """Say something in another dialog, such as the operators' chat. It belongs to no conversation of the inbox."""

    peer_id: int
    text: str
    keyboard: Keyboard | None = None


@dataclass(frozen=True)
class Resume:
    """The word is the bot's, and what it asked last is answered. Comes first of all (`take.py`); handlers do not return it."""


@dataclass(frozen=True)
class Assign:
    """Somebody in the operators' chat (`peer_id`) takes a conversation. `operators.py` does it; handlers do not return it."""

    conversation_id: int
    vk_id: int
    peer_id: int


@dataclass(frozen=True)
class Report:
    """The operators' chat asks how the last `days` went. `operators.py` knows it; handlers do not return it."""

    peer_id: int
    days: int = 1


Action = Reply | Ask | HandOver | Acknowledge | Tell | Resume | Assign | Report
Handler = Callable[[Incoming], Action | Sequence[Action]]
ThisHandler = TypeVar("ThisHandler", bound=Handler)  # a decorated function stays what it is


class Again(Exception):
    """An answer in a form is not what was asked for; the text says kindly what is."""


def written(message: Incoming) -> str:
    """The check of a field that takes any words. Raises `Again` for a message without words, or with too many."""
    text = message.text.strip()
    if not text:
        raise Again(message.texts.form.words)
    if len(text) > ANSWER_LIMIT:
        raise Again(message.texts.form.shorter)
    return text


@dataclass(frozen=True)
class Field:
    """One question of a form.

    `ask` gives the question; `message.form` holds what was answered before. `check` gives what is to be kept of the answer,
    anything that JSON can hold, or raises `Again`. With `choices`, up to eight, the answer is one of them, on buttons.
    What is `optional` may be skipped, and is None then.
    """

    name: str
    ask: Callable[[Incoming], str]
    check: Callable[[Incoming], Any] = written
    choices: Callable[[Texts], Sequence[str]] | None = None
    optional: bool = False

    def value(self, message: Incoming) -> Any:
        """What is kept of the answer. Raises `Again`."""
        if self.optional and _chosen(message, "form.skip", message.texts.form.skip):
            return None
        if self.choices is None:
            return self.check(message)
        for choice in self.choices(message.texts):
            if plain(message.text) == plain(choice):
                return choice
        raise Again(message.texts.form.choose)


@dataclass(frozen=True)
class Form:
    """Questions one after another, with ways back and out. What was answered is in the database, so a restart changes nothing.

    Start it with `return form.start(message)`. `done` gets the message with all answers in `message.form`, `cancelled` gets
    those so far. Which question comes next follows from the answers alone: a form that gets another question is asked it.
    """

    name: str
    fields: Sequence[Field]
    done: Handler
    cancelled: Handler

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"form {self.name!r} needs fields of different names: {names}")

    def start(self, message: Incoming, **known: Any) -> Sequence[Action]:
        """The first question. What is `known` already goes along, and a field of that name is not asked."""
        return self._go_on(message, known)

    def __call__(self, message: Incoming) -> Sequence[Action]:
        """The next question, the same again, or what `done` or `cancelled` say."""
        answers = dict(message.form)
        if _chosen(message, "form.cancel", message.texts.form.cancel):
            return _listed(self.cancelled(message))
        if _chosen(message, "form.back", message.texts.form.back):
            answered = self._answered(answers)
            if not answered:
                return _listed(self.cancelled(message))
            del answers[answered[-1].name]
            return self._go_on(message, answers)
        field = self._next(answers)
        if field is not None:
            try:
                answers[field.name] = field.value(message)
            except Again as again:
                return self._question(message, field, answers, str(again))
        return self._go_on(message, answers)

    def _go_on(self, message: Incoming, answers: Mapping[str, Any]) -> Sequence[Action]:
        message = replace(message, form=answers)
        field = self._next(answers)
        return _listed(self.done(message)) if field is None else self._question(message, field, answers, field.ask(message))

    def _question(self, message: Incoming, field: Field, answers: Mapping[str, Any], text: str) -> Sequence[Action]:
        words = message.texts.form
        rows = [[Button(choice, "form.answer", color="primary")] for choice in (field.choices or _nothing)(message.texts)]
        if field.optional:
            rows.append([Button(words.skip, "form.skip")])
        back = [Button(words.back, "form.back")] if self._answered(answers) else []
        rows.append([*back, Button(words.cancel, "form.cancel", color="negative")])
        return [Reply(text, Keyboard(rows)), Ask(self.name, answers)]

    def _next(self, answers: Mapping[str, Any]) -> Field | None:
        return next((field for field in self.fields if field.name not in answers), None)

    def _answered(self, answers: Mapping[str, Any]) -> list[Field]:
        return [field for field in self.fields if field.name in answers]


def _nothing(_texts: Texts) -> Sequence[str]:
    return ()


def _chosen(message: Incoming, command: str, label: str) -> bool:
    """Whether a button of a form was pressed, or its label typed."""
    return message.payload.get("command") == command or plain(message.text) == plain(label)


class Dialog:
    """Finds the handler of a message: of its button, else of its whole text, else of the step, else of a pattern in the text.

    In a form only buttons and commands with a slash come first: "menu" may well be somebody's answer.
    """

    def __init__(self) -> None:
        self._buttons: dict[str, Handler] = {}
        self._commands: dict[str, Handler] = {}
        self._steps: dict[str, Handler] = {}
        self._patterns: list[tuple[re.Pattern[str], Handler]] = []
        self._otherwise: Handler = lambda _message: []
        self._closed: Handler = lambda _message: []

    def button(self, *commands: str) -> Callable[[ThisHandler], ThisHandler]:
        """Handle the buttons that carry one of `commands`. VK's own Start button carries "start"."""
        return _register(self._buttons, commands)

    def command(self, *texts: str) -> Callable[[ThisHandler], ThisHandler]:
        """Handle a message that is one of `texts` and nothing more; case, a leading slash and end marks do not count."""
        return _register(self._commands, [plain(text) for text in texts])

    def step(self, name: str) -> Callable[[ThisHandler], ThisHandler]:
        """Handle what comes after `Ask(name)`."""
        return _register(self._steps, [name])

    def form(self, form: Form) -> Form:
        """Handle what comes after `form.start`."""
        _register(self._steps, [form.name])(form)
        return form

    def pattern(self, regex: str) -> Callable[[ThisHandler], ThisHandler]:
        """Handle a message in which `regex` is found, whatever its case. Of several patterns the first counts."""

        def register(handler: ThisHandler) -> ThisHandler:
            self._patterns.append((re.compile(regex, re.IGNORECASE), handler))
            return handler

        return register

    def otherwise(self, handler: ThisHandler) -> ThisHandler:
        """Handle what nothing else does."""
        self._otherwise = handler
        return handler

    def closed(self, handler: ThisHandler) -> ThisHandler:
        """Say something when operators have closed the conversation; the message it gets is empty."""
        self._closed = handler
        return handler

    def __call__(self, message: Incoming) -> Sequence[Action]:
        """What to do about `message`."""
        step = self._steps.get(message.step or "")
        handler = next(self._found(message, step))
        # a form, or a question that the story no longer has, is not left without a word
        left = message.step is not None and handler is not step and (step is None or isinstance(step, Form))
        return [*([Reply(message.texts.form.left)] if left else []), *_listed(handler(message))]

    def after_closing(self, message: Incoming) -> Sequence[Action]:
        """What to do when operators have closed the conversation."""
        return _listed(self._closed(message))

    def _found(self, message: Incoming, step: Handler | None) -> Iterator[Handler]:
        text = plain(message.text)
        button = self._buttons.get(str(message.payload.get("command")))
        command = self._commands.get(text)
        if isinstance(step, Form) and not message.text.lstrip().startswith("/"):
            command = None
        if button is None and not isinstance(step, Form) and str(message.payload.get("command")).startswith("form."):
            button = _form_is_over if step is None else _other_form_is_over
        yield from (handler for handler in (button, command, step) if handler is not None)
        yield from (handler for regex, handler in self._patterns if regex.search(message.text))
        yield self._otherwise


def _form_is_over(message: Incoming) -> Action:
    return Reply(message.texts.form.over, Keyboard())


def _other_form_is_over(message: Incoming) -> Sequence[Action]:
    return [Reply(message.texts.form.over), Ask(message.step or "", message.form)]


def _register(handlers: dict[str, Handler], keys: Sequence[str]) -> Callable[[ThisHandler], ThisHandler]:
    def register(handler: ThisHandler) -> ThisHandler:
        for key in keys:
            if key in handlers:
                raise ValueError(f"two handlers for {key!r}")
            handlers[key] = handler
        return handler

    return register


def _listed(actions: Action | Sequence[Action]) -> Sequence[Action]:
    return actions if isinstance(actions, Sequence) else [actions]


def plain(text: str) -> str:
    """`text` as it is compared: case, spaces, a leading slash and end marks do not count."""
    return " ".join(text.casefold().split()).lstrip("/").rstrip(".!?")
