"""Signing in by VK ID, against a server that checks what VK ID checks."""

import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, jsonify, request
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from app.settings import Settings
from app.storage.models import Audit, Operator
from app.web import create_app
from tests.conftest import on_sqlite

pytestmark = on_sqlite


@dataclass
class VkId:
    """VK ID: who asked, with which challenge, and who comes. `broken` is what it answers instead of a token."""

    user_id: Any = 77
    broken: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    url: str = ""

    def authorize(self, address: str) -> dict[str, str]:
        """What the person agrees to on VK ID's page: what is sent back with them."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == "12345"
        assert asked["redirect_uri"] == "http://localhost/login/vk/back"
        assert asked["code_challenge_method"] == "S256"
        code = f"code{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "device_id": f"device-{code}", "type": "code_v2"}

    def token(self) -> Any:
        if self.broken:
            return self.broken, 200
        form = request.form
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        right = asked is not None and asked["code_challenge"] == challenge and form["device_id"] == f"device-{form['code']}"
        if not right or form["redirect_uri"] != "http://localhost/login/vk/back" or form["client_id"] != "12345":
            return jsonify(error="invalid_grant", error_description="code is invalid or expired"), 400
        return jsonify(
            access_token="vk2.a.x", token_type="Bearer", expires_in=3600, user_id=self.user_id, state=form.get("state")
        )


@pytest.fixture
def vk_id() -> Iterator[VkId]:
    vk_id, site = VkId(), Flask("vk_id")
    site.add_url_rule("/oauth2/auth", view_func=vk_id.token, methods=["POST"])
    server = make_server("127.0.0.1", 0, site, threaded=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    vk_id.url = f"http://127.0.0.1:{server.server_port}"
    yield vk_id
    server.shutdown()
    server.server_close()


@pytest.fixture
def app(settings: Settings, vk_id: VkId, engine: Engine) -> Iterator[Flask]:
    with engine.begin() as connection:
        connection.execute(update(Operator).values(vk_id=77))
    changes = {"app_language": "en", "vk_id_client_id": "12345", "vk_id_url": vk_id.url}
    app = create_app(settings.model_copy(update=changes))
    yield app
    app.extensions["engine"].dispose()


def leave(client: FlaskClient, vk_id: VkId, page: str = "") -> dict[str, str]:
    response = client.get(f"/login/vk{page}")
    assert response.status_code == 302
    assert response.location.startswith(f"{vk_id.url}/authorize?")
    return vk_id.authorize(response.location)


def back(client: FlaskClient, given: dict[str, str]) -> TestResponse:
    return client.get("/login/vk/back", query_string=given)


def test_whose_vk_id_an_operator_has_gets_in(app: Flask, vk_id: VkId, engine: Engine) -> None:
    client = app.test_client()
    assert 'href="/login/vk?next=%2Fevents"' in client.get("/login?next=/events").text
    response = back(client, leave(client, vk_id, "?next=/events"))
    assert (response.status_code, response.location) == (303, "/events")
    assert client.get("/events").status_code == 200
    with Session(engine) as session:
        told = session.scalars(select(Audit)).one()
        assert (told.action, told.operator_id, told.details) == ("session.begin", 1, {"vk_id": 77})


def test_it_never_leads_out_of_the_site(app: Flask, vk_id: VkId) -> None:
    client = app.test_client()
    assert back(client, leave(client, vk_id, "?next=//evil.example")).location == "/"


@pytest.mark.parametrize("change", [{"vk_id": 78}, {"vk_id": None}, {"active": False}])
def test_nobody_else_gets_in(app: Flask, vk_id: VkId, engine: Engine, change: dict[str, Any]) -> None:
    with engine.begin() as connection:
        connection.execute(update(Operator).values(**change))
    client = app.test_client()
    refused = back(client, leave(client, vk_id))
    assert (refused.status_code, "No operator has the VK id 77" in refused.text) == (401, True)
    assert client.get("/").status_code == 302


def test_a_sign_in_that_was_begun_elsewhere_is_refused(app: Flask, vk_id: VkId) -> None:
    """An attacker who sends somebody the way back of their own sign-in."""
    attacker, victim = app.test_client(), app.test_client()
    stolen = leave(attacker, vk_id)
    assert back(victim, stolen).status_code == 401
    own = leave(victim, vk_id)
    assert back(victim, own | {"code": stolen["code"], "device_id": stolen["device_id"]}).status_code == 401  # PKCE
    assert back(victim, own).status_code == 401  # each is tried once
    assert victim.get("/").status_code == 302


def test_a_way_back_works_once(app: Flask, vk_id: VkId) -> None:
    client = app.test_client()
    given = leave(client, vk_id)
    assert back(client, given).status_code == 303
    client.delete_cookie("desk_session")
    assert back(client, given).status_code == 401


@pytest.mark.parametrize("broken", ["", "<html>", "[]", '{"error": "slow_down"}', '{"access_token": "x"}', '{"user_id": "x"}'])
def test_when_vk_id_says_something_else_nobody_gets_in(app: Flask, vk_id: VkId, broken: str) -> None:
    client = app.test_client()
    given = leave(client, vk_id)
    vk_id.broken = broken or "null"
    refused = back(client, given)
    assert (refused.status_code, "did not say who you are" in refused.text) == (401, True)
    assert "use your password" in refused.text


def test_when_vk_id_cannot_be_reached_the_password_is_left(app: Flask, vk_id: VkId, settings: Settings) -> None:
    changes = {"app_language": "en", "vk_id_client_id": "1", "vk_id_url": "http://127.0.0.1:1"}
    app = create_app(settings.model_copy(update=changes))
    client = app.test_client()
    state = parse_qs(urlsplit(client.get("/login/vk").location).query)["state"][0]
    assert "did not say who you are" in back(client, {"state": state, "code": "x", "device_id": "x"}).text
    app.extensions["engine"].dispose()


def test_without_its_settings_it_is_not_there(settings: Settings) -> None:
    app = create_app(settings)
    client = app.test_client()
    assert "/login/vk" not in client.get("/login").text
    assert client.get("/login/vk").status_code == 404
    app.extensions["engine"].dispose()
