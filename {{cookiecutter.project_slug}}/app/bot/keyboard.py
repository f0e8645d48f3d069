"""Keyboards and carousels. What VK would refuse is refused when it is made, in the line that is wrong, not when it is sent."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

Color = Literal["primary", "secondary", "positive", "negative"]

LABEL_LIMIT, PAYLOAD_LIMIT = 40, 255  # characters, bytes
COLUMNS, ROWS, BUTTONS = 5, 10, 40
INLINE_ROWS, INLINE_BUTTONS = 6, 10
CARDS, CARD_BUTTONS, CARD_TEXT = 10, 3, 80


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _require_label(label: str) -> None:
    _require(0 < len(label) <= LABEL_LIMIT, f"a button's label has 1 to {LABEL_LIMIT} characters: {label!r}")


def _require_address(url: str) -> None:
    _require(re.fullmatch(r"https?://\S+", url) is not None, f"an address begins with https:// and has no spaces: {url!r}")


def _payload(command: str, data: Mapping[str, Any]) -> str:
    """What comes back when the button is pressed. Raises `ValueError` when VK would not carry it."""
    _require("command" not in data, f"a button's command stands before its data, not in it: {data}")
    try:
        payload = json.dumps({"command": command, **data}, ensure_ascii=False, separators=(",", ":"))
    except TypeError as error:
        raise ValueError(f"the data of button {command!r} is not JSON: {error}") from None
    size = len(payload.encode())
    _require(size <= PAYLOAD_LIMIT, f"button {command!r} carries {size} bytes, more than {PAYLOAD_LIMIT}")
    return payload


@dataclass(frozen=True)
class Button:
    """A button that says its label in the person's name and carries `command` and `data`, both for `Dialog.button`."""

    label: str
    command: str
    data: Mapping[str, Any] = field(default_factory=dict)
    color: Color = "secondary"

    kind: ClassVar = "text"
    wide: ClassVar = False

    def __post_init__(self) -> None:
        _require_label(self.label)
        _require(self.color in get_args(Color), f"a button's colour is one of {', '.join(get_args(Color))}: {self.color!r}")
        _payload(self.command, self.data)

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        action = {"type": self.kind, "label": self.label, "payload": _payload(self.command, self.data)}
        return {"action": action, "color": self.color}


@dataclass(frozen=True)
class Callback(Button):
    """A button that says nothing in the dialog: its press comes to `Dialog.button` without a text."""

    kind: ClassVar = "callback"


@dataclass(frozen=True)
class Link:
    """A button that opens an address."""

    label: str
    url: str

    wide: ClassVar = False

    def __post_init__(self) -> None:
        _require_label(self.label)
        _require_address(self.url)

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        return {"action": {"type": "open_link", "label": self.label, "link": self.url}}


@dataclass(frozen=True)
class Location:
    """A button by which the person sends where they are. VK writes its label, and gives it a row of its own."""

    command: str
    data: Mapping[str, Any] = field(default_factory=dict)

    wide: ClassVar = True

    def __post_init__(self) -> None:
        _payload(self.command, self.data)

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        return {"action": {"type": "location", "payload": _payload(self.command, self.data)}}


@dataclass(frozen=True)
class VkPay:
    """A button that pays. `hash` is VK Pay's: "action=transfer-to-group&group_id=1&aid=10". It has a row of its own."""

    hash: str

    wide: ClassVar = True

    def __post_init__(self) -> None:
        _require(self.hash.startswith("action="), f"VK Pay's hash begins with action=: {self.hash!r}")

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        return {"action": {"type": "vkpay", "hash": self.hash}}


@dataclass(frozen=True)
class App:
    """A button that opens a VK mini app: vk.com/app{app_id}_{owner_id}#{hash}. It has a row of its own."""

    label: str
    app_id: int
    owner_id: int
    hash: str = ""

    wide: ClassVar = True

    def __post_init__(self) -> None:
        _require_label(self.label)

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        return {
            "action": {
                "type": "open_app",
                "label": self.label,
                "app_id": self.app_id,
                "owner_id": self.owner_id,
                "hash": self.hash,
            }
        }


