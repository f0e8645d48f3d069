"""Inbox, conversation and person in real Chromium: each page's main job, in both languages, light and dark, large and small."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.models import CannedAnswer, Conversation, Delivery, DeliveryState, File, Note, Operator
from tests.look import assert_accessible, keep
from tests.test_web_browser import Site, open_page, sign_in, site

__all__ = ["site"]  # the same fixture

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000"
    "01f15c4890000000d49444154789c63f8cfc0f01f00050001ff89993d1d0000000049454e44ae426082"
)
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def number(site: Site) -> int:
    """A conversation with everything that there can be in one, among others."""
    with Session(site.engine) as session, session.begin():
        for login, language in (("maria", "ru"), ("oleg", "en")):
            session.execute(update(Operator).where(Operator.login == login).values(language=language))
        session.add_all(
            [
                CannedAnswer(shortcut="hello", text="Здравствуйте! Чем помочь?"),
                CannedAnswer(shortcut="hours", text="Мы работаем с 9 до 18."),
            ]
        )
    for n in range(8):
        site.add_conversation(f"Вопрос номер {n}", first_name=f"Человек {n}", topic="Доставка" if n % 2 else None)
    number = site.add_conversation("Здравствуйте! Где мой заказ?", first_name="Анна", topic="Возврат", assignee_id=2)
    with Session(site.engine) as session, session.begin():
        row = session.get_one(Conversation, number)
        maria = session.get_one(Operator, 2)
        desk.answer(session, row, "Сейчас посмотрю.", operator=maria).deliveries[0].state = DeliveryState.SENT
        failed = desk.answer(session, row, "Он уже в пути.", operator=maria).deliveries[0]
        failed.state, failed.error_code = DeliveryState.FAILED, 901
        desk.receive(session, row, "Спасибо! " * 20)
        session.flush()
        session.add(
            Note(conversation_id=number, after_id=failed.message_id, operator_id=2, text="Звонила на склад: отправят завтра.")
        )
    return number


@pytest.mark.parametrize(
    "look", [("maria", "light", DESKTOP), ("oleg", "dark", DESKTOP), ("maria", "dark", PHONE), ("oleg", "light", PHONE)]
)
def test_pages_fit_and_nothing_serious_is_wrong_with_them(
    site: Site, browser: Browser, number: int, look: tuple[str, str, dict[str, int]]
) -> None:
    login, scheme, size = look
    page, complaints = open_page(browser, site, login, viewport=size, color_scheme=scheme, is_mobile=size == PHONE)
    language = {"maria": "ru", "oleg": "en"}[login]
    assert page.locator("html").get_attribute("lang") == language
    with Session(site.engine) as session:
        person = session.get_one(Conversation, number).person_id
    addresses = {
        "inbox": "/?view=all",
        "search": "/?view=all&q=%D0%B7%D0%B0%D0%BA%D0%B0%D0%B7",
        "conversation": f"/conversations/{number}?view=all",
        "person": f"/people/{person}",
    }
    for name, address in addresses.items():
        answered = page.goto(site.address + address)
        assert answered
        assert answered.ok, address
        if name == "conversation":
            page.click("#more summary")
            page.click("#note summary")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert_accessible(page)
        keep(page, f"web-{name}-{language}-{scheme}-{size['width']}")
    page.context.close()
    assert complaints == []


@pytest.fixture
def page(browser: Browser, site: Site, number: int) -> Iterator[Page]:
    page, complaints = open_page(browser, site, "oleg")
    yield page
    page.context.close()
    assert complaints == []


def look_again(page: Page) -> None:
    """What happens by itself within seconds."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_search_and_topic_narrow_the_list_and_stay_in_the_address(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/?view=all")
    page.fill("#search [name=q]", "вопрос")
    page.select_option("#search [name=topic]", "Доставка")
    page.press("#search [name=q]", "Enter")
    rows = page.locator("#inbox .row")
    expect(rows).to_have_count(4)
    assert "topic=" in page.url
    site.add_conversation("Новый вопрос", first_name="Ева", topic="Доставка")
    look_again(page)
    expect(rows.first).to_contain_text("Ева")
    rows.first.click()
    expect(page.locator("#head")).to_contain_text("Ева")
    expect(rows).to_have_count(5)
    expect(page.locator("#search [name=q]")).to_have_value("вопрос")
    page.goto(f"{site.address}/?view=mine&q=вопрос")
    page.click("text=Look in all conversations")
    expect(page.locator("#inbox .row").first).to_be_visible()


