"""Account, operators, canned answers, audit trail and VK in real Chromium."""

from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.storage.inbox import add_events
from app.storage.models import Checkup, Operator, Role, now
from tests.look import assert_accessible, keep
from tests.test_web_browser import Site, open_page, sign_in, site

__all__ = ["site"]  # the same fixture
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


def found(*, right: bool) -> list[dict[str, object]]:
    said = {
        "en": {
            "text": "Messages are on" if right else "Messages are off",
            "cure": None if right else "Manage → Messages: Enabled",
        },
        "ru": {
            "text": "Сообщения включены" if right else "Сообщения выключены",
            "cure": None if right else "Управление → Сообщения",
        },
    }
    return [{"name": "messages_on", "right": right, **said}]


@pytest.fixture(scope="module", autouse=True)
def everything(site: Site) -> None:
    """Two admins, each with a language; something set aside; VK with something switched off."""
    with Session(site.engine) as session, session.begin():
        for login, language in (("maria", "ru"), ("oleg", "en")):
            session.execute(update(Operator).where(Operator.login == login).values(language=language, role=Role.ADMIN))
        add_events(session, [{"type": "message_new", "event_id": f"e{n}", "object": {}} for n in range(2)])
        at = now() - timedelta(minutes=5)
        session.add(Checkup(name="vk", asked_at=at, done_at=at, found=found(right=False)))


@pytest.mark.parametrize(
    "look", [("maria", "light", DESKTOP), ("oleg", "dark", DESKTOP), ("maria", "dark", PHONE), ("oleg", "light", PHONE)]
)
def test_pages_fit_and_nothing_serious_is_wrong_with_them(
    site: Site, browser: Browser, look: tuple[str, str, dict[str, int]]
) -> None:
    login, scheme, size = look
    page, complaints = open_page(browser, site, login, viewport=size, color_scheme=scheme, is_mobile=size == PHONE)
    language = {"maria": "ru", "oleg": "en"}[login]
    page.goto(f"{site.address}/canned-answers")
    page.fill("form[action='/canned-answers'] [name=shortcut]", f"{login}-{scheme}")
    page.fill("form[action='/canned-answers'] [name=text]", "Доставка занимает два-три рабочих дня.")
    page.click("form[action='/canned-answers'] button")
    expect(page.locator(f"h2:has-text('/{login}-{scheme}')")).to_be_visible()
    for address in ("/account", "/canned-answers", "/operators", "/operators/2", "/audit", "/connect", "/events", "/health"):
        answered = page.goto(site.address + address)
        assert answered
        assert answered.ok, address
        assert page.locator("html").get_attribute("lang") == language
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        assert_accessible(page)
        keep(page, f"web-{address[1:].replace('/', '-')}-{language}-{scheme}-{size['width']}")
    page.context.close()
    assert complaints == []


def test_an_operator_is_invited_and_comes_in(site: Site, browser: Browser) -> None:
    """All of it without a script."""
    page, _ = open_page(browser, site, "oleg", java_script_enabled=False)
    page.goto(f"{site.address}/operators")
    page.fill("[name=login]", "vera")
    page.fill("[name=name]", "<b>Вера</b>")
    page.select_option("[name=role]", "manager")
    page.click("text=Add >> nth=-1")
    link = page.inner_text("#invitation")
    keep(page, "web-invited")
    new, complaints = browser.new_context().new_page(), []
    new.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    new.goto(link)
    assert_accessible(new)
    keep(new, "web-invitation")
    new.fill("[name=password]", "три слова подряд")
    new.fill("[name=again]", "три слова подряд")
    new.press("[name=again]", "Enter")
    new.wait_for_selector("#inbox")
    expect(new.locator(".top")).to_contain_text("<b>Вера</b>")
    new.goto(f"{site.address}/account")
    expect(new.locator(".tabs a")).to_have_text(["My account", "Canned answers", "API"])
    page.goto(f"{site.address}/operators")
    page.click("text=<b>Вера</b>")
    page.click("text=Deactivate")
    assert new.goto(f"{site.address}/account")
    expect(new).to_have_url(f"{site.address}/login?next=%2Faccount")
    assert complaints == []
    new.context.close()
    page.context.close()


def test_what_vk_says_appears_by_itself(site: Site, browser: Browser) -> None:
    page, complaints = open_page(browser, site, "oleg")
    page.goto(f"{site.address}/connect")
    expect(page.locator("[data-right=no]")).to_contain_text("Manage → Messages: Enabled")
    page.evaluate("window.same = true")
    page.click("text=Look again")
    expect(page.locator("#connect")).to_contain_text("The bot is looking")
    with Session(site.engine) as session, session.begin():
        session.execute(update(Checkup).values(done_at=now() + timedelta(seconds=1), found=found(right=True)))
    expect(page.locator("[data-right=yes]")).to_contain_text("Messages are on", timeout=20_000)
    assert complaints == []
    page.context.close()


def test_signing_out_everywhere_else_leaves_this_window(site: Site, browser: Browser) -> None:
    here, _ = open_page(browser, site, "maria")
    there, _ = open_page(browser, site, "maria")
    here.goto(f"{site.address}/account")
    here.click("text=Выйти на всех других устройствах")
    expect(here.locator(".done")).to_have_text("Во всех других местах вы вышли.")
    there.reload()
    sign_in(there, "maria")
    here.context.close()
    there.context.close()