AnyButton = Button | Link | Location | VkPay | App


@dataclass(frozen=True)
class Keyboard:
    """Rows of buttons below the dialog, or inside the message (`inline`). Without rows it takes the last keyboard away."""

    rows: Sequence[Sequence[AnyButton]] = ()
    inline: bool = False
    one_time: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        rows, buttons = (INLINE_ROWS, INLINE_BUTTONS) if self.inline else (ROWS, BUTTONS)
        widths = [len(row) for row in self.rows]
        _require(
            len(widths) <= rows and sum(widths) <= buttons and all(0 < width <= COLUMNS for width in widths),
            f"this keyboard holds at most {rows} rows of 1 to {COLUMNS} buttons, {buttons} in all: {widths}",
        )
        _require(not (self.inline and self.one_time), "a keyboard inside a message cannot go away after one use")
        _require(bool(self.rows) or not self.inline, "a keyboard inside a message needs at least one button")
        crowded = [button for row in self.rows for button in row if button.wide and len(row) > 1]
        _require(not crowded, f"needs a row of its own: {crowded}")

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        return {
            "one_time": self.one_time,
            "inline": self.inline,
            "buttons": [[button.render() for button in row] for row in self.rows],
        }


@dataclass(frozen=True)
class Card:
    """One of a carousel's elements. `photo` is of a picture that VK has already: "{owner}_{id}"."""

    title: str = ""
    description: str = ""
    photo: str = ""
    buttons: Sequence[AnyButton] = ()
    link: str = ""  # where a press on the card itself leads; without it, to the picture, if there is one

    def __post_init__(self) -> None:
        object.__setattr__(self, "buttons", tuple(self.buttons))
        _require(bool(self.title or self.photo), "a card needs a title or a photo")
        _require(bool(self.title) or not self.description, "a card with a description needs a title")
        for text in (self.title, self.description):
            _require(len(text) <= CARD_TEXT, f"a card's title and description have at most {CARD_TEXT} characters: {text!r}")
        _require(1 <= len(self.buttons) <= CARD_BUTTONS, f"a card has 1 to {CARD_BUTTONS} buttons: {len(self.buttons)}")
        _require(re.fullmatch(r"(-?\d+_\d+)?", self.photo) is not None, f"a card's photo is written -1_2: {self.photo!r}")
        if self.link:
            _require_address(self.link)

    @property
    def shape(self) -> tuple[bool, bool, bool, bool, int]:
        """What it has; all cards of a carousel have the same."""
        return bool(self.title), bool(self.description), bool(self.photo), bool(self.link), len(self.buttons)

    def render(self) -> dict[str, Any]:
        """VK's structure."""
        card: dict[str, Any] = {"buttons": [button.render() for button in self.buttons]}
        card |= {"title": self.title} if self.title else {}
        card |= {"description": self.description} if self.description else {}
        card |= {"photo_id": self.photo} if self.photo else {}
        if self.link:
            card["action"] = {"type": "open_link", "link": self.link}
        elif self.photo:
            card["action"] = {"type": "open_photo"}
        return card


@dataclass(frozen=True)
class Carousel:
    """Cards side by side. All have the same parts, and as many buttons."""

    cards: Sequence[Card]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cards", tuple(self.cards))
        _require(1 <= len(self.cards) <= CARDS, f"a carousel has 1 to {CARDS} cards: {len(self.cards)}")
        odd = [number for number, card in enumerate(self.cards, 1) if card.shape != self.cards[0].shape]
        _require(not odd, f"all cards of a carousel have what the first has; not so card {', '.join(map(str, odd))}")

    def render(self) -> dict[str, Any]:
        """VK's structure, the `template` of `messages.send`."""
        return {"type": "carousel", "elements": [card.render() for card in self.cards]}