def test_all_of_a_conversation_is_done_by_keyboard(site: Site, page: Page) -> None:
    number = site.add_conversation("По клавишам?", first_name="Клавдия")
    page.goto(f"{site.address}/?view=all")
    page.keyboard.press("Alt+KeyN")  # there is nothing yet to note something about
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Alt+ArrowDown")
    answer = page.locator("#answer textarea")
    expect(answer).to_be_focused()
    expect(page.locator("#head")).to_contain_text("Клавдия")
    page.keyboard.type("/hello ")
    expect(answer).to_have_value("Здравствуйте! Чем помочь?")
    page.keyboard.type(" /nothing /Hours")
    page.keyboard.press("Enter")
    expect(answer).to_have_value("Здравствуйте! Чем помочь? /nothing Мы работаем с 9 до 18.")
    page.keyboard.press("Control+Enter")
    expect(answer).to_have_value("")
    expect(answer).to_be_focused()
    page.keyboard.press("Alt+KeyN")
    expect(page.locator("#note textarea")).to_be_focused()
    page.keyboard.type("Только для своих")
    page.keyboard.press("Control+Enter")
    note = page.locator("#thread article.note")
    expect(note).to_contain_text("Только для своих")
    expect(note).to_contain_text("Oleg")
    assert site.sent(number) == ["Здравствуйте! Чем помочь? /nothing Мы работаем с 9 до 18."]
    page.keyboard.press("Alt+ArrowDown")
    expect(page.locator("#head")).not_to_contain_text("Клавдия")
    page.keyboard.press("Escape")
    expect(page.locator(".nothing-chosen")).to_be_visible()


def test_a_canned_answer_is_chosen_from_the_list(site: Site, page: Page, number: int) -> None:
    page.goto(f"{site.address}/conversations/{number}")
    page.fill("#answer textarea", "Да. ")
    page.select_option("#answer [name=canned]", "hours")
    page.click("[data-insert]")
    expect(page.locator("#answer textarea")).to_have_value("Да. Мы работаем с 9 до 18.")
    expect(page.locator("#answer textarea")).to_be_focused()
    page.reload()
    expect(page.locator("#answer textarea")).to_have_value("Да. Мы работаем с 9 до 18.")
    page.fill("#answer textarea", "")


def test_files_go_along_and_are_shown(site: Site, page: Page) -> None:
    number = site.add_conversation("Пришлите счёт")
    page.goto(f"{site.address}/conversations/{number}")
    refused = {"name": "a.png", "mimeType": "image/png", "buffer": b"<script>alert(1)</script>"}
    page.fill("#answer textarea", "Вот он")
    page.set_input_files("#answer [name=files]", [refused])
    page.click("#answer button[type=submit]")
    expect(page.locator("#notice")).to_contain_text("a.png cannot be sent")
    expect(page.locator("#answer textarea")).to_have_value("Вот он")
    files = [
        {"name": "снимок.png", "mimeType": "image/png", "buffer": PNG},
        {"name": "счёт.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4 ..."},
    ]
    page.set_input_files("#answer [name=files]", files)
    page.click("#answer button[type=submit]")
    out = page.locator("#thread article[data-direction=out]")
    expect(out).to_have_count(2)
    expect(out.nth(1)).to_contain_text("счёт.pdf")
    picture = out.nth(0).locator("img")
    expect(picture).to_be_visible()
    page.wait_for_function("document.querySelector('#thread img').naturalWidth === 1")
    with page.expect_download() as download:
        out.nth(1).locator("a").click()
    assert download.value.suggested_filename == "счёт.pdf"
    with Session(site.engine) as session:
        uploads = session.scalars(select(Delivery.upload).order_by(Delivery.id.desc()).limit(2)).all()
        assert [upload and upload["kind"] for upload in uploads] == ["doc", "photo"]


