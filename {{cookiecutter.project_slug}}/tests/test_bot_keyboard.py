"""Keyboards and carousels: whatever can be made at all, VK takes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bot.keyboard import AnyButton, App, Button, Callback, Card, Carousel, Color, Keyboard, Link, Location, VkPay
from app.sandbox.carousel import problem as carousel_problem
from app.sandbox.keyboard import problem
from tests import test_sandbox_schema as schema

URL = "https://example.org"
KEY = Button("a", "a")
WIDE = [Location("here"), VkPay("action=transfer-to-group&group_id=1"), App("Игра", 5, -1)]
WORDS = {"min_size": 1, "max_size": 40}


def narrow() -> st.SearchStrategy[AnyButton]:
    texts, data = st.text(**WORDS), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))  # type: ignore[arg-type]
    colors: st.SearchStrategy[Color] = st.sampled_from(("primary", "secondary", "positive", "negative"))
    kinds = st.sampled_from((Button, Callback))
    said = st.builds(lambda kind, *rest: kind(*rest), kinds, texts, st.sampled_from(("go", "stop")), data, colors)
    return st.one_of(said, st.builds(Link, texts, st.just(URL)))


def keyboards() -> st.SearchStrategy[Keyboard]:
    """Of every size that the limits allow, and the sizes around them."""

    def make(rows: list[list[AnyButton]], inline: bool, one_time: bool) -> Keyboard | None:
        try:
            return Keyboard(rows, inline, one_time)
        except ValueError:
            return None

    rows = st.lists(st.one_of(st.lists(narrow(), max_size=6), st.sampled_from([[button] for button in WIDE])), max_size=11)
    made = st.builds(make, rows, st.booleans(), st.booleans())
    return made.filter(lambda keyboard: keyboard is not None).map(lambda keyboard: keyboard or Keyboard())


@given(keyboards())
def test_vk_takes_every_keyboard_that_can_be_made(keyboard: Keyboard) -> None:
    rendered = keyboard.render()
    assert problem(rendered) is None
    json.dumps(rendered)


def carousels() -> st.SearchStrategy[Carousel]:
    """Cards alike, with every combination of parts, and texts and buttons of any kind."""
    words, parts = st.text(min_size=1, max_size=80), st.tuples(st.booleans(), st.booleans(), st.booleans())

    def alike(has: tuple[bool, bool, bool], count: int) -> st.SearchStrategy[Carousel]:
        description, photo, link = has
        card = st.builds(
            Card,
            words,
            words if description else st.just(""),
            st.just("-1_2" if photo else ""),
            st.lists(st.one_of(narrow(), st.sampled_from(WIDE)), min_size=count, max_size=count),
            st.just(URL if link else ""),
        )
        return st.lists(card, min_size=1, max_size=10).map(Carousel)

    return st.tuples(parts, st.integers(1, 3)).flatmap(lambda made: alike(*made))


@given(carousels())
def test_vk_takes_every_carousel_that_can_be_made(carousel: Carousel) -> None:
    assert carousel_problem(carousel.render()) is None


@pytest.mark.skipif(not schema.FOLDER.is_dir(), reason="VK_API_SCHEMA does not name a folder with VK's schema")
@given(keyboards())
def test_every_keyboard_is_in_the_form_of_vks_schema(keyboard: Keyboard) -> None:
    # the schema is of what VK gives back: there the colour "secondary", which its manual tells to send, is called "default"
    rendered = json.loads(json.dumps(keyboard.render()).replace('"secondary"', '"default"'))
    schema.check(rendered, "messages/objects.json", "messages_keyboard")


def test_a_keyboard_is_vks_structure() -> None:
    keyboard = Keyboard([[Button("Да", "yes", {"n": 1}, "positive"), Callback("Ещё", "more"), Link("Сайт", URL)], [WIDE[0]]])
    assert keyboard.render() == {
        "one_time": False,
        "inline": False,
        "buttons": [
            [
                {"action": {"type": "text", "label": "Да", "payload": '{"command":"yes","n":1}'}, "color": "positive"},
                {"action": {"type": "callback", "label": "Ещё", "payload": '{"command":"more"}'}, "color": "secondary"},
                {"action": {"type": "open_link", "label": "Сайт", "link": URL}},
            ],
            [{"action": {"type": "location", "payload": '{"command":"here"}'}}],
        ],
    }
    assert Keyboard().render()["buttons"] == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Keyboard([[KEY]] * 11), "at most 10 rows"),
        (lambda: Keyboard([[KEY] * 6]), "1 to 5 buttons"),
        (lambda: Keyboard([[KEY] * 5] * 8 + [[KEY]]), "40 in all"),
        (lambda: Keyboard([[]]), "1 to 5 buttons"),
        (lambda: Keyboard([[KEY]] * 7, inline=True), "at most 6 rows"),
        (lambda: Keyboard([[KEY] * 4] * 3, inline=True), "10 in all"),
        (lambda: Keyboard([[KEY]], inline=True, one_time=True), "cannot go away"),
        (lambda: Keyboard(inline=True), "at least one button"),
        (lambda: Keyboard([[WIDE[0], KEY]]), "row of its own"),
        (lambda: Keyboard([[WIDE[1], KEY]]), "row of its own"),
        (lambda: Keyboard([[WIDE[2], KEY]]), "row of its own"),
        (lambda: Button("a" * 41, "a"), "1 to 40 characters"),
        (lambda: Button("", "a"), "1 to 40 characters"),
        (lambda: Callback("a", "a", {"data": "я" * 120}), "carries 265 bytes, more than 255"),
        (lambda: Location("a", {"data": "я" * 120}), "more than 255"),
        (lambda: Button("a", "a", {"data": object()}), "is not JSON"),
        (lambda: Button("a", "a", {"command": "b"}), "before its data"),
        (lambda: Button("a", "a", color="red"), "colour is one of primary"),
        (lambda: Link("a" * 41, URL), "1 to 40 characters"),
        (lambda: Link("a", "example.org"), "begins with https"),
        (lambda: App("", 1, 1), "1 to 40 characters"),
        (lambda: VkPay("group_id=1"), "begins with action="),
        (lambda: Card(buttons=[KEY]), "a title or a photo"),
        (lambda: Card(description="a", photo="-1_2", buttons=[KEY]), "needs a title"),
        (lambda: Card("a" * 81, buttons=[KEY]), "at most 80"),
        (lambda: Card("a", "a" * 81, buttons=[KEY]), "at most 80"),
        (lambda: Card("a"), "1 to 3 buttons"),
        (lambda: Card("a", buttons=[KEY] * 4), "1 to 3 buttons"),
        (lambda: Card("a", photo="photo-1_2", buttons=[KEY]), "written -1_2"),
        (lambda: Card("a", link="www", buttons=[KEY]), "begins with https"),
        (lambda: Carousel([]), "1 to 10 cards"),
        (lambda: Carousel([Card("a", buttons=[KEY])] * 11), "1 to 10 cards"),
        (lambda: Carousel([Card("a", buttons=[KEY]), Card("a", "b", buttons=[KEY])]), "not so card 2"),
        (lambda: Carousel([Card("a", buttons=[KEY]), Card("a", buttons=[KEY, KEY])]), "not so card 2"),
        (lambda: Carousel([Card("a", photo="-1_2", buttons=[KEY]), Card(photo="-1_2", buttons=[KEY])]), "not so card 2"),
    ],
)
def test_what_vk_would_refuse_cannot_be_made(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_carousel_is_vks_structure() -> None:
    cards = [Card(f"Товар {number}", "Новинка", "-1_2", [KEY, Link("Купить", URL)], URL) for number in range(10)]
    rendered = Carousel(cards).render()
    assert (rendered["type"], len(rendered["elements"])) == ("carousel", 10)
    assert rendered["elements"][0] == {
        "title": "Товар 0",
        "description": "Новинка",
        "photo_id": "-1_2",
        "action": {"type": "open_link", "link": URL},
        "buttons": [KEY.render(), Link("Купить", URL).render()],
    }
    assert Card(photo="-1_2", buttons=[KEY]).render()["action"] == {"type": "open_photo"}
    assert "action" not in Card("a", buttons=[KEY]).render()
