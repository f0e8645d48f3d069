"""What may be exported: files that are opened again, jobs that are cancelled, and what is not anybody's business."""

import csv
import io
import os
import time
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from pypdf import PdfReader
from sqlalchemy import Engine, make_url, select
from sqlalchemy.orm import Session

from app.reports import alerts, exports, jobs, schedule, work
from app.settings import Settings
from app.storage.migrate import migrate
from app.storage.models import (
    Author,
    Conversation,
    Direction,
    JobState,
    Message,
    Operator,
    Person,
    ReportJob,
    ReportSubscription,
    Rhythm,
    Role,
    now,
)
from app.storage.pictures import order_picture
from app.storage.wake import Channel, Waiter
from tests.conftest import on_sqlite
from tests.histories import believable
from tests.reports import Works, do_all, service

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EVIL = ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "http://vk.com", "да;=1+2;", 'Привет,\n"мир"; \x01 ёж']
DAYS = {"first": "2026-11-24", "last": "2026-11-24"}


@pytest.fixture
def reports(settings: Settings) -> FlaskClient:
    """The service as web asks it for the first operator, a manager."""
    client = service(settings.model_copy(update={"app_language": "en"})).test_client()
    token = settings.secret("reports_token")
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {token}", "HTTP_X_OPERATOR": "1", "HTTP_X_ROLE": "manager"}
    return client


def works(reports: FlaskClient) -> Works:
    made: Works = reports.application.extensions["works"]
    return made


def talk(engine: Engine, texts: list[str]) -> None:
    """A conversation in which an operator writes `texts`, a second after another, and a message of the day after."""
    with Session(engine) as session, session.begin():
        person = Person(vk_id=7, first_name="=Анна", last_name="Ким")
        conversation = Conversation(peer_id=7, person=person, topic="Заказ")
        operator = Operator(login="ivan", name="Иван Петров", password_hash="-", role=Role.OPERATOR)
        session.add_all([conversation, operator])
        session.flush()
        for number, text in enumerate([*texts, "завтра"]):
            at = NOON + (timedelta(hours=12) if text == "завтра" else timedelta(seconds=number))
            session.add(
                Message(
                    conversation_id=conversation.id,
                    operator_id=operator.id,
                    direction=Direction.OUT,
                    author=Author.OPERATOR,
                    text=text,
                    created_at=at,
                )
            )


def order(reports: FlaskClient, kind: str, **more: Any) -> int:
    """The number of a job that was done."""
    headers = {"X-Language": "ru"} | more
    answer = reports.post("/exports", data={"kind": kind, **DAYS}, headers=headers)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/reports/exports")
    do_all(works(reports))
    with Session(works(reports).engine) as session:
        job = session.scalars(select(ReportJob).order_by(ReportJob.id.desc())).first()
        assert job
        assert (job.state, job.note) == (JobState.DONE, None)
        return job.id


def fetched(reports: FlaskClient, number: int) -> bytes:
    answer = reports.get(f"/exports/{number}/file")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith("attachment")
    return answer.data


def cells(data: bytes) -> list[list[str]]:
    """The texts of an XLSX sheet; a formula would be no text."""
    space = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))  # noqa: S314 - our own file
        assert sheet.find(".//x:f", space) is None
        assert "xl/worksheets/_rels/sheet1.xml.rels" not in book.namelist()  # no links
        return [["".join(cell.itertext()) for cell in row.iterfind("x:c", space)] for row in sheet.iterfind(".//x:row", space)]


def test_messages_are_read_back_and_nothing_in_them_is_a_formula(reports: FlaskClient, engine: Engine) -> None:
    talk(engine, EVIL)
    data = fetched(reports, order(reports, "messages.csv"))
    assert data.startswith(b"\xef\xbb\xbf")
    head, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";")  # as Excel reads it in Russian
    assert [row[head.index("Текст")] for row in rows] == ["'=1+2", "'+1", "'-1", "'@SUM(A1)", "'\t=1", *EVIL[5:]]
    assert rows[0][:6] == ["2026-11-24 12:00:00", "1", "7", "'=Анна Ким", "Оператор", "Иван Петров"]
    head, *rows = cells(fetched(reports, order(reports, "messages.xlsx")))
    assert [row[-1] for row in rows] == [*EVIL[:-1], EVIL[-1].replace("\x01", "_x0001_")]
    assert "Иван Петров" in rows[0]
    # who is no manager does not see who answered
    number = order(reports, "messages.csv", **{"X-Role": "operator"})
    assert "Иван" not in fetched(reports, number).decode()


