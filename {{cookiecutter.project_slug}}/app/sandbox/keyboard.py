"""VK's rules for keyboards."""

import json
from collections.abc import Iterator
from typing import Any

from app.sandbox.store import compact

LIMITS = {False: (5, 10, 40), True: (5, 6, 10)}  # by inline: buttons in a row, rows, buttons
LABEL_LIMIT = 40
PAYLOAD_LIMIT = 255
COLORS = ("default", "negative", "positive", "primary", "secondary")
# the fields of each kind of button, beside `type` and `payload`; only those that are said by the person have a colour
ACTIONS: dict[str, set[str]] = {
    "callback": {"label"},
    "location": set(),
    "open_app": {"app_id", "hash", "label", "owner_id"},
    "open_link": {"label", "link"},
    "text": {"label"},
    "vkpay": {"hash"},
}
COLOURED = ("callback", "text")


def problem(keyboard: Any) -> str | None:
    """What VK would say against this keyboard; None when it would take it."""
    return next(_problems(keyboard), None)


def stored(keyboard: dict[str, Any], author_id: int) -> dict[str, Any]:
    """The keyboard as VK gives it back: all its fields there, payloads as text, and its own name for the colour `secondary`."""
    return {
        "one_time": bool(keyboard.get("one_time")),
        "inline": bool(keyboard.get("inline")),
        "author_id": author_id,
        "buttons": [[stored_button(button) for button in row] for row in keyboard["buttons"]],
    }


def stored_button(button: dict[str, Any]) -> dict[str, Any]:
    """One of its buttons."""
    action = dict(button["action"])
    if not isinstance(action.get("payload", ""), str):
        action["payload"] = compact(action["payload"])
    if "color" not in button:
        return {"action": action}
    return {"action": action, "color": "default" if button["color"] == "secondary" else button["color"]}


def _problems(keyboard: Any) -> Iterator[str]:
    if not isinstance(keyboard, dict) or not isinstance(keyboard.get("buttons"), list):
        yield "there is no buttons array"
        return
    if unknown := keyboard.keys() - {"buttons", "inline", "one_time"}:
        yield f"keyboard contains unknown fields: {', '.join(sorted(unknown))}"
    inline = bool(keyboard.get("inline"))
    if inline and keyboard.get("one_time"):
        yield "inline keyboard can not be one_time"
    columns, rows, buttons = LIMITS[inline]
    if len(keyboard["buttons"]) > rows:
        yield "keyboard contains too much rows"
    for number, row in enumerate(keyboard["buttons"]):
        if not isinstance(row, list):
            yield f"row {number} is not an array"
            return
        if len(row) > columns:
            yield f"row {number} contains too much columns"
        for column, button in enumerate(row):
            yield from (f"button [{number}][{column}] {found}" for found in button_problems(button))
    if sum(map(len, keyboard["buttons"])) > buttons:
        yield "keyboard contains too much buttons"


def button_problems(button: Any) -> Iterator[str]:
    """What VK would say against a button, here or in a carousel."""
    action = button.get("action") if isinstance(button, dict) else None
    if not isinstance(action, dict) or action.get("type") not in ACTIONS:
        yield "action is invalid"
        return
    kind = action["type"]
    if "color" in button and (kind not in COLOURED or button["color"] not in COLORS):
        yield "color is not allowed"
    if action.keys() - ACTIONS[kind] - {"type", "payload"}:
        yield "action contains unknown fields"
    if "label" in ACTIONS[kind]:
        label = action.get("label")
        if not isinstance(label, str) or not label:
            yield "label should be at least 1 letters length"
        elif len(label) > LABEL_LIMIT:
            yield f"label should be no longer than {LABEL_LIMIT} letters"
    if "payload" in action:
        yield from _payload_problems(action["payload"])


def _payload_problems(payload: Any) -> Iterator[str]:
    if isinstance(payload, dict | list):
        payload = compact(payload)
    if not isinstance(payload, str):
        yield "payload is invalid"
        return
    if len(payload) > PAYLOAD_LIMIT:
        yield f"payload should be no longer than {PAYLOAD_LIMIT} letters"
    try:
        json.loads(payload or "{}")
    except ValueError:
        yield "payload is not valid JSON"
