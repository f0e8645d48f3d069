"""What a dialog is made of: messages, actions, keyboards and the register of handlers. The story itself is in `dialog.py`."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.bot.texts import Texts

LABEL_LIMIT, PAYLOAD_LIMIT = 40, 255  # characters in a button
COLUMNS, ROWS, BUTTONS = 5, 10, 40
INLINE_ROWS, INLINE_BUTTONS = 6, 10


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A person's message, and where they are in the dialog."""

    text: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)  # of the pressed button: {"command": …, …}
    attachments: Sequence[Mapping[str, Any]] = ()  # VK's own structures
    name: str = ""  # the first name; empty while it is unknown
    first: bool = False  # they never wrote before
    step: str | None = None  # what the last answer asked for (`Ask`)
    form: Mapping[str, Any] = field(default_factory=dict)  # what `Ask` wanted to be remembered
    texts: Texts


@dataclass(frozen=True)
class Button:
    """A button that says its label in the person's name and carries `command` and `data`, both for `Dialog.button`."""

    label: str
    command: str
    data: Mapping[str, Any] = field(default_factory=dict)
    color: Literal["primary", "secondary", "positive", "negative"] = "secondary"

    def render(self) -> dict[str, Any]:
        """VK's structure. Raises `ValueError` when VK would not take it."""
        payload = json.dumps({"command": self.command, **self.data}, ensure_ascii=False)
        if len(payload) > PAYLOAD_LIMIT:
            raise ValueError(f"button {self.label!r} carries more than {PAYLOAD_LIMIT} characters")
        return {"action": {"type": "text", "label": _label(self.label), "payload": payload}, "color": self.color}


@dataclass(frozen=True)
class Link:
    """A button that opens an address."""

    label: str
    url: str

    def render(self) -> dict[str, Any]:
        """VK's structure. Raises `ValueError` when VK would not take it."""
        return {"action": {"type": "open_link", "label": _label(self.label), "link": self.url}}


def _label(label: str) -> str:
    if not 0 < len(label) <= LABEL_LIMIT:
        raise ValueError(f"a button's label has 1 to {LABEL_LIMIT} characters: {label!r}")
    return label


@dataclass(frozen=True)
class Keyboard:
    """Rows of buttons below the dialog, or inside the message (`inline`). Without rows it takes the last keyboard away."""

    rows: Sequence[Sequence[Button | Link]] = ()
    inline: bool = False
    one_time: bool = False

    def render(self) -> dict[str, Any]:
        """VK's structure. Raises `ValueError` when VK would not take it."""
        rows, buttons = (INLINE_ROWS, INLINE_BUTTONS) if self.inline else (ROWS, BUTTONS)
        widths = [len(row) for row in self.rows]
        if len(widths) > rows or sum(widths) > buttons or not all(0 < width <= COLUMNS for width in widths):
            raise ValueError(f"this keyboard holds at most {rows} rows of 1 to {COLUMNS} buttons, {buttons} in all: {widths}")
        return {
            "one_time": self.one_time,
            "inline": self.inline,
            "buttons": [[button.render() for button in row] for row in self.rows],
        }


@dataclass(frozen=True)
class Reply:
    """Say something. `attachment` is VK's word for it: "photo{owner}_{id}_{key}"."""

    text: str
    keyboard: Keyboard | None = None
    attachment: str | None = None


@dataclass(frozen=True)
class Ask:
    """Give the person's next message to the handler of `step`, together with `form`."""

    step: str
    form: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HandOver:
    """Give the word to the operators; the bot is silent until they close the conversation."""

    topic: str | None = None


@dataclass(frozen=True)
class Resume:
    """The word is the bot's, and what it asked last is answered. Comes first of all (`take.py`); handlers do not return it."""


Action = Reply | Ask | HandOver | Resume
Handler = Callable[[Incoming], Sequence[Action]]


class Dialog:
    """Finds the handler of a message: of its button, else of its whole text, else of the step, else of a pattern in the text."""

    def __init__(self) -> None:
        self._buttons: dict[str, Handler] = {}
        self._commands: dict[str, Handler] = {}
        self._steps: dict[str, Handler] = {}
        self._patterns: list[tuple[re.Pattern[str], Handler]] = []
        self._otherwise: Handler = lambda _message: []

    def button(self, *commands: str) -> Callable[[Handler], Handler]:
        """Handle the buttons that carry one of `commands`. VK's own Start button carries "start"."""
        return _register(self._buttons, commands)

    def command(self, *texts: str) -> Callable[[Handler], Handler]:
        """Handle a message that is one of `texts` and nothing more; case, a leading slash and end marks do not count."""
        return _register(self._commands, [_plain(text) for text in texts])

    def step(self, name: str) -> Callable[[Handler], Handler]:
        """Handle what comes after `Ask(name)`."""
        return _register(self._steps, [name])

    def pattern(self, regex: str) -> Callable[[Handler], Handler]:
        """Handle a message in which `regex` is found, whatever its case. Of several patterns the first counts."""

        def register(handler: Handler) -> Handler:
            self._patterns.append((re.compile(regex, re.IGNORECASE), handler))
            return handler

        return register

    def otherwise(self, handler: Handler) -> Handler:
        """Handle what nothing else does."""
        self._otherwise = handler
        return handler

    def __call__(self, message: Incoming) -> Sequence[Action]:
        """What to do about `message`."""
        return self._find(message)(message)

    def _find(self, message: Incoming) -> Handler:
        known = (
            self._buttons.get(str(message.payload.get("command"))),
            self._commands.get(_plain(message.text)),
            self._steps.get(message.step or ""),
            *(handler for regex, handler in self._patterns if regex.search(message.text)),
        )
        return next((handler for handler in known if handler is not None), self._otherwise)


def _register(handlers: dict[str, Handler], keys: Sequence[str]) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for key in keys:
            if key in handlers:
                raise ValueError(f"two handlers for {key!r}")
            handlers[key] = handler
        return handler

    return register


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).lstrip("/").rstrip(".!?")
