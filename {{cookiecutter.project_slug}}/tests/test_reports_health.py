"""The health page of the reports, its lines, and what Prometheus gets."""

from datetime import timedelta
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, select
from sqlalchemy.orm import Session

from app.reports import readings
from app.settings import Settings
from app.storage.migrate import migrate
from app.storage.models import Alert, Cursor, Delivery, Event, Sample, now
from tests.reports import service


@pytest.fixture
def reports(settings: Settings) -> FlaskClient:
    """The service with the rights that it has in its container."""
    if not settings.database_url or settings.database_url.startswith("postgresql"):
        password = SecretStr("reading-0123456789abcdef")
        migrate(settings.model_copy(update={"db_password_reports": password}))
        url = make_url(settings.database_url or "").set(username="reports", password=password.get_secret_value())
        settings = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    client = service(settings.model_copy(update={"app_language": "en"})).test_client()
    client.environ_base |= {"HTTP_AUTHORIZATION": f"Bearer {settings.secret('reports_token')}", "HTTP_X_OPERATOR": "1"}
    return client


def level(page: str, name: str) -> str:
    return page.split(f'data-reading="{name}" data-level="', 1)[1].split('"', 1)[0]


def test_lights_lines_and_figures(reports: FlaskClient, settings: Settings, engine: Engine) -> None:
    works, at = reports.application.extensions["works"], now()
    with works.speaking("en"):
        for ago in (25, 2, 1, 0):
            readings.sample(works.engine, works.settings, at - timedelta(hours=ago))
        readings.sample(works.engine, works.settings, at)
    with Session(engine) as session, session.begin():
        assert len(session.scalars(select(Sample).where(Sample.name == "database_bytes")).all()) == 3
        session.add_all(
            [
                Event(type="message_new", raw={}, received_at=at - timedelta(minutes=1)),
                Delivery(peer_id=5, text="", random_id=1, created_at=at - timedelta(hours=1)),
                Cursor(name="longpoll:1", value="1", updated_at=at),
                Alert(rule="outgoing", words="Messages wait to be sent."),
            ]
        )
    page = reports.get("/health").text
    assert level(page, "events_oldest_seconds") == "doubtful"
    assert level(page, "deliveries_oldest_seconds") == "bad"
    assert level(page, "longpoll_silence_seconds") == "good"
    assert 'data-alert="outgoing"' in page
    assert "style=" not in page
    line = ElementTree.fromstring(reports.get("/health/database_bytes.svg").data)  # noqa: S314 - our own
    assert len(line[0].attrib["points"].split()) == 3
    assert reports.get("/health/nothing.svg").status_code == 404
    assert reports.get("/metrics").status_code == 401
    metrics = reports.get("/metrics", headers={"Authorization": f"Bearer {settings.secret('metrics_token')}"}).text
    found = {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if not line.startswith("#")}
    assert found["desk_database_bytes"] > 100_000
    assert 3600 <= found["desk_deliveries_oldest_seconds"] < 3700


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_database_is_looked_into_with_the_reports_own_rights(reports: FlaskClient, engine: Engine) -> None:
    works = reports.application.extensions["works"]
    with engine.connect() as other, Session(works.engine) as session, works.speaking("en"):
        other.execute(select(1))  # somebody else's transaction
        found = {reading.name: reading.value for reading in readings.read(session, works.settings, now())}
    assert found["database_longest_transaction_seconds"] > 0
    assert found["database_connections"] >= 2
    assert 0 < found["database_hit_ratio"] <= 1
