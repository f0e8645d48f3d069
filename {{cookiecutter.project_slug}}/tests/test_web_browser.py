"""The inbox as a process of its own, and in real Chromium."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.engine import make_engine
from app.storage.inbox import add_events
from app.storage.migrate import hasher
from app.storage.models import (
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Event,
    Heartbeat,
    Message,
    Operator,
    Person,
    Role,
    now,
)
from tests.conftest import make_settings

PROJECT = Path(__file__).parent.parent
PASSWORD = "a password of a test"


@dataclass
class Site:
    """`python -m app.web` on a SQLite file."""

    folder: Path
    engine: Engine
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = ""

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        self.address = f"http://{listen}"
        secrets = self.folder / "secrets"
        secrets.mkdir(exist_ok=True)
        (secrets / "secret_key").write_text(make_settings().secret("secret_key"))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "SECRETS_DIR": str(secrets),
            "DATABASE_URL": self.engine.url.render_as_string(),
            "LISTEN": listen,
            "APP_LANGUAGE": "en",
            "LOG_FORMAT": "json",
        }
        # another folder than the project's, whose .env is not the test's
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.web"],
            cwd=self.folder,
            env=environment | self.settings,
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> None:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.address}/readyz", timeout=5)
            except OSError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(self.log())

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def add_conversation(self, *texts: str, **values: Any) -> int:
        with Session(self.engine) as session, session.begin():
            peer = 1 + (session.scalar(select(func.max(Conversation.peer_id))) or 0)
            row = Conversation(peer_id=peer, person=Person(vk_id=peer, first_name=values.pop("first_name", f"Person {peer}")))
            session.add(row)
            session.flush()
            for text in texts:
                desk.receive(session, row, text)
            for name, value in ({"status": ConversationStatus.OPEN} | values).items():
                setattr(row, name, value)
            return row.id

    def receive(self, number: int, text: str) -> None:
        with Session(self.engine) as session, session.begin():
            desk.receive(session, session.get_one(Conversation, number), text)

    def sent(self, number: int) -> list[str]:
        with Session(self.engine) as session:
            query = select(Delivery.text).join(Message).where(Message.conversation_id == number).order_by(Delivery.id)
            return list(session.scalars(query))

    def unread(self, number: int) -> int:
        with Session(self.engine) as session:
            return session.get_one(Conversation, number).unread


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = make_settings(database_url=f"sqlite:///{shutil.copy(sqlite_template, folder / 'desk.db')}")
    site = Site(folder, make_engine(settings.database))
    with Session(site.engine) as session, session.begin():
        session.add_all(
            Operator(login=login, name=login.capitalize(), password_hash=hasher.hash(PASSWORD)) for login in ("maria", "oleg")
        )
    site.start()
    site.wait()
    yield site
    assert site.stop() == 0
    site.engine.dispose()


def open_page(browser: Browser, site: Site, login: str = "maria", **options: Any) -> tuple[Page, list[str]]:
    """A window in which an operator has signed in, and what it complains about."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(site.address)
    sign_in(page, login)
    return page, complaints


def sign_in(page: Page, login: str) -> None:
    page.fill("[name=login]", login)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_selector("#inbox")


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    page, complaints = open_page(browser, site)
    yield page
    page.context.close()
    assert complaints == []


def test_an_answer_goes_out_without_a_reload(site: Site, page: Page) -> None:
    number = site.add_conversation("Вопрос")
    page.goto(f"{site.address}/conversations/{number}")
    page.evaluate("window.same = true")
    answer = page.locator("textarea[name=text]")
    expect(answer).to_be_focused()
    for text in ("Ответ", "Ещё ответ"):
        answer.fill(text)
        answer.press("Control+Enter")
        expect(page.locator("#thread article[data-direction=out]").last).to_contain_text(text)
        expect(answer).to_have_value("")
        expect(answer).to_be_focused()
    expect(page.locator("#head")).to_contain_text("Maria")
    assert page.evaluate("window.same")
    assert site.sent(number) == ["Ответ", "Ещё ответ"]
    page.reload()
    expect(answer).to_have_value("")


def test_a_double_click_sends_once(site: Site, page: Page) -> None:
    number = site.add_conversation("Вопрос")
    page.goto(f"{site.address}/conversations/{number}")
    page.fill("textarea[name=text]", "Один раз")
    page.locator("#answer button").dblclick()
    expect(page.locator("#thread article[data-direction=out]")).to_have_count(1)
    assert site.sent(number) == ["Один раз"]


