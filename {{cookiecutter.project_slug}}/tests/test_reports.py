"""The reporting service as web asks it."""

import os
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
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError
from werkzeug.test import TestResponse

from app.reports import bundle, charts, documents
from app.reports.pages import create_app
from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.migrate import migrate
from app.storage.models import Author, now
from tests.conftest import make_settings
from tests.histories import believable, write

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
@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_nothing_is_shown_without_the_token(reports: FlaskClient, token: str) -> None:
    for address in ADDRESSES:
        answer = reports.get(address, headers={"Authorization": token.encode().decode("latin-1")})
        assert answer.status_code == 401
        assert "chart" not in answer.text


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
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
    assert 'id="chart-messages" data-spec="/reports/charts/messages.json?days=30"' in answer.text
    links = [part.split('"')[0] for part in answer.text.replace('src="', 'href="').split('href="')[1:]]
    assert len(links) > 5
    assert all(link.startswith("/reports/") for link in links)
    for link in links:
        assert reports.get(link.removeprefix("/reports")).status_code == 200, link


def test_the_overview_shows_todays_and_the_periods_figures(reports: FlaskClient, engine: Engine) -> None:
    at, long_ago = now(), now() - timedelta(days=20)
    lines = [(1, Author.PERSON, long_ago), (1, Author.BOT, long_ago), (1, Author.OPERATOR, long_ago + timedelta(minutes=72))]
    write(engine, [*lines, *[(2, Author.PERSON, at)] * 1234], {2: at - timedelta(hours=50)})
    month = " ".join(reports.get("/?days=30", headers={"X-Language": "en"}).text.split())
    assert "<strong>1,234</strong> <small>in</small>" in month
    assert "<strong>1,235</strong> <small>in</small>" in month
    assert "<strong>2</strong> <small>out</small>" in month
    assert "<strong>1 hr 12 min</strong>" in month
    assert "oldest: 2 days 2 hr" in month
    week = " ".join(reports.get("/?days=7", headers={"X-Language": "en"}).text.split())
    assert "1,235" not in week
    assert "No operator has answered in this period yet." in week


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("days", ["0", "-7", "31", "7.5", "abc", "", "٣٠", "30 ", "9" * 5000])
@pytest.mark.parametrize("address", ["/", "/charts/messages.json", "/charts/messages.png"])
def test_another_number_of_days_is_refused_with_a_sentence(reports: FlaskClient, address: str, days: str) -> None:
    for language, sentence in (("ru", "выберите одно из: 7, 30, 90"), ("en", "choose one of 7, 30, 90")):
        answer = reports.get(address, query_string={"days": days}, headers={"X-Language": language})
        assert answer.status_code == 400
        assert sentence in answer.text


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "address", ["/nowhere", "/charts/nothing.json", "/charts/nothing.png", "/static/charts.js", "/static/..%2fpages.py"]
)
def test_what_is_not_there_is_404(reports: FlaskClient, address: str) -> None:
    assert reports.get(address).status_code == 404


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_language_is_the_operators_or_else_the_projects(open_reports: Open, settings: Settings) -> None:
    russian, english = (open_reports(settings.model_copy(update={"app_language": language})) for language in ("ru", "en"))
    assert "Открытые диалоги" in russian.get("/").text
    assert "Открытые диалоги" in english.get("/", headers={"X-Language": "ru"}).text
    assert "Open conversations" in english.get("/").text
    assert "Open conversations" in russian.get("/", headers={"X-Language": "en"}).text
    assert "Open conversations" in english.get("/", headers={"X-Language": "tlh"}).text


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
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
    """The data of a chart."""
    found: list[dict[str, Any]] = answer.json["datasets"][answer.json["data"]["name"]]
    return found


