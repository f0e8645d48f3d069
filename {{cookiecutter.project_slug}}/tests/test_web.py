"""The inbox over HTTP, on both databases: what operators do, and what attackers try."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, event, func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.settings import Settings
from app.storage import desk, roles
from app.storage.migrate import hasher, migrate
from app.storage.models import (
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Message,
    Operator,
    Person,
    now,
)
from app.web import create_app, times
from app.web.__main__ import cpus
from tests.conftest import make_settings

WEB = Path(__file__).parent.parent / "app/web"
PASSWORD = make_settings().secret("operator_password")


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings.model_copy(update={"app_language": "en", "app_time_zone": "Europe/Moscow"}))
    yield app
    app.extensions["engine"].dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return signed_in(app)


def signed_in(app: Flask, login: str = "admin") -> FlaskClient:
    client = app.test_client()
    assert sign_in(client, login).location == "/"
    return client


def sign_in(client: FlaskClient, login: str = "admin", password: str = PASSWORD, address: str = "/login") -> TestResponse:
    return client.post(address, data={"login": login, "password": password, "csrf_token": token(client, "/login")})


def token(client: FlaskClient, address: str = "/") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(address).text)
    assert found
    return found[1]


def post(client: FlaskClient, address: str, **data: Any) -> TestResponse:
    return client.post(address, data={"csrf_token": token(client)} | data)


def etag(page: str, part: str) -> str:
    """The print that this part of the page sends back to ask for news."""
    found = re.search(rf'id="{part}"[^>]*If-None-Match": "\\"(\w+)\\""', page)
    assert found
    return f'"{found[1]}"'


def add_operator(engine: Engine, login: str) -> int:
    with Session(engine) as session, session.begin():
        row = Operator(login=login, name=login.capitalize(), password_hash=hasher.hash(PASSWORD))
        session.add(row)
        session.flush()
        return row.id


def add_conversation(engine: Engine, text: str = "Привет", *, first_name: str = "Анна", **values: Any) -> int:
    with Session(engine) as session, session.begin():
        peer = 1 + (session.scalar(select(func.max(Conversation.peer_id))) or 0)
        row = Conversation(peer_id=peer, person=Person(vk_id=peer, first_name=first_name))
        session.add(row)
        session.flush()
        desk.receive(session, row, text)
        for name, value in ({"status": ConversationStatus.OPEN} | values).items():
            setattr(row, name, value)
        session.flush()
        return row.id


def read(engine: Engine, conversation_id: int) -> Conversation:
    with Session(engine, expire_on_commit=False) as session:
        return session.get_one(Conversation, conversation_id)


def shown(response: TestResponse) -> list[int]:
    assert response.status_code == 200
    return [int(found) for found in re.findall(r'data-conversation="(\d+)"', response.text)]


# signing in


def test_a_wrong_login_and_a_wrong_password_look_the_same(app: Flask) -> None:
    pages = []
    for login, password in [("admin", "wrong"), ("nobody", "wrong")]:
        response = sign_in(app.test_client(), login, password)
        assert response.status_code == 401
        pages.append(re.sub(r"value=\"[^\"]*\"|nonce=\"[^\"]*\"", "", response.text))
    assert pages[0] == pages[1]
    assert "Wrong login or password" in pages[0]


def test_a_nul_in_the_login_is_only_wrong(app: Flask) -> None:
    assert sign_in(app.test_client(), "admin\0' OR 1=1 --").status_code == 401


def test_signing_in_leads_to_the_page_asked_for(app: Flask) -> None:
    client = app.test_client()
    asked = client.get("/?view=all")
    assert asked.status_code == 302
    assert sign_in(client, address=asked.location).location == "/?view=all"
    assert client.get("/login").location == "/"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "x",
    ],
)
def test_signing_in_never_leads_out_of_the_site(app: Flask, address: str) -> None:
    client = app.test_client()
    with app.test_request_context(query_string={"next": address}) as context:
        login = f"/login?{context.request.query_string.decode()}"
    assert sign_in(client, address=login).location == "/"
    assert client.get(login).location == "/"


def test_the_session_cookie_is_for_this_site_and_no_script(app: Flask) -> None:
    cookies = [
        app.test_client().get("/login", base_url=base).headers["Set-Cookie"] for base in ("http://localhost", "https://localhost")
    ]
    assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie for cookie in cookies)
    assert ["Secure" in cookie for cookie in cookies] == [False, True]


def test_signing_in_forgets_what_the_browser_held(app: Flask) -> None:
    client = app.test_client()
    with client.session_transaction() as session:
        session["planted"] = "by somebody else"
    sign_in(client)
    with client.session_transaction() as session:
        assert "planted" not in session


@pytest.mark.parametrize("change", [{"session_version": 2}, {"active": False}])
def test_a_session_ends_when_the_operator_may_not_go_on(client: FlaskClient, engine: Engine, change: dict[str, Any]) -> None:
    assert client.get("/").status_code == 200
    with engine.begin() as connection:
        connection.execute(update(Operator).values(**change))
    assert client.get("/").status_code == 302


def test_signing_out(client: FlaskClient) -> None:
    assert post(client, "/logout").location == "/login"
    assert client.get("/").status_code == 302


def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(app: Flask) -> None:
    def sent_to(current: str) -> str:
        headers = {"HX-Request": "true", "HX-Current-URL": current}
        response = app.test_client().get("/inbox", headers=headers)
        assert response.status_code == 401
        return response.headers["HX-Redirect"]

    assert sent_to("http://localhost/conversations/7?view=all") == "/login?next=%2Fconversations%2F7%3Fview%3Dall"
    assert sent_to("http://localhost//evil.example") == "/login"


# forms


def test_every_form_needs_its_token(client: FlaskClient, app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if rule.methods and "POST" in rule.methods and not rule.endpoint.startswith("api."):  # it has no forms
            response = client.post(re.sub("<.*?>", "1", rule.rule), data={"text": "<typed> & kept"})
            assert response.status_code == 400, rule
            assert "out of date" in response.text
            assert "&lt;typed&gt; &amp; kept" in response.text


def test_a_text_typed_in_an_ended_session_is_shown_again(client: FlaskClient, engine: Engine) -> None:
    kept = token(client)
    with engine.begin() as connection:
        connection.execute(update(Operator).values(session_version=2))
    response = client.post("/conversations/1/answers", data={"csrf_token": kept, "text": "typed for long"})
    assert response.status_code == 401
    assert "typed for long" in response.text


# the list


def test_the_views_divide_the_conversations(client: FlaskClient, engine: Engine) -> None:
    other = add_operator(engine, "maria")
    new, bot = add_conversation(engine), add_conversation(engine, status=ConversationStatus.BOT)
    mine, hers = add_conversation(engine, assignee_id=1), add_conversation(engine, assignee_id=other)
    closed = add_conversation(engine, status=ConversationStatus.CLOSED)
    assert shown(client.get("/")) == [new]
    assert shown(client.get("/?view=mine")) == [mine]
    assert shown(client.get("/?view=all")) == [closed, hers, mine, bot, new]
    assert shown(client.get("/?view=closed")) == [closed]


def test_an_empty_list_says_what_to_do(client: FlaskClient, engine: Engine) -> None:
    assert "Nobody has written yet" in client.get("/").text
    add_conversation(engine, status=ConversationStatus.BOT)
    assert "Nobody is waiting" in client.get("/").text


def test_pages_of_the_list_lose_and_repeat_nothing(client: FlaskClient, engine: Engine) -> None:
    at = now()
    with Session(engine) as session, session.begin():
        # many of one moment, so that only the number can tell them apart
        session.add_all(Conversation(peer_id=n, last_message_at=at - timedelta(minutes=n // 40)) for n in range(1, 121))
    address, seen = "/?view=all", []
    while True:
        page = client.get(address)
        seen.append(shown(page))
        older = re.search(r'href="([^"]+)">Older', page.text)
        if not older:
            break
        address = older[1].replace("&amp;", "&")
    assert [len(rows) for rows in seen] == [50, 50, 20]
    assert len({row for rows in seen for row in rows}) == 120


@pytest.mark.parametrize(
    "query", ["view=%27%3B--", "view=%25", "before=1", "before=1-1%27", "before=%D9%A1-1", "before=9-" + "9" * 19]
)
def test_a_list_that_does_not_exist_is_not_found(client: FlaskClient, query: str) -> None:
    assert client.get(f"/?{query}").status_code == 404


@pytest.mark.parametrize("number", ["9" * 19, "9" * 40, "0", "-1", "1'"])
def test_a_conversation_that_does_not_exist_is_not_found(client: FlaskClient, number: str) -> None:
    assert client.get(f"/conversations/{number}").status_code == 404
    assert post(client, f"/conversations/{number}/take").status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_rows(client: FlaskClient, engine: Engine, app: Flask) -> None:
    statements: list[str] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append(args[2]))
    counts = []
    for rows in (2, 30):
        for _ in range(rows):
            number = add_conversation(engine, assignee_id=1)
            with Session(engine) as session, session.begin():
                for text in "один", "два":
                    desk.answer(session, session.get_one(Conversation, number), text, operator=session.get_one(Operator, 1))
        statements.clear()
        assert client.get(f"/conversations/{number}?view=mine").status_code == 200
        counts.append(sum(statement.startswith("SELECT") for statement in statements))
    assert counts == [14, 14]


def test_the_list_says_304_until_something_in_it_changes(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    known = etag(client.get("/").text, "inbox")

    def news() -> int:
        return client.get("/inbox?view=new", headers={"If-None-Match": known}).status_code

    assert news() == 304
    for change in ({"unread": 7}, {"last_message_text": "x"}, {"status": ConversationStatus.CLOSED}):
        before = read(engine, number)
        with engine.begin() as connection:
            connection.execute(update(Conversation).values(**change))
        assert news() == 200, change
        with engine.begin() as connection:
            connection.execute(update(Conversation).values({name: getattr(before, name) for name in change}))
        assert news() == 304
    add_conversation(engine)
    assert news() == 200


# a conversation


def test_an_answer_is_stored_sent_and_takes_the_conversation(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, status=ConversationStatus.BOT, step="ask")
    response = post(client, f"/conversations/{number}/answers?view=all", text=" Здравствуйте!\r\nЗавтра.\0 ", key="k")
    assert (response.status_code, response.location) == (303, f"/conversations/{number}?view=all")
    row = read(engine, number)
    assert (row.status, row.assignee_id, row.unread, row.step) == (ConversationStatus.OPEN, 1, 0, None)
    with Session(engine) as session:
        delivery = session.scalars(select(Delivery)).one()
        assert (delivery.text, delivery.peer_id, delivery.state) == ("Здравствуйте!\nЗавтра.", row.peer_id, DeliveryState.PENDING)
        assert delivery.message is not None
        assert delivery.message.operator_id == 1


def test_an_answer_does_not_take_a_colleagues_conversation(client: FlaskClient, engine: Engine) -> None:
    maria = add_operator(engine, "maria")
    number = add_conversation(engine, assignee_id=maria)
    post(client, f"/conversations/{number}/answers", text="За неё", key="k")
    assert read(engine, number).assignee_id == maria


def test_a_form_posted_twice_sends_once_and_another_text_sends_again(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    for text in ("один", "один", "два"):
        assert post(client, f"/conversations/{number}/answers", text=text, key="k").status_code == 303
    with Session(engine) as session:
        assert session.scalars(select(Delivery.text).order_by(Delivery.id)).all() == ["один", "два"]


def test_a_form_posted_at_the_same_moment_sends_once(app: Flask, client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    data = {"csrf_token": token(client), "text": "раз", "key": "k"}
    cookie = client.get_cookie("desk_session")
    assert cookie is not None
    statuses = []

    def work() -> None:
        other = app.test_client()
        other.set_cookie("desk_session", cookie.value)
        statuses.append(other.post(f"/conversations/{number}/answers", data=data).status_code)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert statuses == [303] * 8
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == 1


@pytest.mark.parametrize("text", ["", " \r\n ", "x" * 20_001])
def test_an_answer_that_cannot_be_sent_says_why(client: FlaskClient, engine: Engine, text: str) -> None:
    number = add_conversation(engine)
    response = post(client, f"/conversations/{number}/answers", text=text, key="k")
    assert response.status_code == 400
    assert re.search("The (answer|text) is", response.text)
    with Session(engine) as session:
        assert session.scalar(select(Delivery.id)) is None


def test_a_long_answer_arrives_whole(client: FlaskClient, engine: Engine) -> None:
    number, text = add_conversation(engine), "😀" * 20_000
    assert post(client, f"/conversations/{number}/answers", text=text, key="k").status_code == 303
    with Session(engine) as session:
        assert "".join(session.scalars(select(Delivery.text).order_by(Delivery.id))) == text


def test_taking_closing_and_opening_again(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, status=ConversationStatus.BOT)
    page = client.get(f"/conversations/{number}").text
    assert "Assign to me" in page
    post(client, f"/conversations/{number}/take")
    assert (read(engine, number).status, read(engine, number).assignee_id) == (ConversationStatus.OPEN, 1)
    assert "Assign to me" not in client.get(f"/conversations/{number}").text
    post(client, f"/conversations/{number}/close")
    closed = read(engine, number)
    assert (closed.status, closed.assignee_id) == (ConversationStatus.CLOSED, None)
    post(client, f"/conversations/{number}/close")
    assert read(engine, number).closed_at == closed.closed_at
    assert "Reopen" in client.get(f"/conversations/{number}").text
    post(client, f"/conversations/{number}/take")
    assert read(engine, number).status == ConversationStatus.OPEN


def test_only_what_the_page_showed_is_marked_as_read(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    assert 'name="seen" value="1"' in client.get(f"/conversations/{number}").text
    assert read(engine, number).unread == 1  # to look is not yet to read: the page tells when it is before the eyes
    with Session(engine) as session, session.begin():
        desk.receive(session, session.get_one(Conversation, number), "ещё")
    for seen, left in [("1", 2), ("2'", 2), ("2", 0)]:
        post(client, f"/conversations/{number}/read", seen=seen)
        assert read(engine, number).unread == left


def test_the_thread_shows_how_far_each_answer_has_got(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    with Session(engine) as session, session.begin():
        desk.answer(session, session.get_one(Conversation, number), "слово " * 1000)
    page = client.get(f"/conversations/{number}").text
    known, first = etag(page, "latest"), re.search(r"since=(\d+)", page)
    assert "waiting to be sent" in page
    assert first

    def news(known: str) -> TestResponse:
        return client.get(f"/conversations/{number}/thread?since={first[1]}", headers={"If-None-Match": known})

    assert news(known).status_code == 304
    states = [
        ({"state": DeliveryState.SENT}, "✓|>sent<"),
        ({"state": DeliveryState.FAILED, "error_code": 901}, "not sent: the person does not allow the community to write"),
        ({"state": DeliveryState.FAILED, "error_code": 5, "error": "<wrong> token"}, "not sent: &lt;wrong&gt; token"),
        ({"state": DeliveryState.HELD, "error": "maybe sent"}, "held back: nobody knows"),
    ]
    with Session(engine) as session:
        parts = session.scalars(select(Delivery.id).order_by(Delivery.id)).all()
        assert len(parts) == 2
    for change, words in states:
        with engine.begin() as connection:
            connection.execute(update(Delivery).where(Delivery.id == parts[0]).values(**change))
        # one part that went out is not yet the whole answer
        with engine.begin() as connection:
            last = change["state"] if change["state"] == DeliveryState.SENT else DeliveryState.PENDING
            connection.execute(update(Delivery).where(Delivery.id == parts[1]).values(state=last))
        response = news(known)
        assert response.status_code == 200
        assert re.search(words, response.text), words
        known = etag(response.text, "latest")


def test_an_answer_is_sent_only_when_all_its_parts_are(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    with Session(engine) as session, session.begin():
        message = desk.answer(session, session.get_one(Conversation, number), "слово " * 1000)
        message.deliveries[0].state = DeliveryState.SENT
    assert "waiting to be sent" in client.get(f"/conversations/{number}").text


def test_earlier_messages_are_reached_page_by_page(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Message(conversation_id=number, direction="in", author="person", text=f"no{n}") for n in range(1, 110))
    address, seen = f"/conversations/{number}", []
    while True:
        page = client.get(address).text
        seen = re.findall(r'id="message-(\d+)"', page) + seen
        earlier = re.search(r'class="earlier" href="([^"]+)"', page)
        if not earlier:
            break
        address = earlier[1].replace("&amp;", "&")
    with Session(engine) as session:
        assert [int(number) for number in seen] == session.scalars(select(Message.id).order_by(Message.id)).all()


def test_what_people_write_is_text_and_nothing_else(client: FlaskClient, engine: Engine) -> None:
    hostile = "<script>alert(1)</script>\"' onload=x {{ 7*7 }} javascript:alert(1)"
    number = add_conversation(engine, hostile, first_name="<img src=x onerror=alert(1)>")
    bad = "javascript:alert(1)"
    attachments: list[Any] = [
        {"type": "doc", "doc": {"title": "<b>чек</b>", "url": bad}},
        {"type": "photo", "photo": {"sizes": [{"width": 100, "url": bad}, {"width": 500, "url": "http://plain.example/x.jpg"}]}},
        {
            "type": "photo",
            "photo": {
                "sizes": [{"width": 800, "url": 'https://ok.example/b.jpg"x'}, {"width": 400, "url": "https://ok.example/s.jpg"}]
            },
        },
        {"type": "<i>new</i>"},
        {"type": "photo", "photo": {"sizes": "no list"}},
        "no object",
    ]
    with Session(engine) as session, session.begin():
        session.scalars(select(Message)).one().attachments = attachments
    page = client.get(f"/conversations/{number}").text
    for raw in (
        "<script>alert",
        "<img src=x",
        "<b>чек",
        "<i>new",
        '.jpg"x',
        f'href="{bad}',
        f'src="{bad}',
        "http://plain.example",
    ):
        assert raw not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert 'src="https://ok.example/s.jpg"' in page
    assert 'href="https://ok.example/b.jpg&#34;x"' in page


def test_an_odd_name_has_an_avatar_too(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, first_name="\u2003")
    assert client.get(f"/conversations/{number}").status_code == 200
    with engine.begin() as connection:
        connection.execute(update(Conversation).values(person_id=None, peer_id=2_000_000_005))
    assert "Group chat 5" in client.get(f"/conversations/{number}").text


@contextmanager
def as_role(settings: Settings, role: str, **changes: Any) -> Iterator[Flask]:
    """The application, with no more rights in the database than its role has."""
    url, password = settings.database, SecretStr("a password")
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True) as owner:
        roles.grant(owner, settings.model_copy(update={f"db_password_{role}": password}))
    address = url.set(username=role, password=password.get_secret_value()).render_as_string(hide_password=False)
    app = create_app(settings.model_copy(update={"database_url": address} | changes))
    yield app
    app.extensions["engine"].dispose()


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_role_of_the_service_may_do_all_this(settings: Settings, engine: Engine) -> None:
    number = add_conversation(engine)
    with as_role(settings, "web") as app:
        client = signed_in(app)
        for action in ("take", "answers", "read", "close"):
            response = post(client, f"/conversations/{number}/{action}", text="да", key="k", seen="1")
            assert response.status_code == 303, action
        assert client.get(f"/conversations/{number}").status_code == 200


# the site


def test_headers_that_keep_a_page_safe(client: FlaskClient) -> None:
    headers = client.get("/").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert re.fullmatch(r"'self' 'nonce-[\w-]{20,}'", policy["script-src"])
    assert (policy["default-src"], policy["object-src"], policy["frame-ancestors"]) == ("'self'", "'none'", "'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    for address in ("/", "/inbox", "/login", "/nowhere"):
        assert client.get(address).headers["Cache-Control"] == "no-store"


def test_no_page_holds_a_script_or_a_style_of_its_own(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    for address in ("/", "/login", f"/conversations/{number}", "/nowhere"):
        page = client.get(address).text
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=|hx-on|hx-vals", page), address


def test_every_error_is_a_page_and_to_htmx_a_line(client: FlaskClient) -> None:
    page = client.get("/nowhere")
    assert (page.status_code, "Nothing is here" in page.text) == (404, True)
    line = client.get("/nowhere", headers={"HX-Request": "true"})
    assert (line.status_code, line.mimetype) == (404, "text/plain")
    assert client.get("/logout").status_code == 405
    assert post(client, "/conversations/1/topic", topic="x" * 600_000).status_code == 413


def test_a_broken_view_is_a_page_without_a_traceback(app: Flask) -> None:
    def broken() -> str:
        raise RuntimeError("secret detail")

    app.add_url_rule("/broken", view_func=broken)
    response = signed_in(app).get("/broken")
    assert response.status_code == 500
    assert "Something broke" in response.text
    assert "secret detail" not in response.text


def test_the_site_waits_for_the_database_and_then_works(tmp_path: Path) -> None:
    settings = make_settings(database_url=f"sqlite:///{tmp_path / 'late.db'}", app_language="en")
    app = create_app(settings)
    client = app.test_client()
    assert client.get("/healthz").text == "ok"
    ready = client.get("/readyz")
    assert (ready.status_code, "make migrate" in ready.text, ready.text.count("\n")) == (503, True, 0)
    page = client.get("/login")
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert "The database is not ready yet" in page.text
    migrate(settings)
    assert client.get("/readyz").text == "ok"
    client = signed_in(app)
    with app.extensions["engine"].begin() as connection:
        connection.exec_driver_sql("ALTER TABLE operator RENAME TO gone")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    response = client.get("/")
    assert response.status_code == 503
    assert "Traceback" not in response.text


def test_without_an_answering_database_the_site_says_so() -> None:
    app = create_app(make_settings(database_url="postgresql://desk:x@127.0.0.1:1/desk", app_language="ru"))
    response = app.test_client().get("/login")
    assert response.status_code == 503
    assert "База данных ещё не готова" in response.text
    assert "127.0.0.1:1/desk" in app.test_client().get("/readyz").text


def test_static_files_are_kept_for_long_and_change_their_address(client: FlaskClient) -> None:
    address = re.search(r'href="(/static/app.css\?v=\w+)"', client.get("/").text)
    assert address
    response = client.get(address[1])
    assert "max-age=31536000" in response.headers["Cache-Control"]


def test_vendored_files_are_what_their_list_says() -> None:
    table = (WEB / "static/vendor/README.md").read_text()
    listed = dict(re.findall(r"^\| `([^`]+)`.*`(\w{64})` \|$", table, re.MULTILINE))
    present = {file.name for file in (WEB / "static/vendor").iterdir()} - {"README.md"}
    assert listed == {name: hashlib.sha256((WEB / "static/vendor" / name).read_bytes()).hexdigest() for name in present}


def test_times_are_near_first_and_local(app: Flask) -> None:
    with app.test_request_context():
        today = now()
        assert times.day(today) == "Today"
        assert re.fullmatch(r"\d\d:\d\d", times.moment(today))
        assert times.clock(today.replace(hour=21, minute=5)) == "00:05"
        assert times.day(today - timedelta(days=1)) == times.moment(today - timedelta(days=1)) == "Yesterday"
        old = today.replace(year=2020, month=3, day=4, hour=12, minute=0)
        assert (times.day(old), times.moment(old), times.full(old)) == ("March 4, 2020", "3/4/20", "4 March 2020, 15:00")


@pytest.mark.parametrize(("limit", "expected"), [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), (None, None)])
def test_the_server_heeds_the_containers_limit(tmp_path: Path, limit: str | None, expected: int | None) -> None:
    file = tmp_path / "cpu.max"
    unlimited = cpus(tmp_path / "none")
    if limit:
        file.write_text(limit)
    assert cpus(file) == (expected or unlimited)


# the way to the reports


class Reports(BaseHTTPRequestHandler):
    """Another service that answers under the contract; what it was asked is kept."""

    asked: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        path = self.path.split("?")[0]
        status, headers, body = {
            "/": (200, {"Content-Type": "text/html; charset=utf-8", "X-Title": "%D0%93%D0%BE%D0%B4"}, "<h1>Отчёт</h1>"),
            "/year.csv": (200, {"Content-Type": "text/csv", "ETag": '"1"', "Content-Disposition": "attachment"}, "a;b"),
            "/same": (304, {"ETag": '"1"'}, ""),
            "/missing": (404, {"Content-Type": "text/html"}, "<p>no such report</p>"),
            "/locked": (401, {"Content-Type": "text/plain"}, "who are you"),
            "/broken": (500, {"Content-Type": "text/html"}, "<p>trouble</p>"),
            "/away": (302, {"Location": "https://evil.example"}, ""),
        }.get(path, (200, {"Content-Type": "text/plain"}, path))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def reports(settings: Settings) -> Iterator[tuple[FlaskClient, list[tuple[str, dict[str, str]]]]]:
    Reports.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reports)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    app = create_app(settings.model_copy(update={"reports_url": f"http://127.0.0.1:{server.server_port}/", "app_language": "en"}))
    yield signed_in(app), Reports.asked
    server.shutdown()
    server.server_close()
    app.extensions["engine"].dispose()


def test_a_report_appears_within_the_site(reports: tuple[FlaskClient, list[tuple[str, dict[str, str]]]]) -> None:
    client, asked = reports
    page = client.get("/reports/?days=7&q=%26")
    assert page.status_code == 200
    assert re.search(r"<main[^>]*>\s*<h1>Отчёт</h1>\s*</main>", page.text)
    assert "<title>Год · " in page.text
    path, headers = asked[-1]
    assert path == "/?days=7&q=%26"
    assert headers["Authorization"] == f"Bearer {make_settings().secret('reports_token')}"
    assert (headers["X-Language"], headers["X-Role"]) == ("en", "admin")
    assert "Cookie" not in headers


def test_a_document_passes_as_it_is(reports: tuple[FlaskClient, list[tuple[str, dict[str, str]]]]) -> None:
    client, asked = reports
    document = client.get("/reports/year.csv")
    assert (document.text, document.mimetype, document.headers["ETag"]) == ("a;b", "text/csv", '"1"')
    assert document.headers["Content-Disposition"] == "attachment"
    assert client.get("/reports/same", headers={"If-None-Match": '"1"'}).status_code == 304
    assert asked[-1][1]["If-None-Match"] == '"1"'
    assert client.get("/reports/a%3Fb%23c").text == "/a%3Fb%23c"


def test_trouble_of_the_reports_stays_theirs(reports: tuple[FlaskClient, list[tuple[str, dict[str, str]]]]) -> None:
    client, _asked = reports
    assert client.get("/reports/missing").status_code == 404
    for path in ("locked", "broken"):
        response = client.get(f"/reports/{path}")
        assert (response.status_code, "The reports do not answer" in response.text) == (502, True)
    assert "Location" not in client.get("/reports/away").headers
    assert client.get("/").status_code == 200


def test_reports_that_are_down_leave_the_inbox_working(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"reports_url": "http://127.0.0.1:1", "app_language": "en"}))
    client = signed_in(app)
    assert client.get("/reports/").status_code == 502
    assert 'href="/reports/"' in client.get("/").text
    app.extensions["engine"].dispose()


def test_a_project_without_reports_does_not_speak_of_them(client: FlaskClient) -> None:
    assert "/reports/" not in client.get("/").text
    assert client.get("/reports/").status_code == 404
