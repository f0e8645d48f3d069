"""VK's rules for carousels, the `template` of a message."""

import re
from collections.abc import Iterator
from typing import Any

from app.sandbox.keyboard import button_problems, stored_button

CARDS, BUTTONS, TEXT_LIMIT = 10, 3, 80
FIELDS = {"title", "description", "photo_id", "buttons", "action"}
ACTIONS = {"open_link": {"type", "link"}, "open_photo": {"type"}}
PHOTO = re.compile(r"(-?\d+)_(\d+)")


def problem(template: Any) -> str | None:
    """What VK would say against this template; None when it would take it."""
    return next(_problems(template), None)


def stored(template: dict[str, Any]) -> dict[str, Any]:
    """The template with its buttons as VK gives them back."""
    cards = [{**card, "buttons": [stored_button(button) for button in card["buttons"]]} for card in template["elements"]]
    return {"type": "carousel", "elements": cards}


def _problems(template: Any) -> Iterator[str]:
    if not isinstance(template, dict) or template.get("type") != "carousel":
        yield "template['type'] is invalid"
        return
    cards = template.get("elements")
    if not isinstance(cards, list) or not 1 <= len(cards) <= CARDS:
        yield f"template['elements'] should be array of 1 to {CARDS} elements"
        return
    for number, card in enumerate(cards):
        yield from (f"template['elements'][{number}] {found}" for found in _card_problems(card))
        if _shape(card) != _shape(cards[0]):
            yield f"template['elements'][{number}] has another structure than the first element"


def _shape(card: dict[str, Any]) -> tuple[set[str], int]:
    return set(card), len(card["buttons"])


def _card_problems(card: Any) -> Iterator[str]:
    buttons = card.get("buttons") if isinstance(card, dict) else None
    if not isinstance(buttons, list) or not 1 <= len(buttons) <= BUTTONS:
        yield f"should have 1 to {BUTTONS} buttons"
        return
    if card.keys() - FIELDS:
        yield "contains unknown fields"
    if not card.keys() & {"title", "photo_id"}:
        yield "should have title or photo_id"
    for name in card.keys() & {"title", "description"}:
        if not isinstance(card[name], str) or not 0 < len(card[name]) <= TEXT_LIMIT:
            yield f"{name} should be 1 to {TEXT_LIMIT} letters"
    if "photo_id" in card and not PHOTO.fullmatch(str(card["photo_id"])):
        yield "has invalid photo_id"
    if "action" in card and not _is_action(card["action"]):
        yield "has invalid action"
    for number, button in enumerate(buttons):
        yield from (f"button [{number}] {found}" for found in button_problems(button))


def _is_action(action: Any) -> bool:
    return isinstance(action, dict) and action.keys() == ACTIONS.get(str(action.get("type")))
