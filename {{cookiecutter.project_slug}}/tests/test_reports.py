"""The reporting service as web asks it."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import pytest
import requests
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.reports import board, bundle, charts, documents, rollup
from app.reports.pages import create_app
from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.migrate import migrate
from app.storage.models import Author, Conversation, Message, Operator, Request, Role, now
from tests.conftest import make_settings
from tests.histories import Line, believable, write

UTC = ZoneInfo("UTC")
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

Open = Callable[[Settings], FlaskClient]


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script that draws the charts, made once for all tests."""
    return bundle.prepare(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def open_reports(script: Path) -> Open:
    """The service with some settings, seen by somebody who holds the token."""

    def with_settings(settings: Settings) -> FlaskClient:
        folder = settings.data_dir / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(script, folder)
        client = create_app(settings).test_client()
        client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {settings.secret('reports_token')}", "HTTP_X_OPERATOR": "1"}
        return client

    return with_settings


@pytest.fixture
def reports(open_reports: Open, settings: Settings) -> FlaskClient:
    return open_reports(settings)


TOKEN = "test-0123456789abcdef"
ADDRESSES = ["/", "/charts/messages.json", "/charts/response.png", f"/static/{bundle.name()}", "/nowhere"]


@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", "Bearer ключ", "Basic dGVzdA=="])
@on_sqlite
def test_nothing_is_shown_without_the_token(reports: FlaskClient, token: str) -> None:
    for address in ADDRESSES:
        answer = reports.get(address, headers={"Authorization": token.encode().decode("latin-1")})
        assert answer.status_code == 401
        assert "chart" not in answer.text


@on_sqlite
def test_health_needs_no_token(reports: FlaskClient) -> None:
    del reports.environ_base["HTTP_AUTHORIZATION"]
    for address in ("/healthz", "/readyz"):
        answer = reports.get(address)
        assert (answer.status_code, answer.text) == (200, "ok")


def test_the_overview_is_a_fragment_with_its_title_and_its_own_links(reports: FlaskClient) -> None:
    answer = reports.get("/", headers={"X-Language": "ru"})
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert unquote(answer.headers["X-Title"]) == "Отчёты"
    assert "<html" not in answer.text
    assert "<body" not in answer.text
    assert "style=" not in answer.text
    assert 'data-spec="/reports/charts/messages.json?days=30&amp;step=day"' in answer.text
    links = [part.split('"')[0] for part in answer.text.replace('src="', 'href="').split('href="')[1:]]
    assert len(links) > 5
    assert all(link.startswith("/reports/") for link in links)
    for link in links:
        if not link.partition("?")[0].endswith((".png", ".svg")):  # drawing all of them takes a while
            assert reports.get(unescape(link.removeprefix("/reports")), headers={"X-Operator": "1"}).status_code == 200, link


def show(reports: FlaskClient, address: str = "/", **headers: str) -> str:
    """A page in English without what is between its tags."""
    answer = reports.get(address, headers={"X-Language": "en", "X-Operator": "1"} | headers)
    assert answer.status_code == 200, answer.text
    return " ".join(unescape(re.sub("<[^>]*>", " ", answer.text)).split())


@on_sqlite
def test_the_main_figures_are_compared_with_the_period_before(reports: FlaskClient, engine: Engine) -> None:
    at = now()
    lines: list[Line] = []
    for peer, days in ((1, 2), (2, 3), (3, 9)):
        asked = at - timedelta(days=days)
        lines += [(peer, Author.PERSON, asked), (peer, Author.BOT, asked), (peer, Author.OPERATOR, asked + timedelta(minutes=72))]
    write(engine, [*lines, *[(2, Author.PERSON, at)] * 1233], {2: at - timedelta(hours=50)})
    rollup.catch_up(engine, UTC)
    week = show(reports, "/?days=7")
    assert "Messages in 1,235 1 in the period before" in week
    assert "Messages out 4 +100% to the period before" in week
    assert "Median response time 1 hr 9 min" in week  # the middle of the bucket that 72 minutes are in
    assert "Within 15 min 0% 0% in the period before" in week
    assert "Open conversations now 1 0 in the period before" in week
    assert "New people 2 +100% to the period before" in week
    assert "1 were open, 1 of them for more than a day" in week
    today = show(reports, "/?days=1")
    assert "No operator has answered in this period yet." in today
    assert "Messages in 1,233" in today


@on_sqlite
def test_an_empty_desk_has_a_page_too(reports: FlaskClient, engine: Engine) -> None:
    assert "being counted for the first time" in show(reports)
    rollup.catch_up(engine, UTC)
    for days in (1, 7, 365):
        page = show(reports, f"/?days={days}&compare=1", **{"X-Role": "manager"})
        assert "No messages in this period yet." in page
        assert "Nothing was left open." in page
        assert "being counted" not in page
    for chart in board.CHARTS:
        assert reports.get(f"/charts/{chart}.json?days=1&compare=1", headers={"X-Role": "manager"}).status_code == 200


@on_sqlite
def test_single_operators_are_for_managers(reports: FlaskClient, engine: Engine) -> None:
    believable(engine, now(), 5)
    with Session(engine) as session, session.begin():
        session.add(Operator(id=7, login="olga", name="Olga K.", password_hash="", role=Role.OPERATOR))
        session.flush()
        session.execute(update(Message).where(Message.author == Author.OPERATOR).values(operator_id=7))
        session.execute(update(Conversation).where(Conversation.id % 3 == 0).values(topic="returns & refunds"))
        session.execute(update(Request).where(Request.id % 2 == 0).values(topic="returns & refunds"))
    rollup.catch_up(engine, UTC)
    manager = {"X-Role": "manager"}
    assert "Most was answered by Olga K." in show(reports, **manager)
    assert "Olga" not in show(reports)
    assert reports.get("/charts/operators.json").status_code == 404
    assert reports.get("/?of=operator:7").status_code == 400
    of_olga = show(reports, "/?of=operator:7", **manager)
    assert "In: 0; out by the bot: 0" in of_olga
    assert "Response time" in of_olga
    assert "Backlog" not in of_olga  # nobody's in particular
    assert "When people write" in show(reports, "/?of=topic:returns+%26+refunds")
    everything, topic = (
        sum(row["value"] for row in rows(reports.get(f"/charts/messages.json?{of}")))
        for of in ("", "of=topic:returns+%26+refunds")
    )
    assert 0 < topic < everything


@on_sqlite
def test_a_bar_leads_to_its_conversations(reports: FlaskClient, engine: Engine) -> None:
    day = now() - timedelta(days=3)
    write(engine, [(peer, Author.PERSON, day) for peer in range(1, 106)] + [(200, Author.PERSON, now())])
    rollup.catch_up(engine, UTC)
    bar = next(row for row in rows(reports.get("/charts/messages.json?days=7")) if row["value"] == 105)
    first = reports.get(bar["href"].removeprefix("/reports"))
    assert first.text.count('href="/conversations/') == 100
    more = unescape(first.text.split('class="outline" href="/reports')[1].split('"')[0])
    assert reports.get(more).text.count('href="/conversations/') == 5
    for wrong in (
        "begin=x&end=y",
        "begin=2026-11-24T00:00:00&end=2026-11-25T00:00:00",
        "begin=2026-01-01T00:00Z&end=2026-12-01T00:00Z",
    ):
        assert reports.get(f"/conversations?{wrong}").status_code == 400


@on_sqlite
def test_the_address_holds_what_is_shown(reports: FlaskClient) -> None:
    page = reports.get("/?from=2026-03-02&to=2026-03-08&step=hour&compare=1", headers={"X-Language": "en"}).text
    assert '<input type="date" name="from" value="2026-03-02"' in page
    assert "/reports/charts/messages.json?from=2026-03-02&amp;to=2026-03-08&amp;step=hour&amp;compare=1" in page
    assert "/reports/?days=30&amp;compare=1" in page
    for wrong, sentence in (
        ("from=2026-03-09&to=2026-03-08", "The first day comes before the last"),
        ("from=03/09/2026", "Write days as 2026-11-24"),
        ("from=1000-01-01&to=2026-01-01", "not more than ten years"),
        ("days=90&step=hour", "Hours can be shown for up to 31 days"),
        ("step=minute", "The step is hour, day or week"),
        ("of=everybody", "topics and of operators"),
    ):
        answer = reports.get(f"/?{wrong}", headers={"X-Language": "en"})
        assert (answer.status_code, sentence in answer.text) == (400, True), wrong


@on_sqlite
@pytest.mark.parametrize("days", ["0", "-7", "31", "7.5", "abc", "", "٣٠", "30 ", "9" * 5000])
@pytest.mark.parametrize("address", ["/", "/charts/messages.json", "/charts/messages.png"])
def test_another_number_of_days_is_refused_with_a_sentence(reports: FlaskClient, address: str, days: str) -> None:
    for language, sentence in (("ru", "выберите одно из: 1, 7, 30, 90, 365"), ("en", "choose one of 1, 7, 30, 90, 365")):
        answer = reports.get(address, query_string={"days": days}, headers={"X-Language": language})
        assert answer.status_code == 400
        assert sentence in answer.text


@on_sqlite
@pytest.mark.parametrize(
    "address", ["/nowhere", "/charts/nothing.json", "/charts/nothing.png", "/static/charts.js", "/static/..%2fpages.py"]
)
def test_what_is_not_there_is_404(reports: FlaskClient, address: str) -> None:
    assert reports.get(address).status_code == 404


@on_sqlite
def test_the_language_is_the_operators_or_else_the_projects(open_reports: Open, settings: Settings) -> None:
    russian, english = (open_reports(settings.model_copy(update={"app_language": language})) for language in ("ru", "en"))
    assert "Открытые диалоги" in russian.get("/").text
    assert "Открытые диалоги" in english.get("/", headers={"X-Language": "ru"}).text
    assert "Open conversations" in english.get("/").text
    assert "Open conversations" in russian.get("/", headers={"X-Language": "en"}).text
    assert "Open conversations" in english.get("/", headers={"X-Language": "tlh"}).text


@on_sqlite
def test_durations_are_written_in_two_units(reports: FlaskClient) -> None:
    app = reports.application
    for language, written in (
        ("en", {0: "0 sec", 0.4: "0 sec", 59.9: "59 sec", 60: "1 min", 3725: "1 hr 2 min", 86400: "1 day", 90_061: "1 day 1 hr"}),
        ("ru", {0: "0 с", 3725: "1 ч 2 мин", 180_000: "2 дн. 2 ч"}),
    ):
        with app.test_request_context(headers={"X-Language": language}):
            assert {seconds: charts.duration(seconds).replace("\xa0", " ") for seconds in written} == written


def test_without_its_database_it_says_so_and_recovers(open_reports: Open, tmp_path: Path) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path}/late.db", data_dir=tmp_path)
    reports = open_reports(settings)
    for address in ("/", "/charts/messages.json", "/charts/messages.png"):
        answer = reports.get(address, headers={"X-Language": "ru"})
        assert answer.status_code == 503
        assert "База данных сейчас не отвечает" in answer.text
        assert "sqlite" not in answer.text.lower()
    assert reports.get("/readyz").status_code == 503
    assert "make migrate" in reports.get("/readyz").text
    assert reports.get("/healthz").status_code == 200
    migrate(settings)
    assert reports.get("/readyz").status_code == 200
    assert reports.get("/").status_code == 200