@on_sqlite
def test_conversations_in_a_time_zone(reports: FlaskClient, engine: Engine) -> None:
    talk(engine, ["раз", "два"])
    number = order(reports, "conversations.csv")
    head, row = csv.reader(io.StringIO(fetched(reports, number).decode("utf-8-sig")), delimiter=";")
    assert dict(zip(head, row, strict=True)) | {"Начат": ""} == {
        "Диалог": "1",
        "Номер VK": "7",
        "Кто": "'=Анна Ким",
        "Тема": "Заказ",
        "Состояние": "Бот",
        "Оператор": "",
        "Сообщения за период": "2",
        "Начат": "",
        "Последнее сообщение за период": "2026-11-24 12:00:01",
        "Передан операторам": "",
        "Закрыт": "",
    }


@on_sqlite
def test_the_report_as_pdf_has_charts_and_tables_in_russian(reports: FlaskClient, engine: Engine) -> None:
    believable(engine, NOON, 2)
    book = PdfReader(io.BytesIO(fetched(reports, order(reports, "report.pdf"))))
    pages = [page.extract_text() for page in book.pages]
    assert works(reports).settings.app_name in pages[0]
    assert "24 нояб" in pages[0]
    assert "часовой пояс UTC" in pages[0]
    assert "Сообщения" in pages[1]
    assert "Операторы" in pages[1]  # of the legend: letters, not pixels
    assert len(pages) > 5
    assert book.metadata
    assert book.metadata.title == works(reports).settings.app_name