def test_a_chart_holds_the_figures_and_is_sent_once(reports: FlaskClient, engine: Engine) -> None:
    asked = now() - timedelta(days=2)
    write(engine, [(1, Author.PERSON, asked), (1, Author.BOT, asked), (1, Author.OPERATOR, asked + timedelta(seconds=90))])
    first = reports.get("/charts/messages.json?days=7")
    assert len(rows(first)) == 7 * 3
    assert sum(row["count"] for row in rows(first)) == 3
    response = rows(reports.get("/charts/response.json?days=7", headers={"X-Language": "en"}))
    assert [row["text"] for row in response if row["value"] is not None] == ["1 min 30 sec"] * 2
    assert len(response) == 7 * 2
    again = reports.get("/charts/messages.json?days=7", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    write(engine, [(2, Author.PERSON, now())])
    changed = reports.get("/charts/messages.json?days=7", headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert sum(row["count"] for row in rows(changed)) == 4


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_months_are_nominative_and_numbers_russian(reports: FlaskClient) -> None:
    options = reports.get("/charts/messages.json", headers={"X-Language": "ru"}).json["usermeta"]["embedOptions"]
    assert options["timeFormatLocale"]["months"][10] == "ноябрь"
    assert options["formatLocale"]["decimal"] == ","
    options = reports.get("/charts/messages.json", headers={"X-Language": "en"}).json["usermeta"]["embedOptions"]
    assert options["timeFormatLocale"]["months"][10] == "November"


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
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


def test_pictures_show_what_the_period_holds(reports: FlaskClient, engine: Engine) -> None:
    empty = reports.get("/charts/messages.png").data
    believable(engine, now(), 30)
    for name in ("messages", "response"):
        answer = reports.get(f"/charts/{name}.png", headers={"X-Language": "ru"})
        assert answer.mimetype == "image/png"
        width, height = struct.unpack(">II", answer.data[16:24])
        assert 1600 <= width <= 1800
        assert 600 <= height <= 800
        assert len(answer.data) > len(empty) + 1000


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_pictures_know_cyrillic_letters(reports: FlaskClient) -> None:
    spec = reports.get("/charts/messages.json").json
    one, other = (documents.chart(spec | {"description": letter * 5}, "png") for letter in "ЖЩ")
    assert one != other  # a letter that the font has not would be the same box


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_reading_role_of_postgresql_is_enough_and_cannot_write(
    open_reports: Open, settings: Settings, engine: Engine
) -> None:
    believable(engine, now(), 7)
    password = SecretStr("reading-0123456789abcdef")
    migrate(settings.model_copy(update={"db_password_reports": password}))
    url = make_url(settings.database_url or "").set(username="reports", password=password.get_secret_value())
    reader = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    reports = open_reports(reader)
    for address in ("/", "/readyz", "/charts/messages.json", "/charts/response.json", "/charts/messages.png"):
        assert reports.get(address).status_code == 200, address
    for statement in (
        "INSERT INTO person (vk_id, first_name, last_name, reachable, created_at) VALUES (1, '', '', true, now())",
        "UPDATE conversation SET unread = 0",
        "SET default_transaction_read_only = off; COMMIT; DELETE FROM message",
        "CREATE TABLE notes (id integer)",
        "CREATE TEMPORARY TABLE notes (id integer)",
        "SELECT password_hash FROM operator",
    ):
        with (
            make_engine(reader.database).connect() as connection,
            pytest.raises(DBAPIError, match=r"read-only|permission denied"),
        ):
            connection.execute(text(statement))


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


def test_it_can_be_stopped_while_it_makes_the_script(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "reports"
    with process(tmp_path, token=TOKEN) as service:
        while not (folder.is_dir() and any(folder.iterdir())):
            assert service.poll() is None
            time.sleep(0.01)
        service.terminate()
        assert service.wait(20) == 0
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("token", "name"), [("", "reports_token"), (TOKEN, "DATA_DIR")])
def test_a_wrong_setting_is_one_line(tmp_path: Path, token: str, name: str) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with process(tmp_path, token=token) as service:
        _, said = service.communicate(timeout=60)
        assert service.returncode == 2
        assert said.count("\n") == 1
        assert said.startswith("reports: ")
        assert name in said