def test_an_answer_whose_confirmation_got_lost_is_not_sent_twice(site: Site, page: Page) -> None:
    number = site.add_conversation("Вопрос")
    page.goto(f"{site.address}/conversations/{number}")

    def lose(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort()

    page.route("**/answers*", lose)
    page.fill("textarea[name=text]", "Дошло ли?")
    page.click("#answer button")
    expect(page.locator("#notice")).to_contain_text("No connection")
    page.unroute("**/answers*")
    page.reload()
    expect(page.locator("textarea[name=text]")).to_have_value("Дошло ли?")
    page.click("#answer button")
    expect(page.locator("textarea[name=text]")).to_have_value("")
    assert site.sent(number) == ["Дошло ли?"]


def test_news_come_by_themselves_and_disturb_nothing(site: Site, page: Page) -> None:
    number = site.add_conversation("Первое")
    page.goto(f"{site.address}/conversations/{number}?view=all")
    statuses: list[tuple[str, int]] = []
    page.on("response", lambda response: statuses.append((response.url.split("?")[0].split("/")[-1], response.status)))
    page.locator("textarea[name=text]").press_sequentially("пишу и п")
    with page.expect_response(lambda response: response.status == 304 and "/thread" in response.url):
        pass
    with page.expect_response(lambda response: response.status == 304 and "/inbox" in response.url):
        pass
    site.receive(number, "Второе")
    expect(page.locator("#thread article").last).to_contain_text("Второе")
    expect(page.locator(f"#inbox [data-conversation='{number}']")).to_contain_text("Второе")
    newcomer = site.add_conversation("Я новенькая", first_name="Ева")
    expect(page.locator(f"#inbox [data-conversation='{newcomer}']")).to_contain_text("Ева")
    page.keyboard.type("родолжаю")
    expect(page.locator("textarea[name=text]")).to_have_value("пишу и продолжаю")
    with Session(site.engine) as session, session.begin():
        desk.answer(session, session.get_one(Conversation, number), "От бота")
    expect(page.locator("#thread article").last).to_contain_text("waiting to be sent")
    with site.engine.begin() as connection:
        connection.execute(update(Delivery).values(state=DeliveryState.SENT))
    expect(page.locator("#thread article").last).not_to_contain_text("waiting to be sent")
    assert {status for _name, status in statuses} <= {200, 204, 304}


def test_messages_before_the_eyes_are_read_and_others_not(site: Site, page: Page) -> None:
    number, other = site.add_conversation("Раз", "Два"), site.add_conversation("Три")
    with page.expect_response("**/read*"):
        page.goto(f"{site.address}/conversations/{number}?view=all")
    assert (site.unread(number), site.unread(other)) == (0, 1)
    row = page.locator(f"#inbox [data-conversation='{number}']")
    expect(row.locator(".count")).to_have_count(0)
    with page.expect_response("**/read*"):
        site.receive(number, "Ещё")
    assert site.unread(number) == 0
    # a page behind another is not read
    page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})")
    site.receive(number, "В пустоту")
    page.wait_for_timeout(4000)
    assert site.unread(number) == 1
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#thread article").last).to_contain_text("В пустоту")
    expect(row.locator(".count")).to_have_count(0)
    assert site.unread(number) == 0


def test_what_is_typed_outlives_a_reload_and_the_session(site: Site, browser: Browser) -> None:
    number = site.add_conversation("Вопрос")
    page, complaints = open_page(browser, site, "oleg")
    page.goto(f"{site.address}/conversations/{number}?view=all")
    answer = page.locator("textarea[name=text]")
    answer.fill("Долгий ответ")
    page.reload()
    expect(answer).to_have_value("Долгий ответ")
    with site.engine.begin() as connection:
        connection.execute(update(Operator).where(Operator.login == "oleg").values(session_version=2))
    # the next question for news finds out
    page.wait_for_url("**/login?next=*")
    sign_in(page, "oleg")
    assert page.url == f"{site.address}/conversations/{number}?view=all"
    expect(answer).to_have_value("Долгий ответ")
    page.click("text=Assign to me")
    expect(page.locator("#head")).to_contain_text("Oleg")
    expect(answer).to_have_value("Долгий ответ")
    page.click("#answer button")
    expect(answer).to_have_value("")
    assert site.sent(number) == ["Долгий ответ"]
    page.context.close()
    assert complaints == []


