"""Who may do what: roles, operators, one's own account, invitations, the audit trail."""

import ast
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from app.storage import desk, tokens
from app.storage.models import Audit, CannedAnswer, Conversation, Operator, Role
from app.web import auth
from app.web.trail import ACTIONS
from tests.conftest import on_postgresql, on_sqlite
from tests.test_web import PASSWORD, add_conversation, add_operator, app, client, post, sign_in, signed_in, token

__all__ = ["app", "client"]  # the same fixtures

NEW = "a good long password"


def get(engine: Engine, number: int) -> Operator:
    with Session(engine, expire_on_commit=False) as session:
        return session.get_one(Operator, number)


def set_role(engine: Engine, role: Role, number: int = 1) -> None:
    with engine.begin() as connection:
        connection.execute(update(Operator).where(Operator.id == number).values(role=role))


def trail(engine: Engine) -> list[tuple[int | None, str, str | None]]:
    with engine.connect() as connection:
        return [
            tuple(row) for row in connection.execute(select(Audit.operator_id, Audit.action, Audit.target).order_by(Audit.id))
        ]


def add(client: FlaskClient, **data: Any) -> Any:
    return post(
        client, "/operators", **{"login": "maria", "name": "Мария", "role": "operator", "vk_id": "", "language": ""} | data
    )


def invitation(page: str) -> str:
    found = re.search(r'<code id="invitation">http://localhost(/invitation\?key=[\w.-]+)</code>', page)
    assert found
    return found[1]


def accept(client: FlaskClient, link: str, password: str = NEW) -> Any:
    return client.post(link, data={"password": password, "again": password, "csrf_token": token(client, link)})


# roles


@on_sqlite
def test_every_endpoint_says_who_may_use_it(app: Flask) -> None:
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    for endpoint in endpoints:
        auth.least(endpoint)  # KeyError: decide it in auth.LEAST
    names = endpoints | {endpoint.partition(".")[0] for endpoint in endpoints}
    assert auth.LEAST.keys() - names <= {"callback", "reports", "vk_id"}, "these are not there any more"


@on_sqlite
@pytest.mark.parametrize("role", [None, *Role])
def test_every_page_is_open_to_exactly_those_who_may(app: Flask, engine: Engine, role: Role | None) -> None:
    """Role by role, and by GET and POST; the forms' tokens are not looked at before the role is."""
    if role is not None:
        set_role(engine, role)
    client = app.test_client() if role is None else signed_in(app)
    refused = 0
    for rule in app.url_map.iter_rules():
        least = auth.least(rule.endpoint)
        if least is None:
            continue
        address = re.sub("<.*?>", "1", rule.rule)
        allowed = role is not None and auth.RANKS.index(role) >= auth.RANKS.index(least)
        for method in (rule.methods or set()) & {"GET", "POST"}:
            status = client.open(address, method=method).status_code
            if role is None:
                assert status in (302, 401), (method, address)
            else:
                assert (status != 403) == allowed, (method, address, status)
            refused += not allowed
    assert (refused == 0) == (role == Role.ADMIN)


@on_sqlite
def test_every_page_has_one_heading_and_says_where_it_is(client: FlaskClient, engine: Engine) -> None:
    add_conversation(engine)
    sections = {
        "/": ("/", "/conversations/1?view=all"),
        "/events": ("/events",),
        "/health": ("/health",),
        "/account": ("/account", "/canned-answers", "/operators", "/tokens", "/tokens/api", "/audit"),
    }
    for section, addresses in sections.items():
        for address in addresses:
            page = client.get(address).text
            assert page.count("<h1") == 1, address
            menu = page.split('aria-label="Main menu"')[1].split("</nav>")[0]
            assert re.findall(r'href="([^"]+)"[^>]*aria-current="page"', menu) == [section], address


@on_sqlite
def test_the_menu_shows_what_one_may(app: Flask, engine: Engine) -> None:
    def menu() -> list[str]:
        return re.findall(r'<a href="(/[\w-]+)"', signed_in(app).get("/account").text.partition("<main")[2])

    assert menu() == ["/account", "/canned-answers", "/operators", "/tokens", "/audit"]
    set_role(engine, Role.MANAGER)
    assert menu() == ["/account", "/canned-answers", "/tokens"]
    set_role(engine, Role.OPERATOR)
    assert menu() == ["/account", "/tokens"]


# operators


