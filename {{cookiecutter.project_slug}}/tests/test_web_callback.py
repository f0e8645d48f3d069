"""VK calls the web: what it is told, what is stored, and who is refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.settings import Settings, SettingsError
from app.storage.models import Event, EventState
from app.storage.wake import Channel, Waiter
from app.web import create_app
from tests.conftest import make_settings

SECRET = make_settings().secret("vk_callback_secret")
CONFIRMATION = "0a1b2c3d"


def callback(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"vk_transport": "callback", "vk_callback_confirmation": CONFIRMATION, "vk_group_id": 7, "app_language": "en"}
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = create_app(callback(settings))
    yield app
    app.extensions["engine"].dispose()


@pytest.fixture
def vk(app: Flask) -> FlaskClient:
    """VK, which has no session and no token of a form."""
    return app.test_client()


def update(cmid: int = 1, **changes: Any) -> dict[str, Any]:
    message = {"peer_id": 5, "from_id": 5, "conversation_message_id": cmid, "date": 1700000000, "text": "Здравствуйте"}
    base = {"type": "message_new", "group_id": 7, "event_id": f"e{cmid}", "v": "5.199", "secret": SECRET}
    return base | {"object": {"message": message, "client_info": {}}} | changes


def call(vk: FlaskClient, told: Any, **headers: str) -> TestResponse:
    return vk.post("/vk/callback", data=json.dumps(told), content_type="application/json", headers=headers)


def stored(engine: Engine) -> list[Event]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.scalars(select(Event).order_by(Event.id)))


def test_it_confirms_the_address(vk: FlaskClient, engine: Engine) -> None:
    response = call(vk, {"type": "confirmation", "group_id": 7})
    assert (response.status_code, response.text, response.mimetype) == (200, CONFIRMATION, "text/plain")
    assert CONFIRMATION not in call(vk, {"type": "confirmation", "group_id": 8}).text
    assert stored(engine) == []


def test_an_event_is_stored_before_it_is_ok_and_wakes_the_bot(vk: FlaskClient, engine: Engine) -> None:
    with Waiter(engine, Channel.EVENTS) as waiter:
        response = call(vk, update())
        waiter.wait(10)
    assert (response.status_code, response.text, response.mimetype) == (200, "ok", "text/plain")
    (event,) = stored(engine)
    assert (event.type, event.event_id, event.peer_id, event.cmid, event.state) == ("message_new", "e1", 5, 1, EventState.NEW)
    assert event.raw == {name: value for name, value in update().items() if name != "secret"}


def test_a_repeat_is_ok_and_stored_once(vk: FlaskClient, engine: Engine) -> None:
    for retry in range(3):
        assert call(vk, update(), **{"X-Retry-Counter": str(retry)}).text == "ok"
    # the same message may have come by the long poll too, under another number
    assert call(vk, update(event_id="from the long poll")).text == "ok"
    assert len(stored(engine)) == 1


def test_what_cannot_be_read_is_set_aside(vk: FlaskClient, engine: Engine) -> None:
    for told in (update(object={"message": "none"}), update(2, object=None), update(3, type=5)):
        assert call(vk, told).text == "ok"
    assert [(event.state, bool(event.error)) for event in stored(engine)] == [(EventState.FAILED, True)] * 3
    assert SECRET not in str([event.raw for event in stored(engine)])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"secret": "wrong"}, 403),
        ({"secret": ""}, 403),
        ({"secret": None}, 403),
        ({"secret": SECRET + "x"}, 403),
        ({"secret": "\ud800"}, 403),
        ({"group_id": 8}, 403),
        ({"group_id": None}, 403),
        ({"type": "confirmation", "group_id": 8, "secret": "wrong"}, 403),
    ],
)
def test_others_are_refused(vk: FlaskClient, engine: Engine, changes: dict[str, Any], status: int) -> None:
    response = call(vk, update(**changes))
    assert response.status_code == status
    assert "ok" not in response.text
    assert not any(word in response.text for word in (SECRET, CONFIRMATION))
    assert stored(engine) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b"a=b", pytest.param(b"[" * 50_000, id="deep")])
def test_what_is_no_event_is_refused(vk: FlaskClient, engine: Engine, body: bytes) -> None:
    assert vk.post("/vk/callback", data=body).status_code == 400
    assert stored(engine) == []


def test_a_long_message_is_taken_and_a_flood_is_not(vk: FlaskClient, engine: Engine) -> None:
    message = update()["object"]["message"] | {"text": "я" * 300_000}  # 1.8 MB as VK writes it
    assert call(vk, update(object={"message": message})).text == "ok"
    assert call(vk, update(2, object={"x": "x" * 5_000_000})).status_code == 413
    assert len(stored(engine)) == 1


def test_of_strangers_nothing_long_is_read(vk: FlaskClient, engine: Engine) -> None:
    for body in (b'{"object": [' + b"[]," * 500_000, b"[" * 500_000, b'{"secret": "wrong"' + b" " * 500_000 + b"}"):
        assert vk.post("/vk/callback", data=body).status_code == 400
    assert stored(engine) == []


def test_vk_is_to_call_again_while_the_database_is_away(vk: FlaskClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE event RENAME TO gone"))
    response = call(vk, update())
    assert (response.status_code, response.mimetype) == (503, "text/plain")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO event"))
    assert call(vk, update()).text == "ok"
    assert len(stored(engine)) == 1


def test_without_the_setting_there_is_no_such_address(settings: Settings) -> None:
    app = create_app(settings)
    assert call(app.test_client(), update()).status_code == 404
    app.extensions["engine"].dispose()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vk_callback_secret": None}, "secret vk_callback_secret"),
        ({"vk_callback_confirmation": None}, "VK_CALLBACK_CONFIRMATION"),
    ],
)
def test_half_a_configuration_is_refused_at_the_start(tmp_path: Any, change: dict[str, Any], words: str) -> None:
    settings = callback(make_settings(data_dir=tmp_path)).model_copy(update=change)
    with pytest.raises(SettingsError, match=words):
        create_app(settings)