def test_a_stale_form_says_so_and_keeps_the_text(site: Site, page: Page) -> None:
    number = site.add_conversation("Вопрос")
    page.goto(f"{site.address}/conversations/{number}")
    page.evaluate("document.querySelector('#answer [name=csrf_token]').value = 'old'")
    page.fill("textarea[name=text]", "Не потерять")
    page.click("#answer button")
    expect(page.locator("#notice")).to_contain_text("Reload it and send again")
    expect(page.locator("textarea[name=text]")).to_have_value("Не потерять")
    page.wait_for_timeout(4000)  # a good poll does not take back what concerns the operator
    expect(page.locator("#notice")).to_be_visible()


def test_a_lost_connection_is_said_and_taken_back(site: Site, page: Page) -> None:
    page.context.set_offline(True)
    expect(page.locator("#notice")).to_contain_text("No connection", timeout=10_000)
    page.context.set_offline(False)
    expect(page.locator("#notice")).to_be_hidden(timeout=10_000)


def test_earlier_messages_are_added_above(site: Site, page: Page) -> None:
    number = site.add_conversation(*(f"№{n}." for n in range(1, 121)))
    page.goto(f"{site.address}/conversations/{number}")
    articles = page.locator("#thread article")
    expect(articles.last).to_be_in_viewport()
    for count in (100, 120):
        page.click(".earlier")
        expect(articles).to_have_count(count)
    expect(page.locator(".earlier")).to_have_count(0)
    site.receive(number, "№121.")
    expect(articles).to_have_count(121)
    assert [int(re.sub(r"\D.*", "", text.lstrip(" №\n"))) for text in articles.all_inner_texts()] == list(range(1, 122))


def test_what_people_write_runs_nowhere(site: Site, page: Page) -> None:
    text = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    number = site.add_conversation(text, first_name='"><svg onload=alert(3)>')
    page.goto(f"{site.address}/conversations/{number}?view=all")
    expect(page.locator("#thread article").last).to_contain_text(text)
    assert page.locator("svg, img[src=x]").count() == 0


def test_everything_works_without_scripts(site: Site, browser: Browser) -> None:
    number = site.add_conversation(*(f"Вопрос {n}" for n in range(60)))
    page, _complaints = open_page(browser, site, java_script_enabled=False)
    page.click(f"[data-conversation='{number}']")
    expect(page.locator("#thread article").last).to_be_in_viewport()
    page.click(".mark-read button")
    assert site.unread(number) == 0
    page.click("text=Earlier messages")
    expect(page.locator("#thread article").first).to_contain_text("Вопрос 0")
    page.click("text=To the latest messages")
    page.fill("textarea[name=text]", "Без скриптов")
    page.click("#answer button")
    expect(page.locator("#thread article").last).to_contain_text("Без скриптов")
    page.click("#head >> text=Close")
    expect(page.locator("#head")).to_contain_text("Closed")
    page.click("text=Reopen")
    expect(page.locator("#head")).to_contain_text("Maria")
    assert site.sent(number) == ["Без скриптов"]
    page.click("text=Sign out")
    expect(page.locator("[name=password]")).to_be_visible()
    page.context.close()


