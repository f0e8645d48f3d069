"""The whole loop, with and without Docker: a message comes in, is answered, handed over, answered by a person, and counted."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import ARTIFACTS
from tests.e2e.stack import HAS_BOT, SERVICES, Stack, eventually

pytestmark = pytest.mark.skipif(not HAS_BOT, reason="this project has no bot to write to")


def test_a_message_in_vk_gets_the_bots_answer(stack: Stack) -> None:
    person = stack.new_person("Анна")
    first = stack.write(person, "Привет!")
    answer = eventually(lambda: stack.answers(person, after=first), "the bot answers")[0]
    assert answer["text"]
    assert answer["keyboard"]["buttons"]


def test_an_operator_answers_in_the_inbox_and_the_person_gets_it(stack: Stack, page: Page) -> None:
    person = stack.new_person("Борис")
    question = "Где мой заказ № 1207? <b>Жду</b>"
    stack.write(person, "Начать")
    asked = stack.write(person, question)
    # the inbox shows it by itself, without a reload
    row = page.locator("#inbox [data-conversation]", has_text="Борис")
    expect(row).to_contain_text("1207", timeout=20_000)
    page.screenshot(path=ARTIFACTS / "inbox.png")
    row.click()
    thread = page.locator("#thread")
    expect(thread.locator("article[data-direction=in]").last).to_contain_text(question)
    page.fill("textarea[name=text]", "Уже у вас в городе, привезём завтра.")
    page.locator("form:has(textarea[name=text]) [type=submit]").first.click()
    expect(thread.locator("article[data-direction=out]").last).to_contain_text("привезём завтра")
    eventually(
        lambda: any("привезём завтра" in answer["text"] for answer in stack.answers(person, after=asked)),
        "the operator's answer arrives in VK",
    )
    assert sum("привезём завтра" in answer["text"] for answer in stack.answers(person)) == 1


@pytest.mark.skipif("reports" not in SERVICES, reason="this project has no reports")
def test_the_report_shows_it_as_a_chart(stack: Stack, page: Page) -> None:
    person = stack.new_person("Вера")
    first = stack.write(person, "Привет!")
    eventually(lambda: stack.answers(person, after=first), "the bot answers")
    page.goto(f"{stack.web}/reports/")
    for chart in ("#chart-messages", "#chart-response"):
        expect(page.locator(f"{chart} svg, {chart} canvas").first).to_be_visible(timeout=20_000)
    page.locator("details").first.evaluate("details => details.open = true")
    expect(page.locator("details table").first).to_contain_text("1")
