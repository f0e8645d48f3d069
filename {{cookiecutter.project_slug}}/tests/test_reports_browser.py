"""The reports in a real browser, through web."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine
from werkzeug.serving import make_server

from app.reports.charts import BLUE, GREY, ORANGE
from app.reports.pages import create_app as create_reports
from app.reports.rollup import catch_up
from app.settings import Settings
from app.storage.models import now
from app.web import create_app as create_web
from tests.histories import believable

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # what the pages show, the other tests see on both


@contextmanager
def served(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    with (
        served(create_reports(settings)) as reports,
        served(create_web(settings.model_copy(update={"reports_url": reports}))) as web,
    ):
        yield web


@pytest.fixture
def page(browser: Browser, settings: Settings, address: str) -> Iterator[Page]:
    """The overview, opened by an operator far away from the project's zone; it must not complain, nor ask anybody else."""
    context = browser.new_context(base_url=address, locale="en-US", timezone_id="America/Los_Angeles", color_scheme="dark")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith((address, "data:")) or complaints.append(request.url))
    page.goto("/")
    page.fill("[name=login]", "admin")
    page.fill("[name=password]", settings.secret("operator_password"))
    page.locator("[name=password]").press("Enter")
    page.wait_for_selector("#inbox")
    page.goto("/reports/?days=7")
    yield page
    context.close()
    assert not complaints


def test_every_chart_is_drawn_and_has_a_table(page: Page, settings: Settings, engine: Engine) -> None:
    believable(engine, now(), 30)
    catch_up(engine, settings.zone)
    page.reload()
    for name in ("messages", "heat", "response", "requests", "backlog", "people", "failures"):
        expect(page.locator(f"#chart-{name} svg")).to_be_visible()
        box = page.locator(f"#chart-{name} svg").bounding_box()
        assert box is not None
        assert box["width"] > 300
    expect(page.locator("#chart-messages path[aria-roledescription=bar]")).to_have_count(7 * 3)
    expect(page.locator("#chart-messages")).to_contain_text("Операторы")
    days = page.locator("#chart-messages .role-axis-label text").all_text_contents()
    assert str(now().day) + " " in " ".join(days) + " "
    table = page.locator("details").first
    expect(table.locator("tbody tr")).to_have_count(7)
    expect(table.locator("tbody")).to_be_hidden()
    table.locator("summary").click()
    expect(table.locator("tbody")).to_be_visible()


def test_a_bar_tells_its_figures_and_follows_the_theme(page: Page, settings: Settings, engine: Engine) -> None:
    believable(engine, now(), 30)
    catch_up(engine, settings.zone)
    page.reload()
    label = page.locator("#chart-messages .role-legend-label text").first
    dark = label.get_attribute("fill")
    assert dark == page.evaluate("getComputedStyle(document.querySelector('#chart-messages')).color")
    page.emulate_media(color_scheme="light")
    expect(label).not_to_have_attribute("fill", dark or "")
    bar = page.locator("#chart-messages path[aria-roledescription=bar]").nth(3)
    bar.hover()
    expect(page.locator("#vg-tooltip-element")).to_contain_text("Число")
    expect(page.locator("#vg-tooltip-element")).to_have_css("position", "fixed")
    bar.click()
    expect(page.locator("#conversations a").first).to_be_visible()
    assert "/reports/conversations?begin=" in page.url


def test_presets_are_links_and_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_role("button", name="90").click()
    expect(page).to_have_url("/reports/?days=90")
    expect(page.locator("a[aria-current=page]", has_text="90")).to_be_visible()
    expect(page.locator("#chart-response svg")).to_be_visible()
    expect(page.locator("figcaption").first).to_have_text("За этот период сообщений ещё нет.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_picture_shows_every_series(page: Page, settings: Settings, engine: Engine) -> None:
    believable(engine, now(), 30)
    catch_up(engine, settings.zone)
    png = page.request.get("/reports/charts/messages.png?days=30").body()
    colours = page.evaluate(
        """async address => {
            const picture = new Image();
            picture.src = address;
            await picture.decode();
            const canvas = Object.assign(document.createElement("canvas"), {width: picture.width, height: picture.height});
            const pen = canvas.getContext("2d");
            pen.drawImage(picture, 0, 0);
            const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
            const counts = {};
            for (let i = 0; i < pixels.length; i += 4) {
                const colour = "#" + [0, 1, 2].map(j => pixels[i + j].toString(16).padStart(2, "0")).join("");
                counts[colour] = (counts[colour] ?? 0) + 1;
            }
            return counts;
        }""",
        f"data:image/png;base64,{base64.b64encode(png).decode()}",
    )
    for colour in (BLUE, GREY, ORANGE):
        assert colours[colour] > 5000
    assert colours["#ffffff"] > sum(colours.values()) / 2
