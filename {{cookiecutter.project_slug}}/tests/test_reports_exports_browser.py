"""Ordering, fetching and scheduling in a real browser, through web."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.reports import readings, schedule
from app.settings import Settings
from app.storage.models import Audit, now
from app.web import create_app as create_web
from tests import look
from tests.conftest import on_sqlite
from tests.histories import believable
from tests.reports import Works, do_all, service
from tests.test_reports_browser import served


@pytest.fixture
def desk(settings: Settings) -> Iterator[tuple[str, Works]]:
    """Where the inbox is, with the reports behind it."""
    settings = settings.model_copy(update={"operators_peer_id": 2000000001})
    reports = service(settings)
    with served(reports) as address, served(create_web(settings.model_copy(update={"reports_url": address}))) as web:
        yield web, reports.extensions["works"]


@on_sqlite
def test_files_and_a_schedule(browser: Browser, settings: Settings, desk: tuple[str, Works], engine: Engine) -> None:
    address, works = desk
    believable(engine, now(), 10)
    page = browser.new_page(base_url=address, viewport={"width": 390, "height": 780})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: request.url.startswith((address, "data:")) or complaints.append(request.url))
    page.goto("/")
    page.fill("[name=login]", "admin")
    page.fill("[name=password]", settings.secret("operator_password"))
    page.locator("[name=password]").press("Enter")
    page.wait_for_selector("#inbox")

    page.goto("/reports/exports")
    page.select_option("[name=kind]", "messages.csv")
    page.get_by_role("button", name="Составить").click()
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "new")
    do_all(works)  # the page finds out by itself
    expect(page.locator("[data-job]")).to_have_attribute("data-state", "done")
    with page.expect_download() as download:
        page.get_by_role("button", name="Скачать").click()
    assert download.value.suggested_filename.startswith("messages-")
    assert download.value.path().read_bytes().startswith(b"\xef\xbb\xbf")
    look_at(page, "exports")

    page.goto("/reports/schedule")
    page.select_option("[name=rhythm]", "weekly")
    page.get_by_role("button", name="Отправлять").click()
    expect(page.locator("#subscriptions")).to_contain_text("Беседа 1")
    look_at(page, "schedule")
    schedule.plan(works.engine, settings.zone, now())
    schedule.plan(works.engine, settings.zone, now().replace(year=now().year + 1))
    do_all(works)
    page.goto("/reports/archive")
    expect(page.locator("[data-job] img")).to_be_visible()
    assert page.locator("[data-job] img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 1000
    look_at(page, "archive")

    with works.speaking("ru"):
        readings.sample(works.engine, settings, now())
    page.goto("/reports/health")
    expect(page.locator("[data-reading=database_bytes] img")).to_be_visible()
    look_at(page, "health")

    # a form from elsewhere has not the token that web wants to see
    forged = page.request.post("/reports/schedule", form={"peer_id": "5", "rhythm": "daily", "hour": "9"})
    assert forged.status == 400
    page.goto("/reports/schedule")
    expect(page.locator("#subscriptions tbody tr")).to_have_count(1)
    page.close()
    assert not complaints
    with Session(engine) as session:
        deeds = session.execute(select(Audit.target, Audit.details).where(Audit.action == "report.order")).all()
    assert [row.target for row in deeds] == ["reports/exports", "reports/schedule"]
    assert deeds[0].details["form"]["kind"] == "messages.csv"


def look_at(page: Page, name: str) -> None:
    """By night, by day, on a phone, on a desk."""
    look.assert_accessible(page)
    for scheme, width in (("dark", 390), ("light", 1280)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 780})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        look.keep(page, f"reports-{name}-{scheme}")