def test_a_phone_shows_one_thing_at_a_time_and_asks_for_no_more(site: Site, browser: Browser) -> None:
    number = site.add_conversation("Длинноебезпробелов" * 20, first_name="Константин-Максимилиан")
    page, complaints = open_page(browser, site, viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for address in ("/", f"/conversations/{number}"):
        page.goto(site.address + address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    expect(page.locator("#inbox")).to_be_hidden()
    asked.clear()
    for _ in range(2):
        with page.expect_request("**/thread*"):
            pass
    assert not any("/inbox" in url for url in asked)
    page.click(".back")
    expect(page.locator("#inbox")).to_be_visible()
    page.context.close()
    assert complaints == []


def test_trouble_appears_above_every_page_and_goes_again(site: Site, page: Page) -> None:
    def happens(**beat: Any) -> None:
        with Session(site.engine) as session, session.begin():
            session.merge(Heartbeat(name="bot.deliver", **beat))
            session.flush()
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # or within 15 seconds

    banner = page.locator("#banner")
    expect(banner).to_have_text("")
    happens(at=now(), problem="VK refuses the token (5: x)")
    expect(banner).to_contain_text("Does not work: Sending.")
    page.click("#banner a")
    expect(page.locator(".light.bad")).to_contain_text("make vk-check")
    happens(at=now(), problem=None)
    expect(page.locator(".light.bad")).to_have_count(0)
    expect(banner).to_have_text("")


@pytest.mark.parametrize("scripts", [True, False])
def test_what_was_set_aside_is_run_again_or_dismissed(site: Site, browser: Browser, *, scripts: bool) -> None:
    with Session(site.engine) as session, session.begin():
        session.execute(update(Operator).where(Operator.login == "oleg").values(role=Role.MANAGER))
        add_events(session, [{"type": "message_new", "object": {"message": f"<img src=x> {n}"}} for n in range(2)])
    page, complaints = open_page(browser, site, "oleg", java_script_enabled=scripts)
    page.click("text=Set aside")
    rows = page.locator("article.event")
    expect(rows).to_have_count(2)
    rows.first.locator("summary").click()
    expect(rows.first.locator("pre")).to_contain_text("<img src=x> 1")
    rows.first.locator("text=Run again").click()
    expect(rows).to_have_count(2)  # it is read anew, and is not in VK's form still
    for left in (1, 0):
        rows.first.locator("text=Dismiss").click()
        expect(rows).to_have_count(left)
    expect(page.locator("text=Nothing is set aside.")).to_be_visible()
    expect(page.locator("#set-aside")).to_be_hidden()
    page.context.close()
    assert complaints == []


@pytest.mark.parametrize("scripts", [True, False])
def test_an_answer_that_did_not_arrive_is_sent_again(site: Site, browser: Browser, *, scripts: bool) -> None:
    number = site.add_conversation("Вопрос")
    with Session(site.engine) as session, session.begin():
        for state in (DeliveryState.FAILED, DeliveryState.HELD):
            answer = desk.answer(session, session.get_one(Conversation, number), f"Ответ {state}")
            answer.deliveries[0].state = state
    page, complaints = open_page(browser, site, java_script_enabled=scripts)
    page.goto(f"{site.address}/conversations/{number}?view=all")
    failed, held = page.locator("#thread article[data-direction=out]").all()
    failed.locator("text=Send again").click()
    expect(failed).to_contain_text("waiting to be sent")
    expect(held.locator("text=Send all the same")).to_be_hidden()
    held.locator("summary").click()
    held.locator("text=Send all the same").click()
    expect(held).to_contain_text("waiting to be sent")
    page.context.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_of_trouble_fit_a_phone(site: Site, browser: Browser, scheme: str) -> None:
    with Session(site.engine) as session, session.begin():
        session.merge(Heartbeat(name="bot.receive", at=now(), problem="VK refuses the token: " + "x" * 300))
        add_events(session, [{"type": "message_new", "object": {"message": {"text": "Безпробелов" * 50}}}])
    page, complaints = open_page(browser, site, viewport={"width": 360, "height": 640}, is_mobile=True, color_scheme=scheme)
    for address in ("/", "/health", "/events"):
        page.goto(site.address + address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
    page.locator("article.event summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.context.close()
    assert complaints == []
    with Session(site.engine) as session, session.begin():
        session.execute(delete(Heartbeat))
        session.execute(delete(Event))


# the process


def test_every_line_of_the_log_is_json_and_tells_no_secrets(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/?view=all&before=1-1")
    lines = [json.loads(line) for line in site.log().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert {line["service"] for line in lines} == {"web"}
    assert requests[-1].keys() >= {"method", "path", "status", "ms", "request_id"}
    assert not re.search(rf"before=|csrf|{PASSWORD}", site.log())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SECRETS_DIR": "/nowhere"}, "secret secret_key is missing"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL is not an address"),
        ({"REPORTS_URL": "http://127.0.0.1:1"}, "secret reports_token is missing"),
        ({"LISTEN": "taken"}, "is taken"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_line(site: Site, tmp_path: Path, settings: dict[str, str], words: str) -> None:
    if settings.get("LISTEN"):
        settings = {"LISTEN": site.address.removeprefix("http://")}
    other = Site(tmp_path, site.engine, settings)
    other.start()
    assert other.process is not None
    assert other.process.wait(timeout=30) == 2
    assert words in other.log()
    assert "Traceback" not in other.log()


def test_it_starts_without_a_database_and_is_ready_when_there_is_one(tmp_path: Path, sqlite_template: Path) -> None:
    engine = make_engine(make_settings(database_url=f"sqlite:///{tmp_path / 'late.db'}").database)
    site = Site(tmp_path, engine)
    site.start()
    for _ in range(100):
        if "waiting: " in site.log():
            break
        time.sleep(0.1)
    assert sum("waiting: " in line for line in site.log().splitlines()) == 1
    with engine.connect() as target:
        raw: Any = target.connection.driver_connection
        import sqlite3

        with sqlite3.connect(sqlite_template) as source:
            source.backup(raw)
    site.wait()
    assert site.stop() == 0
    engine.dispose()