@on_sqlite
def test_what_does_not_fit_is_said(reports: FlaskClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    talk(engine, ["раз", "два", "три"])
    monkeypatch.setattr(exports, "SHEET_ROWS", 3)
    reports.post("/exports", data={"kind": "messages.xlsx", **DAYS})
    do_all(works(reports))
    assert "Only the first rows are in it" in reports.get("/exports").text
    assert len(cells(fetched(reports, 1))) == 3
    settings = works(reports).settings.model_copy(update={"reports_keep_megabytes": 0})
    reports.post("/exports", data={"kind": "messages.csv", **DAYS})
    do_all(Works(reports.application, settings, works(reports).engine))
    assert "The file would be larger than 0 MB" in reports.get("/exports").text
    assert [folder.name for folder in works(reports).folder.iterdir()] == ["1-1"]


@on_sqlite
def test_a_job_is_its_owners_and_can_be_cancelled(reports: FlaskClient, engine: Engine) -> None:
    talk(engine, ["раз"])
    number = order(reports, "messages.csv")
    for other in ("2", "", "x"):
        assert reports.get(f"/exports/{number}/file", headers={"X-Operator": other}).status_code in (401, 404)
    assert "data-job" not in reports.get("/exports", headers={"X-Operator": "2"}).text
    for _ in range(3):
        assert reports.post("/exports", data={"kind": "messages.csv", **DAYS}).status_code == 303
    assert reports.post("/exports", data={"kind": "messages.csv", **DAYS}).status_code == 409
    running = jobs.claim(engine, now())
    assert running
    running.advance(1, 4)
    page = reports.get("/exports").text
    assert '<progress value="1" max="4">' in page
    assert 'hx-trigger="every 2s"' in page
    assert reports.post("/exports/2/cancel", headers={"X-Operator": "2"}).status_code == 404
    for job in (2, 3, 4):
        assert reports.post(f"/exports/{job}/cancel").status_code == 303
    with pytest.raises(jobs.NotWanted):
        running.advance(2)
    assert jobs.claim(engine, now()) is None
    assert "hx-trigger" not in reports.get("/exports").text


@on_sqlite
@pytest.mark.parametrize(
    "data",
    [
        {"kind": "person.csv"},
        {"kind": "picture"},
        {"first": "yesterday"},
        {"first": "2026-11-25"},
        {"first": "1900-01-01"},
    ],
)
def test_what_cannot_be_ordered(reports: FlaskClient, data: dict[str, str]) -> None:
    assert reports.post("/exports", data={"kind": "messages.csv", **DAYS} | data).status_code == 400


@on_sqlite
def test_files_go_when_they_are_old_or_too_many_and_a_slot_stays(reports: FlaskClient, engine: Engine) -> None:
    these, at = works(reports), now()
    folder = these.folder
    with Session(engine) as session, session.begin():
        ended = {"kind": "messages.csv", "params": DAYS, "state": JobState.DONE}
        subscription = ReportSubscription(peer_id=5, rhythm=Rhythm.DAILY, hour=9, language="ru")
        session.add(subscription)
        session.flush()
        for number, (age, size, mine) in enumerate([(1, 400, 1), (8, 1, 1), (2, 200, None), (3, 200, 1), (401, 1, None)], 1):
            row = ReportJob(id=number, file=f"{number}-1/a.csv", size=size * 2**20, operator_id=mine, **ended)
            row.finished_at = at - timedelta(days=age)
            row.subscription_id = subscription.id if number == 2 + 1 else None
            row.period = at.date() if number == 3 else None
            session.add(row)
        session.add(ReportJob(id=6, kind="messages.csv", params=DAYS, state=JobState.RUNNING))
    for name in ("1-1", "2-1", "3-1", "4-1", "5-1", "6-1", "77-1", "78-1"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.csv").touch()
        if name != "78-1":  # somebody begins it just now
            os.utime(folder / name, (time.time() - 3600,) * 2)
    work.clean(these, at)
    assert sorted(path.name for path in folder.iterdir()) == ["1-1", "6-1", "78-1"]
    with Session(engine) as session:
        left = {row.id: row.file for row in session.scalars(select(ReportJob))}
    assert left == {1: "1-1/a.csv", 3: None, 4: None, 6: None}  # a slot is not sent again because its picture is gone
    assert reports.get("/exports/4/file").status_code == 404


@on_sqlite
def test_managers_say_who_gets_what(reports: FlaskClient, engine: Engine) -> None:
    form = {"peer_id": "2000000001", "rhythm": "weekly", "hour": "9"}
    assert reports.post("/schedule", data=form, headers={"X-Role": "operator"}).status_code == 403
    for wrong in ({"hour": "24"}, {"rhythm": "yearly"}, {"peer_id": "-1"}, {"peer_id": "²"}):
        assert reports.post("/schedule", data=form | wrong).status_code == 400
    assert reports.post("/schedule", data=form).status_code == 303
    page = reports.get("/schedule").text
    assert "Group chat 1" in page
    assert "/reports/schedule/1/remove" in page
    assert "remove" not in reports.get("/schedule", headers={"X-Role": "operator"}).text
    schedule.plan(engine, works(reports).settings.zone, now() + timedelta(days=8))
    assert reports.post("/schedule/1/remove").status_code == 303
    do_all(works(reports))
    archive = reports.get("/archive").text
    assert "on its way" in archive
    address = archive.split('src="/reports')[1].split('"')[0]
    assert reports.get(address).data.startswith(b"\x89PNG")
    assert "Nobody gets a report" in reports.get("/schedule").text


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_reports_role_is_enough_for_all_of_it(settings: Settings, engine: Engine) -> None:
    talk(engine, ["раз"])
    password = SecretStr("writing-0123456789abcdef")
    migrate(settings.model_copy(update={"db_password_reports": password}))
    url = make_url(settings.database_url or "").set(username="reports", password=password.get_secret_value())
    limits = {"alert_disk": 100, "operators_peer_id": 2000000001}
    role = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False), **limits})
    client = service(role).test_client()
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {role.secret('reports_token')}", "HTTP_X_OPERATOR": "1"}
    order(client, "messages.csv")
    order(client, "conversations.xlsx")
    these = works(client)
    with Session(engine) as session, session.begin():
        session.add(ReportSubscription(peer_id=5, rhythm=Rhythm.DAILY, hour=9, language="ru", created_at=NOON))
    schedule.plan(these.engine, role.zone, NOON + timedelta(days=3))
    with these.speaking("ru"):
        alerts.check(these.engine, role, NOON)
    work.sign_of_life(these)
    with Waiter(these.engine, Channel.REPORTS) as waiter, Session(engine) as session, session.begin():
        assert order_picture(session, 2000000001, NOON.date(), NOON.date())
        session.commit()
        waiter.wait(60)  # it is called: the test would take a minute
    do_all(these)
    work.clean(these, now())
    with Session(engine) as session:
        assert set(session.scalars(select(ReportJob.state))) == {JobState.DONE}