def test_a_new_operator_is_invited_once_and_chooses_a_password(client: FlaskClient, app: Flask, engine: Engine) -> None:
    page = add(client, role="manager", vk_id="id77", language="ru")
    assert page.status_code == 201
    row = get(engine, 2)
    assert (row.login, row.name, row.role, row.vk_id, row.language) == ("maria", "Мария", Role.MANAGER, 77, "ru")
    link = invitation(page.text)
    assert link not in client.get("/operators").text
    maria = app.test_client()
    assert accept(maria, link).location == "/"
    assert maria.get("/canned-answers").status_code == 200
    assert "Входящие" in maria.get("/").text  # her language, not the project's
    assert app.test_client().get(link).status_code == 410
    assert sign_in(app.test_client(), "maria", NEW).location == "/"
    assert trail(engine)[1:4] == [
        (1, "operator.add", "operator 2"),
        (2, "password.chosen", "operator 2"),
        (2, "session.begin", None),
    ]


@on_sqlite
@pytest.mark.parametrize(
    ("password", "again", "said"),
    [
        ("short", "short", "10 to 200"),
        ("x" * 201, "x" * 201, "10 to 200"),
        ("1111111111", "1111111111", "easy"),
        ("maria-maria!", "maria-maria!", "easy"),
        (NEW, NEW + "x", "differ"),
    ],
)
def test_a_bad_password_is_refused_and_the_invitation_stays(
    client: FlaskClient, app: Flask, password: str, again: str, said: str
) -> None:
    link = invitation(add(client).text)
    maria = app.test_client()
    data = {"password": password, "again": again, "csrf_token": token(maria, link)}
    refused = maria.post(link, data=data)
    assert refused.status_code == 400
    assert said in refused.text
    assert password not in refused.text
    assert accept(maria, link).location == "/"