def test_a_database_that_is_away_is_503_too(open_reports: Open, tmp_path: Path) -> None:
    reports = open_reports(make_settings(database_url="postgresql://reports@127.0.0.1:1/desk", data_dir=tmp_path))
    assert reports.get("/").status_code == 503
    assert reports.get("/readyz").status_code == 503


def rows(answer: TestResponse) -> list[dict[str, Any]]:
    """The data of a chart, without the period before."""
    found: list[dict[str, Any]] = answer.json["layer"][0]["data"]["values"]
    return found


def test_a_chart_holds_the_figures_and_is_sent_once(reports: FlaskClient, engine: Engine) -> None:
    asked = now() - timedelta(days=2)
    write(engine, [(1, Author.PERSON, asked), (1, Author.BOT, asked), (1, Author.OPERATOR, asked + timedelta(seconds=90))])
    rollup.catch_up(engine, UTC)
    first = reports.get("/charts/messages.json?days=7")
    assert len(rows(first)) == 7 * 3
    assert sum(row["value"] for row in rows(first)) == 3
    response = rows(reports.get("/charts/response.json?days=7", headers={"X-Language": "en"}))
    assert [row["text"] for row in response if row["value"] is not None] == ["1 min 32 sec"] * 2
    assert len(response) == 7 * 2
    again = reports.get("/charts/messages.json?days=7", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    write(engine, [(2, Author.PERSON, now())])
    rollup.catch_up(engine, UTC)
    changed = reports.get("/charts/messages.json?days=7", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert sum(row["value"] for row in rows(changed)) == 4


@on_sqlite
def test_months_are_nominative_and_numbers_russian(reports: FlaskClient) -> None:
    options = reports.get("/charts/messages.json", headers={"X-Language": "ru"}).json["usermeta"]["embedOptions"]
    assert options["timeFormatLocale"]["months"][10] == "ноябрь"
    assert options["formatLocale"]["decimal"] == ","
    options = reports.get("/charts/messages.json", headers={"X-Language": "en"}).json["usermeta"]["embedOptions"]
    assert options["timeFormatLocale"]["months"][10] == "November"


def test_what_only_draws_is_not_in_the_memory_of_the_service() -> None:
    look = "import sys, app.reports.serve; print({'altair', 'typst', 'vl_convert'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, cwd=Path(__file__).parents[1])
    assert found.stdout == b"set()\n"
    look = "import sys, app.reports.__main__; print('sqlalchemy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True, cwd=Path(__file__).parents[1])
    assert found.stdout == b"False\n"  # the process that looks after the server


@on_sqlite
def test_static_files_are_kept_for_ever_under_names_of_their_content(reports: FlaskClient) -> None:
    for name in (bundle.name(), reports.get("/").text.split("/reports/static/")[1].split('"')[0]):
        answer = reports.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.cache_control.immutable
        assert answer.cache_control.max_age == 365 * 86400
        assert reports.get(f"/static/{name}", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert reports.get(f"/static/{bundle.name()}").mimetype == "text/javascript"


def test_the_script_is_made_once_and_never_half(tmp_path: Path, script: Path) -> None:
    assert script.stat().st_size > 500_000
    assert "data-spec" in script.read_text("utf-8")
    file = tmp_path / "new" / bundle.name()
    file.parent.mkdir()
    file.write_text("made before")
    assert bundle.prepare(file.parent).read_text() == "made before"
    assert [path.name for path in script.parent.iterdir()] == [bundle.name()]


@on_sqlite
def test_pictures_show_what_the_period_holds(reports: FlaskClient, engine: Engine) -> None:
    empty = reports.get("/charts/messages.png").data
    believable(engine, now(), 30)
    rollup.catch_up(engine, UTC)
    for name in ("messages", "response"):
        answer = reports.get(f"/charts/{name}.png", headers={"X-Language": "ru"})
        assert answer.mimetype == "image/png"
        width, height = struct.unpack(">II", answer.data[16:24])
        assert 1600 <= width <= 1800
        assert 600 <= height <= 800
        assert len(answer.data) > len(empty) + 1000


@on_sqlite
def test_pictures_know_cyrillic_letters(reports: FlaskClient) -> None:
    spec = reports.get("/charts/messages.json").json
    one, other = (documents.chart(spec | {"description": letter * 5}, "png") for letter in "ЖЩ")
    assert one != other  # a letter that the font has not would be the same box


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_reading_role_of_postgresql_is_enough_and_cannot_write(
    open_reports: Open, settings: Settings, engine: Engine
) -> None:
    password = SecretStr("reading-0123456789abcdef")
    migrate(settings.model_copy(update={"db_password_reports": password}))
    url = make_url(settings.database_url or "").set(username="reports", password=password.get_secret_value())
    reader = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    reports = open_reports(reader)
    believable(engine, now(), 7)
    writer = make_engine(reader.database).execution_options(postgresql_readonly=False)
    rollup.catch_up(writer, UTC)  # the sums are what it may write
    assert sum(row["value"] for row in rows(reports.get("/charts/messages.json"))) > 100
    for address in ("/", "/readyz", "/charts/messages.json", "/charts/response.json", "/charts/messages.png"):
        assert reports.get(address).status_code == 200, address
    for statement in (
        "INSERT INTO person (vk_id, first_name, last_name, reachable, created_at) VALUES (1, '', '', true, now())",
        "UPDATE conversation SET unread = 0",
        "SET default_transaction_read_only = off; COMMIT; DELETE FROM message",
        "CREATE TABLE notes (id integer)",
        "CREATE TEMPORARY TABLE notes (id integer)",
        "SELECT password_hash FROM operator",
        "UPDATE request SET closed_at = now()",
        "INSERT INTO changed (at) VALUES (now())",
        "TRUNCATE figure",
        "DROP TRIGGER message_written ON message",
    ):
        with writer.connect() as connection, pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            connection.execute(text(statement))
    with make_engine(reader.database).connect() as connection, pytest.raises(DBAPIError, match="read-only"):
        connection.execute(text("DELETE FROM figure"))  # unless it says that it wants to write


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def process(folder: Path, *, token: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The service as `make run` starts it, with `token` in `secrets/`."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / "reports_token").write_text(token)
    started = subprocess.Popen(
        [sys.executable, "-m", "app.reports"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])} | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)  # with its worker, which would outlive it
        started.communicate()


def answers(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_it_starts_and_ends_as_a_process(tmp_path: Path, script: Path, sqlite_template: Path) -> None:
    (tmp_path / "data" / "reports").mkdir(parents=True)
    shutil.copy(script, tmp_path / "data" / "reports")
    address = free_address()
    with process(tmp_path, token=TOKEN, LISTEN=address, DATABASE_URL=f"sqlite:///{sqlite_template}") as service:
        while not answers(address):
            assert service.poll() is None
            time.sleep(0.1)
        service.terminate()
        assert service.wait(20) == 0


def test_a_command_counts_everything_anew_and_shows_how_far_it_is(tmp_path: Path, sqlite_template: Path) -> None:
    file = shutil.copy(sqlite_template, tmp_path / "desk.db")
    engine = make_engine(make_url(f"sqlite:///{file}"))
    write(engine, [(1, Author.PERSON, now() - timedelta(days=4))])
    command = [sys.executable, "-m", "app.reports", "rebuild"]
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), "DATABASE_URL": f"sqlite:///{file}"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert re.search(r"^48 of 9[78] hours$", done.stderr, re.MULTILINE)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT sum(n) FROM figure WHERE metric = 'in'")) == 3  # an hour, a day and a week
    engine.dispose()
    done = subprocess.run([*command, "twice"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, "usage" in done.stderr) == (1, True)


def test_it_can_be_stopped_while_it_makes_the_script(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "reports"
    with process(tmp_path, token=TOKEN) as service:
        while not (folder.is_dir() and any(folder.iterdir())):
            assert service.poll() is None
            time.sleep(0.01)
        service.terminate()
        assert service.wait(20) == 0
        assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(("token", "name"), [("", "reports_token"), (TOKEN, "DATA_DIR")])
def test_a_wrong_setting_is_one_line(tmp_path: Path, token: str, name: str) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with process(tmp_path, token=token) as service:
        _, said = service.communicate(timeout=60)
        assert service.returncode == 2
        assert said.count("\n") == 1
        assert said.startswith("reports: ")
        assert name in said