def test_two_operators_see_what_the_other_does(site: Site, browser: Browser, page: Page) -> None:
    number = site.add_conversation("Кто ответит?")
    hers, complaints = open_page(browser, site, "maria")
    for window in (page, hers):
        window.goto(f"{site.address}/conversations/{number}?view=all")
    hers.fill("#answer textarea", "Я начала писать")
    page.click("#more summary")
    page.select_option("#more [name=operator]", label="Maria")
    page.click("#more form[action*=assign] button")
    expect(page.locator("#head")).to_contain_text("Maria")
    look_again(hers)
    expect(hers.locator("#head")).to_contain_text("Maria")
    page.click("#note summary")
    page.fill("#note textarea", "Мария, возьми")
    page.click("#note button")
    expect(page.locator("article.note")).to_be_visible()
    look_again(hers)
    expect(hers.locator("article.note")).to_contain_text("Мария, возьми")
    expect(hers.locator("#answer textarea")).to_have_value("Я начала писать")
    page.click("#more summary")
    page.fill("#more [name=topic]", "Оплата")
    page.click("#more form[action*=topic] button")
    expect(page.locator("#head .topic")).to_have_text("Оплата")
    look_again(hers)
    expect(hers.locator("#head .topic")).to_have_text("Оплата")
    hers.click("#answer button[type=submit]")
    expect(hers.locator("#answer textarea")).to_have_value("")
    look_again(page)
    expect(page.locator("#thread article[data-direction=out]")).to_contain_text("Я начала писать")
    page.click("#head >> text=Close")
    expect(page.locator("#head")).to_contain_text("Closed")
    look_again(hers)
    expect(hers.locator("#head")).to_contain_text("Закрыт")
    hers.context.close()
    assert complaints == []


def test_a_note_and_an_answer_outlive_the_session(site: Site, browser: Browser) -> None:
    number = site.add_conversation("Вопрос")
    page, complaints = open_page(browser, site, "oleg")
    page.goto(f"{site.address}/conversations/{number}?view=all")
    page.fill("#answer textarea", "Ответ на полуслове")
    page.click("#note summary")
    page.fill("#note textarea", "Заметка на полуслове")
    with site.engine.begin() as connection:
        session_version = connection.scalar(select(Operator.session_version).where(Operator.login == "oleg"))
        connection.execute(update(Operator).where(Operator.login == "oleg").values(session_version=(session_version or 0) + 1))
    page.click("#note button")  # which is refused, or a poll is before it
    page.wait_for_url("**/login?next=*")
    sign_in(page, "oleg")
    assert page.url == f"{site.address}/conversations/{number}?view=all"
    expect(page.locator("#answer textarea")).to_have_value("Ответ на полуслове")
    expect(page.locator("#note textarea")).to_have_value("Заметка на полуслове")
    page.click("#note button")
    expect(page.locator("article.note")).to_contain_text("Заметка на полуслове")
    expect(page.locator("#note textarea")).to_have_value("")
    expect(page.locator("#answer textarea")).to_have_value("Ответ на полуслове")
    page.context.close()
    assert complaints == []


def test_all_this_works_without_scripts(site: Site, browser: Browser) -> None:
    number = site.add_conversation("Без скриптов?", first_name="Нина")
    page, _complaints = open_page(browser, site, "oleg", java_script_enabled=False)
    page.goto(f"{site.address}/?view=all")
    page.fill("#search [name=q]", "нина")
    page.click("#search button")
    page.locator("#inbox .row").click()
    page.fill("#answer textarea", "Да.")
    page.select_option("#answer [name=canned]", "hello")
    page.click("[data-insert]")
    expect(page.locator("#answer textarea")).to_have_value("Да.\nЗдравствуйте! Чем помочь?")
    page.set_input_files("#answer [name=files]", [{"name": "a.txt", "mimeType": "text/plain", "buffer": "текст".encode()}])
    page.click("#answer button[type=submit]")
    expect(page.locator("#thread article[data-direction=out]")).to_contain_text("a.txt")
    page.click("#note summary")
    page.fill("#note textarea", "Своим")
    page.click("#note button")
    expect(page.locator("article.note")).to_contain_text("Своим")
    page.click("#more summary")
    page.select_option("#more [name=operator]", "")
    page.click("#more form[action*=assign] button")
    expect(page.locator("#head")).to_contain_text("Waiting")
    page.click("#head h2 a")
    expect(page.locator("h1")).to_have_text("Нина")
    expect(page.locator(".person")).to_contain_text("Своим")
    with Session(site.engine) as session:
        assert session.scalars(select(File.name).where(File.conversation_id == number)).all() == ["a.txt"]
    page.context.close()


def test_what_is_seriously_wrong_would_be_found(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<html lang=en><title>x</title><main><h1>x</h1><input name=nameless></main>")
    with pytest.raises(AssertionError, match="label"):
        assert_accessible(page)
    page.close()