@on_sqlite
def test_an_invitation_is_worth_nothing_when_it_is_old_changed_or_taken_back(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = invitation(add(client).text)
    other = app.test_client()
    assert other.get(link[:-2]).status_code == 410
    assert other.get("/invitation").status_code == 410
    newer = invitation(post(client, "/operators/2/invite").text)
    assert (other.get(link).status_code, other.get(newer).status_code) == (410, 200)
    with monkeypatch.context() as later:
        later.setattr("itsdangerous.timed.time.time", lambda: 4e9)
        assert other.get(newer).status_code == 410
    post(client, "/operators/2/deactivate")
    assert other.get(newer).status_code == 410


@on_sqlite
@pytest.mark.parametrize(
    "change",
    [
        {"login": ""},
        {"login": "Мария"},
        {"login": "a b"},
        {"name": ""},
        {"name": "x" * 201},
        {"vk_id": "durov"},
        {"vk_id": "-1"},
        {"role": "owner"},
    ],
)
def test_a_wrong_form_adds_nobody(client: FlaskClient, engine: Engine, change: dict[str, str]) -> None:
    assert add(client, **change).status_code == 400
    with Session(engine) as session:
        assert session.scalars(select(Operator.id)).all() == [1]


def test_a_login_and_a_vk_id_are_one_operators(client: FlaskClient, engine: Engine) -> None:
    add(client, vk_id="5")
    assert add(client, vk_id="6").status_code == 409
    assert add(client, login="other", vk_id="5").status_code == 409
    data = {"name": "A", "role": "admin", "vk_id": "5", "language": ""}
    assert post(client, "/operators/1", **data).status_code == 409
    assert get(engine, 1).vk_id is None


@on_sqlite
def test_changes_are_kept_and_told(client: FlaskClient, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    data = {"name": "Мария К.", "role": "manager", "vk_id": "9", "language": "ru"}
    assert post(client, f"/operators/{number}", **data).location == f"/operators/{number}"
    row = get(engine, number)
    assert (row.name, row.role, row.vk_id, row.language) == ("Мария К.", Role.MANAGER, 9, "ru")
    assert "Saved." in client.get(f"/operators/{number}").text
    with Session(engine) as session:
        told = session.scalars(select(Audit).order_by(Audit.id.desc())).first()
        assert told is not None
        assert told.details == {"name": "Мария К.", "role": "manager", "vk_id": 9, "language": "ru"}
        assert told.address == "127.0.0.1"
        assert re.fullmatch("[0-9a-f]{16}", str(told.request_id))
    assert post(client, "/operators/99", **data).status_code == 404


@on_sqlite
def test_who_is_deactivated_is_out_at_once_and_leaves_the_work_to_others(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    conversation = add_conversation(engine, assignee_id=number)
    maria = signed_in(app, "maria")
    post(client, f"/operators/{number}/deactivate")
    assert maria.get("/").status_code == 302
    assert sign_in(app.test_client(), "maria").status_code == 401
    with Session(engine) as session:
        assert session.get_one(Conversation, conversation).assignee_id is None
    assert post(client, f"/operators/{number}/invite").status_code == 400
    post(client, f"/operators/{number}/activate")
    assert maria.get("/").status_code == 302  # the old session stays ended
    assert sign_in(app.test_client(), "maria").location == "/"


@on_postgresql
def test_who_is_deactivated_while_answering_is_not_waited_for_in_a_circle(client: FlaskClient, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    conversation = add_conversation(engine, assignee_id=number)
    csrf, statuses = token(client), list[int]()

    def deactivate() -> None:
        statuses.append(client.post(f"/operators/{number}/deactivate", data={"csrf_token": csrf}).status_code)

    thread = threading.Thread(target=deactivate)
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with Session(engine) as session, session.begin():
        row = desk.lock_conversation(session, conversation)
        assert row
        thread.start()
        while not session.scalar(waiting):
            time.sleep(0.02)
        desk.answer(session, row, "Да", operator=session.get_one(Operator, number))
    thread.join()
    assert statuses == [303]
    with Session(engine) as session:
        assert session.get_one(Conversation, conversation).assignee_id is None


@on_sqlite
def test_a_reset_takes_the_password_away(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    maria = signed_in(app, "maria")
    with Session(engine) as session, session.begin():
        _token, secret = tokens.create(session, number, "a thief", list(tokens.Scope))
    bearer = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get("/api/v1/me", headers=bearer).status_code == 200
    link = invitation(post(client, f"/operators/{number}/invite").text)
    assert maria.get("/").status_code == 302
    assert app.test_client().get("/api/v1/me", headers=bearer).status_code == 401
    assert sign_in(app.test_client(), "maria").status_code == 401
    assert accept(app.test_client(), link).location == "/"
    assert post(client, "/operators/1/invite").status_code == 400  # one's own: on the account's page


@on_sqlite
def test_the_last_admin_stays_one(client: FlaskClient, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    demotion = {"name": "Admin", "role": "manager", "vk_id": "", "language": ""}
    refused = post(client, "/operators/1", **demotion)
    assert (refused.status_code, "last admin" in refused.text) == (400, True)
    refused = post(client, "/operators/1/deactivate")
    assert (refused.status_code, "last admin" in refused.text) == (400, True)
    assert (get(engine, 1).role, get(engine, 1).active) == (Role.ADMIN, True)
    set_role(engine, Role.ADMIN, number)
    assert post(client, "/operators/1", **demotion).status_code == 303
    assert get(engine, 1).role == Role.MANAGER


def test_two_admins_cannot_remove_each_other_at_once(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    set_role(engine, Role.ADMIN, number)
    both = [(client, number), (signed_in(app, "maria"), 1)]
    prepared = [(one, other, token(one)) for one, other in both]
    barrier = threading.Barrier(2)

    def remove(one: FlaskClient, other: int, csrf: str) -> None:
        barrier.wait()
        one.post(f"/operators/{other}/deactivate", data={"csrf_token": csrf})

    threads = [threading.Thread(target=remove, args=args) for args in prepared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(engine) as session:
        assert len(session.scalars(select(Operator.id).where(Operator.active, Operator.role == Role.ADMIN)).all()) == 1


@on_sqlite
def test_a_name_is_a_text_and_never_markup(client: FlaskClient, app: Flask, engine: Engine) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    page = add(client, name=evil)
    accept(app.test_client(), invitation(page.text))
    post(client, "/account", name=evil, language="en")
    add_conversation(engine, assignee_id=2)
    for address in ("/operators", "/operators/2", "/audit", "/audit?operator=2", "/account", "/?view=all", "/conversations/1"):
        shown = client.get(address)
        assert shown.status_code == 200
        assert "&lt;script&gt;alert(1)" in shown.text, address
        assert "<script>alert" not in shown.text, address
        assert "<img src=x" not in shown.text, address


# the own account


@on_sqlite
def test_ones_own_name_and_language(client: FlaskClient, engine: Engine) -> None:
    assert post(client, "/account", name=" Анна ", language="ru").location == "/account"
    page = client.get("/account").text
    assert "Сохранено." in page
    assert '<html lang="ru">' in page
    assert get(engine, 1).name == "Анна"
    assert post(client, "/account", name="", language="ru").status_code == 400
    post(client, "/account", name="Анна", language="xx")
    assert '<html lang="en">' in client.get("/account").text  # the project's


def test_a_new_password_needs_the_old_one_and_ends_all_other_sessions(client: FlaskClient, app: Flask, engine: Engine) -> None:
    elsewhere = signed_in(app)
    wrong = post(client, "/account/password", old="wrong", password=NEW, again=NEW)
    assert (wrong.status_code, "old password is wrong" in wrong.text) == (400, True)
    assert elsewhere.get("/").status_code == 200
    assert post(client, "/account/password", old=PASSWORD, password=NEW, again=NEW).location == "/account"
    assert client.get("/account").status_code == 200
    assert elsewhere.get("/").status_code == 302
    assert sign_in(app.test_client()).status_code == 401
    assert sign_in(app.test_client(), password=NEW).location == "/"
    assert (1, "password.change", "operator 1") in trail(engine)


@on_sqlite
def test_the_old_password_cannot_be_guessed_in_a_session_left_open(client: FlaskClient) -> None:
    csrf = token(client)
    tries = [
        client.post("/account/password", data={"csrf_token": csrf, "old": "wrong", "password": NEW, "again": NEW})
        for _ in range(11)
    ]
    assert [each.status_code for each in tries] == [400] * 10 + [429]


@on_sqlite
def test_signing_out_everywhere_else(client: FlaskClient, app: Flask) -> None:
    elsewhere = signed_in(app)
    post(client, "/account/sessions/end")
    assert elsewhere.get("/").status_code == 302
    assert client.get("/").status_code == 200


# canned answers


def test_canned_answers_are_added_changed_and_deleted(client: FlaskClient, engine: Engine) -> None:
    assert post(client, "/canned-answers", shortcut="/Доставка", text="Два дня.").location == "/canned-answers"
    same = post(client, "/canned-answers", shortcut="доставка", text="typed for long")
    assert (same.status_code, "typed for long" in same.text) == (409, True)
    assert post(client, "/canned-answers", shortcut="two words", text="x").status_code == 400
    assert post(client, "/canned-answers", shortcut="x", text="").status_code == 400
    post(client, "/canned-answers/1", shortcut="dostavka", text="<b>Три</b> дня.")
    page = client.get("/canned-answers").text
    assert "&lt;b&gt;Три&lt;/b&gt; дня." in page
    with Session(engine) as session:
        assert session.scalars(select(CannedAnswer.shortcut)).all() == ["dostavka"]
    post(client, "/canned-answers/1/delete")
    assert post(client, "/canned-answers/1", shortcut="x", text="x").status_code == 404
    assert [row[1] for row in trail(engine)][1:] == ["canned.add", "canned.change", "canned.delete"]


# the audit trail


def test_every_deed_has_words() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in Path(auth.__file__).parent.rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    deeds = [ast.walk(call.args[1]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "audit"]
    words = {node.value for deed in deeds for node in deed if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert words == ACTIONS.keys()


def test_the_trail_can_be_read_through_and_filtered(client: FlaskClient, engine: Engine) -> None:
    number = add_operator(engine, "maria")
    with Session(engine) as session, session.begin():
        session.add_all(Audit(operator_id=1 + n % 2, action="event.again", target=f"event {n}") for n in range(119))
    address, seen = f"/audit?operator={number}&action=event.again", []
    while address:
        page = client.get(address).text
        seen += [int(found) for found in re.findall(r"<small>event (\d+)</small>", page)]
        older = re.search(r'href="(/audit[^"]+)">Older', page)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen == list(range(117, 0, -2))
    assert "Nothing." in client.get("/audit?action=no.such").text
    for wrong in ("operator=x", "before=-1", "before=1%00"):
        assert client.get(f"/audit?{wrong}").status_code == 404


@on_sqlite
def test_the_trail_says_everything_in_words(client: FlaskClient, app: Flask, engine: Engine) -> None:
    sign_in(app.test_client(), password="wrong")
    sign_in(app.test_client(), "nobody", "wrong")
    add(client)
    shown = re.findall(r'<tr data-action="([\w.]+)">', client.get("/audit").text)
    assert shown == ["operator.add", "session.refused", "session.refused", "session.begin"]
    assert set(shown) <= ACTIONS.keys()
    assert [row[0] for row in trail(engine)] == [1, 1, None, 1]
