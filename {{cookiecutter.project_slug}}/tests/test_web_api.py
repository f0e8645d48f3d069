"""The JSON API as programs use it: whose token, what it may do, what is answered to a repeat and to a mistake."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.settings import Settings, SettingsError
from app.storage import desk, seed, tokens
from app.storage.migrate import hasher
from app.storage.models import (
    ApiReply,
    ApiToken,
    Audit,
    Conversation,
    Delivery,
    DeliveryState,
    Event,
    EventState,
    Message,
    Operator,
    Role,
    now,
)
from app.web import create_app
from app.web.api.describe import document
from tests.test_web import PASSWORD, post, signed_in

Call = Callable[..., TestResponse]
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Iterator[Flask]:
    seed.fill(engine, settings, 60, now())
    app = create_app(settings.model_copy(update={"app_language": "en"}))
    yield app
    app.extensions["engine"].dispose()


def token(engine: Engine, *scopes: tokens.Scope, operator: int = 1) -> dict[str, str]:
    with Session(engine) as session, session.begin():
        _token, secret = tokens.create(session, operator, "test", scopes or list(tokens.Scope))
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def call(app: Flask, engine: Engine) -> Call:
    client, who = app.test_client(), token(engine)

    def call(method: str, path: str, **more: Any) -> TestResponse:
        more["headers"] = who | more.get("headers", {})
        return client.open(f"/api/v1{path}", method=method, **more)

    return call


def refused(response: TestResponse, status: int, words: str = "") -> None:
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert response.json is not None
    assert response.json["status"] == status
    assert words in response.json["detail"]


def test_the_list_is_read_page_by_page_and_is_the_pages(call: Call, engine: Engine) -> None:
    first = call("GET", "/conversations").json
    second = call("GET", f"/conversations?before={first['next']}").json
    with Session(engine) as session:
        newest = select(Conversation.id).order_by(Conversation.last_message_at.desc(), Conversation.id.desc())
        assert [item["id"] for item in first["items"] + second["items"]] == session.scalars(newest).all()
    assert second["next"] is None
    assert {item["status"] for item in call("GET", "/conversations?view=closed").json["items"]} == {"closed"}
    assert call("GET", "/conversations?q=ab").json == {"items": [], "next": None}


def test_what_is_known_already_is_not_sent_again(call: Call, engine: Engine) -> None:
    for path in ("/conversations", "/conversations/1", "/conversations/1/messages", "/people", "/me"):
        known = call("GET", path).headers["ETag"]
        again = call("GET", path, headers={"If-None-Match": known})
        assert (again.status_code, again.data) == (304, b"")
    known = call("GET", "/conversations").headers["ETag"]
    with Session(engine) as session, session.begin():
        desk.receive(session, session.get_one(Conversation, 1), "news")
    assert call("GET", "/conversations", headers={"If-None-Match": known}).status_code == 200


def test_an_answer_goes_out_once_whatever_is_repeated(call: Call, engine: Engine) -> None:
    post = {"json": {"text": " Да "}, "headers": {"Idempotency-Key": "one"}}
    first, again = call("POST", "/conversations/1/messages", **post), call("POST", "/conversations/1/messages", **post)
    assert first.status_code == again.status_code == 201
    assert first.json == again.json
    assert (first.json["text"], first.json["state"], first.json["operator"]) == ("Да", "waiting", "Admin")
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Message).where(Message.text == "Да")) == 1
        assert session.scalar(select(Delivery.state).where(Delivery.message_id == first.json["id"])) == DeliveryState.PENDING
        assert session.scalar(select(Audit.operator_id).where(Audit.action == "conversation.answer")) == 1
        assert session.get_one(Conversation, 1).assignee_id == 1
    other = {"json": {"text": "Нет"}, "headers": {"Idempotency-Key": "one"}}
    refused(call("POST", "/conversations/1/messages", **other), 422, "another request")
    refused(call("POST", "/conversations/999999/messages", **(other | {"headers": {"Idempotency-Key": "two"}})), 404)
    with Session(engine) as session, session.begin():
        assert session.scalars(select(ApiReply.status)).all() == [201]
        session.execute(update(ApiReply).values(created_at=now() - timedelta(days=2)))
    assert call("POST", "/conversations/1/messages", **other).status_code == 201
    assert call("POST", "/conversations/1/messages", json={"text": "Да"}).json["id"] > first.json["id"]


@on_sqlite
def test_a_conversation_is_assigned_named_noted_and_closed(call: Call, engine: Engine) -> None:
    changed = call("PATCH", "/conversations/2", json={"assignee_id": 2, "topic": "  Новая  тема "}).json
    assert (changed["assignee_id"], changed["topic"], changed["status"]) == (2, "Новая тема", "open")
    assert call("PATCH", "/conversations/2", json={"topic": None}).json["topic"] is None
    assert call("PATCH", "/conversations/2", json={"assignee_id": None}).json["assignee_id"] is None
    refused(call("PATCH", "/conversations/2", json={"assignee_id": 999}), 409, "999")
    note = call("POST", "/conversations/2/notes", json={"text": "между нами"})
    assert note.status_code == 201
    assert call("GET", "/conversations/2/notes").json["items"] == [note.json]
    assert call("PATCH", "/conversations/2", json={"status": "closed"}).json["status"] == "closed"
    with engine.begin() as connection:
        connection.execute(update(Conversation).where(Conversation.id == 2).values(unread=3))
    assert call("POST", "/conversations/2/read", json={"unread": 2}).json["unread"] == 3
    assert call("POST", "/conversations/2/read", json={"unread": 3}).json["unread"] == 0


@on_sqlite
def test_messages_are_read_backwards_and_as_they_come(call: Call, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(Message(conversation_id=3, direction="in", author="person", text=f"no{n}") for n in range(120))
    with Session(engine) as session:
        all_of_them = session.scalars(select(Message.id).where(Message.conversation_id == 3).order_by(Message.id)).all()
    seen: list[int] = []
    page = call("GET", "/conversations/3/messages").json
    while True:
        seen = [item["id"] for item in page["items"]] + seen
        if page["next"] is None:
            break
        page = call("GET", f"/conversations/3/messages?before={page['next']}").json
    assert seen == all_of_them
    page = call("GET", f"/conversations/3/messages?after={all_of_them[4]}").json
    assert [item["id"] for item in page["items"]] == all_of_them[5:55]
    assert page["next"] == str(all_of_them[54])


@on_sqlite
def test_what_vk_refused_is_sent_again(call: Call, engine: Engine) -> None:
    sent = call("POST", "/conversations/1/messages", json={"text": "Да"}).json["id"]
    with engine.begin() as connection:
        failed = {"state": DeliveryState.FAILED, "error_code": 901}
        connection.execute(update(Delivery).where(Delivery.message_id == sent).values(**failed))
    line = call("GET", "/conversations/1/messages").json["items"][-1]
    assert (line["state"], line["reason"]) == ("failed", "the person does not allow the community to write")
    assert call("POST", f"/conversations/1/messages/{sent}/again", json={}).json["state"] == "waiting"
    refused(call("POST", f"/conversations/2/messages/{sent}/again", json={}), 404)


@on_sqlite
def test_the_rest_of_the_desk(call: Call, engine: Engine) -> None:
    added = call("POST", "/canned-answers", json={"shortcut": "часы", "text": "С 10 до 19"})
    assert added.status_code == 201
    refused(call("POST", "/canned-answers", json={"shortcut": "часы", "text": "x"}), 409)
    one = f"/canned-answers/{added.json['id']}"
    assert call("PUT", one, json={"shortcut": "часы", "text": "С 9 до 18"}).json["text"] == "С 9 до 18"
    assert [item["text"] for item in call("GET", "/canned-answers").json["items"]] == ["С 9 до 18"]
    assert call("DELETE", one).status_code == 200
    refused(call("DELETE", one), 404)
    with Session(engine) as session, session.begin():
        session.add_all(Event(type="message_new", raw={"a": 1}, state=EventState.FAILED, error="why") for _ in range(2))
    first, second = call("GET", "/events").json["items"]
    assert (first["error"], first["raw"]) == ("why", {"a": 1})
    assert call("POST", f"/events/{first['id']}/dismiss").json == {"id": first["id"]}
    call("POST", f"/events/{second['id']}/again")
    refused(call("POST", f"/events/{first['id']}/dismiss"), 404)
    person = call("GET", "/people").json["items"][0]
    assert call("GET", f"/people/{person['id']}").json == person
    assert person in call("GET", "/people", query_string={"q": person["name"].split()[1].lower()}).json["items"]
    assert call("GET", "/operators/1").json in call("GET", "/operators").json["items"]
    assert {"id": 1, "name": "Admin"} in call("GET", "/colleagues").json["items"]
    assert call("GET", "/audit").json["items"][0]["action"] == "event.again"
    assert call("GET", "/health").json["lights"][0]["name"] == "Receiving messages"
    assert call("GET", "/me").json["scopes"] == ["read", "answer", "manage"]


@on_sqlite
def test_operators_are_added_changed_and_let_go(call: Call, app: Flask, engine: Engine) -> None:
    new = {"login": "ivan", "name": "Иван", "role": "manager", "vk_id": 5}
    added = call("POST", "/operators", json=new)
    assert added.status_code == 201
    assert app.test_client().get(added.json["address"]).status_code == 200
    refused(call("POST", "/operators", json=new), 409)
    refused(call("POST", "/operators", json={"login": "a b", "name": "x"}), 422, "login")
    one = f"/operators/{added.json['id']}"
    assert call("PATCH", one, json={"role": "operator", "vk_id": None}).json["role"] == "operator"
    assert (call("GET", one).json["name"], call("GET", one).json["vk_id"]) == ("Иван", None)
    call("PATCH", "/conversations/1", json={"assignee_id": added.json["id"]})
    assert call("PATCH", one, json={"active": False}).json["active"] is False
    assert call("GET", "/conversations/1").json["assignee_id"] is None
    refused(call("POST", f"{one}/invitation"), 400)
    assert call("PATCH", one, json={"active": True}).json["active"] is True
    assert call("POST", f"{one}/invitation").json["address"] != added.json["address"]
    assert app.test_client().get(added.json["address"]).status_code == 410
    for change in ({"role": "operator"}, {"active": False}):
        refused(call("PATCH", "/operators/1", json=change), 409, "last admin")
    refused(call("PATCH", "/operators/999999", json={}), 404)


@on_sqlite
def test_a_token_does_no_more_than_its_scopes_and_its_operators_role(app: Flask, engine: Engine) -> None:
    client = app.test_client()
    with Session(engine) as session, session.begin():
        session.get_one(Operator, 2).role = Role.OPERATOR
    reading, any_operator = token(engine, tokens.Scope.READ), token(engine, operator=2)
    assert client.get("/api/v1/conversations", headers=reading).status_code == 200
    refused(client.post("/api/v1/conversations/1/messages", headers=reading, json={"text": "x"}), 403, "scope answer")
    for path in ("/api/v1/operators", "/api/v1/audit"):
        refused(client.get(path, headers=any_operator), 403, "role operator")
    refused(client.post("/api/v1/canned-answers", headers=any_operator, json={"shortcut": "x", "text": "x"}), 403)


@on_sqlite
def test_without_a_valid_token_nothing_is_answered(app: Flask, engine: Engine) -> None:
    client, valid = app.test_client(), token(engine)
    with client.session_transaction() as cookie:
        cookie["_user_id"], cookie["_fresh"] = "1.1", True
    assert client.get("/").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": valid["Authorization"].replace("Bearer", "Basic")}):
        response = client.get("/api/v1/me", headers=headers)
        refused(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/api/v1/me", headers=valid).status_code == 200
    with Session(engine) as session, session.begin():
        row = session.scalars(select(ApiToken)).one()
        assert row.used_at is not None
        assert row.digest not in valid["Authorization"]
        row.revoked_at = now()
    refused(client.get("/api/v1/me", headers=valid), 401)
    inactive = token(engine, operator=3)
    with engine.begin() as connection:
        connection.execute(update(Operator).where(Operator.id == 3).values(active=False))
    refused(client.get("/api/v1/me", headers=inactive), 401)


@on_sqlite
def test_every_mistake_is_a_problem_in_json(call: Call, app: Flask, engine: Engine) -> None:
    refused(call("GET", "/nowhere"), 404)
    refused(call("DELETE", "/me"), 405)
    refused(call("GET", "/conversations?view=none"), 422, "view")
    refused(call("GET", "/conversations?what=1"), 422, "what")
    refused(call("POST", "/conversations/1/messages", data="{}"), 415, "application/json")
    refused(call("POST", "/conversations/1/messages", data="{", content_type="application/json"), 400)
    refused(call("POST", "/conversations/1/messages", json={"text": " "}), 422, "text")
    refused(call("POST", "/conversations/1/messages", json={"text": "x" * 600_000}), 413)
    refused(call("POST", "/conversations/1/messages", json={"text": "x"}, headers={"Idempotency-Key": "x" * 201}), 400)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE message RENAME TO gone")
    refused(call("GET", "/conversations/1/messages"), 500)


@on_sqlite
def test_a_line_end_is_no_part_of_a_word(call: Call) -> None:
    refused(call("get", "/conversations?view=new%0A"), 422)
    refused(call("patch", "/conversations/1", json={"status": "closed\n"}), 422)
    refused(call("post", "/operators", json={"login": "olga\n", "name": "Olga"}), 422)
    refused(call("post", "/canned-answers", json={"shortcut": "hello\n", "text": "Hello"}), 422)


@on_sqlite
def test_a_token_is_made_by_command(settings: Settings, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    tokens.main(settings, "admin", "script", ["read"])
    secret = capsys.readouterr().out.strip()
    with Session(engine) as session:
        row = session.scalars(select(ApiToken)).one()
        assert (row.name, row.scopes, row.digest) == ("script", "read", tokens.digest(secret))
        told = session.scalars(select(Audit).where(Audit.action == "token.add")).one()
        assert (told.target, told.details["login"]) == (f"token {row.id}", "admin")
    for login, scopes in (("nobody", ["read"]), ("admin", ["everything"])):
        with pytest.raises(SettingsError):
            tokens.main(settings, login, "script", scopes)


@on_sqlite
def test_a_token_is_made_on_a_page_shown_once_and_revoked(app: Flask, engine: Engine) -> None:
    browser = signed_in(app)
    assert post(browser, "/tokens", name="script").status_code == 400
    assert post(browser, "/tokens", name="", scope="read").status_code == 400
    made = post(browser, "/tokens", name="<script>", scope=["read", "answer"])
    secret = re.search(r'id="token">(desk_[\w-]+)<', made.text)
    assert secret
    assert made.status_code == 201
    assert "&lt;script&gt;" in made.text
    page = browser.get("/tokens").text
    assert secret[1] not in page
    assert ("read, answer" in page, "never" in page) == (True, True)
    headers = {"Authorization": f"Bearer {secret[1]}"}
    assert app.test_client().get("/api/v1/me", headers=headers).json["scopes"] == ["read", "answer"]
    number = re.search(r'data-token="(\d+)"', page)
    assert number
    with Session(engine) as session, session.begin():
        session.get_one(Operator, 2).password_hash = hasher.hash(PASSWORD)
    other = signed_in(app, "maria")
    assert post(other, f"/tokens/{number[1]}/revoke").status_code == 404
    assert post(browser, f"/tokens/{number[1]}/revoke").status_code == 303
    assert 'data-token="' not in browser.get("/tokens").text
    assert app.test_client().get("/api/v1/me", headers=headers).status_code == 401
    with Session(engine) as session:
        trail = session.scalars(select(Audit.action).where(Audit.action.startswith("token."))).all()
        assert trail == ["token.add", "token.revoke"]


@on_sqlite
def test_the_description_is_a_page_too(app: Flask) -> None:
    page = signed_in(app).get("/tokens/api").text
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}</code> " in page, operation["operationId"]
    for link in set(re.findall(r'href="#(\w+)"', page)):
        assert f'id="{link}"' in page, link


def test_the_document_names_every_operation_once() -> None:
    operations = [operation for path in document()["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) > 20
    assert document()["openapi"] == "3.1.0"
    assert all(operation["summary"] for operation in operations)
