"""Attacks: guessing passwords, planted sessions, forged forms, other sites, proxies that are not ours."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage.migrate import hasher, reset_password
from app.storage.models import Audit, Delivery, Operator, Role, Throttle, now
from app.web import create_app, throttle
from tests.conftest import on_postgresql, on_sqlite
from tests.test_web import PASSWORD, add_conversation, add_operator, app, client, post, signed_in, token

__all__ = ["app", "client"]  # the same fixtures


@contextmanager
def another(settings: Settings, **changes: Any) -> Iterator[Flask]:
    app = create_app(settings.model_copy(update={"app_language": "en"} | changes))
    yield app
    app.extensions["engine"].dispose()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that were really looked at. Limits are small, for looking takes its time."""
    monkeypatch.setattr(throttle, "LIMITS", {"browser": 3, "address": 4, "account": 8, "password": 3})
    passwords: list[str] = []
    verify = PasswordHasher.verify

    def look(self: PasswordHasher, password_hash: str, password: str) -> bool:
        passwords.append(password)
        return verify(self, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", look)
    return passwords


def guess(client: FlaskClient, login: str, password: str | None = None, *, address: str = "10.0.0.1", csrf: str = "") -> Any:
    data = {"login": login, "password": password or "wrong", "csrf_token": csrf or token(client, "/login")}
    return client.post("/login", data=data, environ_overrides={"REMOTE_ADDR": address})


# guessing passwords


@on_sqlite
def test_guessing_from_one_address_ends_soon_and_says_for_how_long(app: Flask, verified: list[str]) -> None:
    client = app.test_client()
    csrf = token(client, "/login")
    tries = [guess(client, f"admin{n}", csrf=csrf) for n in range(throttle.LIMITS["address"] + 1)]
    assert [each.status_code for each in tries] == [401] * throttle.LIMITS["address"] + [429]
    assert "Too many wrong passwords. Try again in 15 minutes." in tries[-1].text
    assert 0 < int(tries[-1].headers["Retry-After"]) <= throttle.WINDOW.total_seconds() + 1
    assert len(verified) == throttle.LIMITS["address"]  # the last was not even looked at
    assert guess(client, "admin", PASSWORD).status_code == 429
    assert guess(app.test_client(), "admin", PASSWORD, address="10.0.0.2").status_code == 303


@on_sqlite
def test_one_address_cannot_lock_an_account(app: Flask, verified: list[str]) -> None:
    client = app.test_client()
    csrf = token(client, "/login")
    for _ in range(throttle.LIMITS["account"] + 5):
        guess(client, "admin", csrf=csrf)
    assert guess(app.test_client(), "admin", PASSWORD, address="10.0.0.2").status_code == 303


@on_sqlite
def test_many_addresses_are_held_back_and_the_right_browser_is_not(app: Flask, engine: Engine, verified: list[str]) -> None:
    known = app.test_client()
    assert guess(known, "admin", PASSWORD, address="10.0.0.1").status_code == 303
    post(known, "/logout")
    client = app.test_client()
    csrf = token(client, "/login")
    addresses = [f"10.1.0.{n}" for n in range(throttle.LIMITS["account"])]
    assert {guess(client, "admin", address=each, csrf=csrf).status_code for each in addresses} == {401}
    assert guess(client, "admin", PASSWORD, address="10.2.0.1", csrf=csrf).status_code == 429
    assert guess(known, "admin", PASSWORD, address="10.2.0.2").status_code == 303  # who was signed in here before gets in
    with engine.begin() as connection:
        connection.execute(update(Throttle).values(until=now()))
    assert guess(client, "admin", PASSWORD, address="10.2.0.1", csrf=csrf).status_code == 303  # nobody is locked out for ever


@on_sqlite
def test_a_known_browser_is_one_accounts_and_has_a_limit_too(app: Flask, engine: Engine, verified: list[str]) -> None:
    add_operator(engine, "maria")
    client = app.test_client()
    guess(client, "admin", PASSWORD)
    post(client, "/logout")
    csrf = token(client, "/login")
    tries = [guess(client, "admin", csrf=csrf).status_code for _ in range(throttle.LIMITS["browser"] + 1)]
    assert tries == [401] * throttle.LIMITS["browser"] + [429]
    guess(client, "maria", csrf=csrf)
    with Session(engine) as session:
        counts = {row.name.partition(" ")[0]: row.tries for row in session.scalars(select(Throttle).order_by(Throttle.name))}
    assert counts == {"account": 1, "address": 1, "browser": throttle.LIMITS["browser"] + 1}  # maria's is none of this browser
    client.set_cookie(throttle.COOKIE, "forged")
    assert guess(client, "admin", PASSWORD, csrf=csrf).status_code == 303  # as from an unknown browser


@on_sqlite
def test_a_right_password_does_not_count_and_old_counts_are_forgotten(app: Flask, engine: Engine, verified: list[str]) -> None:
    with Session(engine) as session, session.begin():
        session.add(Throttle(name="address 10.9.9.9", tries=99, until=now() - timedelta(seconds=1)))
    for _ in range(throttle.LIMITS["address"] + 1):
        assert guess(app.test_client(), "admin", PASSWORD).status_code == 303
    with Session(engine) as session:
        assert {row.name: row.tries for row in session.scalars(select(Throttle))} == {"address 10.0.0.1": 0, "account admin": 0}


@on_postgresql
def test_to_forget_an_old_count_nobody_waits(settings: Settings, engine: Engine) -> None:
    impatient = settings.database.update_query_dict({"options": "-c lock_timeout=1000"}).render_as_string(hide_password=False)
    old = Throttle(name="address 10.9.9.9", tries=1, until=now() - timedelta(seconds=1))
    with Session(engine) as session, session.begin():
        session.add(old)
    with another(settings, database_url=impatient) as app, Session(engine) as session, session.begin():
        session.execute(update(Throttle).where(Throttle.name == "address 10.9.9.9").values(tries=2))
        assert guess(app.test_client(), "admin", PASSWORD).status_code == 303


@on_sqlite
def test_an_ipv6_address_counts_with_its_network(app: Flask, engine: Engine, verified: list[str]) -> None:
    ipv6 = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    for address in (*ipv6, "::ffff:10.0.0.1", "10.0.0.1", "::ffff:10.0.0.2", "no address"):
        guess(app.test_client(), "x", address=address)
    with Session(engine) as session:
        counts = {row.name: row.tries for row in session.scalars(select(Throttle)) if row.name.startswith("address")}
    networks = {"address 2001:db8::/64": 2, "address 2001:db8:0:1::/64": 1, "address no address": 1}
    assert counts == networks | {"address 10.0.0.1": 2, "address 10.0.0.2": 1}


def test_guesses_at_once_over_two_workers_are_counted_one_by_one(settings: Settings, verified: list[str]) -> None:
    statuses: list[int] = []
    with another(settings) as one, another(settings) as other:
        clients = [worker.test_client() for worker in (one, other) for _ in range(4)]
        prepared = [(each, token(each, "/login")) for each in clients]
        barrier = threading.Barrier(len(prepared))

        def attack(client: FlaskClient, csrf: str) -> None:
            barrier.wait()
            statuses.append(guess(client, "admin", csrf=csrf).status_code)

        threads = [threading.Thread(target=attack, args=each) for each in prepared]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [401] * 4 + [429] * 4
    with another(settings) as restarted:
        assert guess(restarted.test_client(), "admin", PASSWORD).status_code == 429


@on_sqlite
def test_an_unknown_login_costs_as_much_work_as_a_known_one(app: Flask, verified: list[str]) -> None:
    guess(app.test_client(), "admin")
    guess(app.test_client(), "nobody")
    guess(app.test_client(), "x" * 5000)
    assert len(verified) == 3


MANY_AT_ONCE = """
import resource, sys, threading
from app.web.auth import NOBODY, verify

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)

before = most()
threads = [threading.Thread(target=verify, args=(NOBODY, "wrong")) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(most() - before)
"""


def test_many_who_sign_in_at_once_take_the_memory_of_one() -> None:
    root = Path(__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", MANY_AT_ONCE], cwd=root, capture_output=True, text=True, check=True)
    assert int(said.stdout) < 2 * hasher.memory_cost  # both in KiB


@on_sqlite
def test_the_machines_owner_gets_back_in(settings: Settings, engine: Engine, client: FlaskClient, app: Flask) -> None:
    """`make password`, whatever was done to the first account."""
    values = {"active": False, "role": Role.OPERATOR, "password_hash": "x"}
    with Session(engine) as session, session.begin():
        session.execute(update(Operator).values(**values))
        session.merge(Throttle(name="account admin", tries=999, until=now() + throttle.WINDOW))
    reset_password(settings)
    assert client.get("/").status_code == 302
    fresh = signed_in(app)
    assert fresh.get("/operators").status_code == 200
    assert "password.reset" in fresh.get("/audit").text


# sessions, forms, other sites


@on_sqlite
def test_a_session_that_somebody_planted_is_worth_nothing(app: Flask) -> None:
    """An attacker's own session and form, in the browser of somebody who signs in, become another's at that moment."""
    attacker = app.test_client()
    csrf = token(attacker, "/login")
    planted = attacker.get_cookie("desk_session")
    assert planted is not None
    victim = app.test_client()
    victim.set_cookie("desk_session", planted.value)
    assert guess(victim, "admin", PASSWORD, csrf=csrf).status_code == 303
    fresh = victim.get_cookie("desk_session")
    assert fresh is not None
    assert fresh.value != planted.value
    assert attacker.get("/").status_code == 302
    assert victim.post("/logout", data={"csrf_token": csrf}).status_code == 400  # the old form's token went with the session


@on_sqlite
def test_a_forged_session_is_nobody(app: Flask) -> None:
    with another(Settings(_env_file=None, secret_key="x" * 32, data_dir=".")) as elsewhere, elsewhere.test_request_context():
        forged = elsewhere.session_interface.get_signing_serializer(elsewhere).dumps({"_user_id": "1.1", "_fresh": True})
    client = app.test_client()
    client.set_cookie("desk_session", forged)
    assert client.get("/").status_code == 302


@on_sqlite
def test_every_change_needs_a_form_of_this_session(client: FlaskClient, app: Flask, engine: Engine) -> None:
    """Also where the address is another operator's form."""
    stolen = token(signed_in(app))
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or set()) and not rule.rule.startswith("/api"):
            address = rule.rule.replace("<int(max=999999999999999999):", "<").replace("<", "1").split(">")[0]
            for data in ({}, {"csrf_token": "x"}, {"csrf_token": stolen}):
                assert client.post(address, data=data).status_code in (400, 404), rule
    with Session(engine) as session:
        assert set(session.scalars(select(Audit.action))) == {"session.begin"}


@on_sqlite
def test_every_answer_tells_the_browser_what_not_to_do(client: FlaskClient, app: Flask) -> None:
    for address in ("/", "/login", "/account", "/healthz", "/no/such/page", "/static/app.css"):
        headers = client.get(address, base_url="https://localhost").headers
        policy = headers["Content-Security-Policy"]
        for rule in (
            "default-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ):
            assert rule in policy, address
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
        assert headers["Strict-Transport-Security"].startswith("max-age=")


@on_sqlite
def test_a_known_browsers_cookie_is_for_no_script(app: Flask) -> None:
    client = app.test_client()
    data = {"login": "admin", "password": PASSWORD, "csrf_token": token(client, "/login")}
    cookies = client.post("/login", data=data).headers.getlist("Set-Cookie")
    (known,) = [cookie for cookie in cookies if cookie.startswith(throttle.COOKIE)]
    assert "HttpOnly" in known
    assert "SameSite=Lax" in known


# proxies and requests


@on_sqlite
def test_nobodys_word_is_taken_for_where_a_request_comes_from(app: Flask, settings: Settings, engine: Engine) -> None:
    told = {"X-Forwarded-For": "6.6.6.6, 7.7.7.7", "X-Forwarded-Proto": "https", "X-Request-Id": "from-the-proxy"}

    def cookie_and_number(app: Flask) -> tuple[bool, str]:
        client = app.test_client()
        data = {"login": "admin", "password": PASSWORD, "csrf_token": token(client, "/login")}
        response = client.post("/login", data=data, headers=told)
        return "Secure" in response.headers["Set-Cookie"], response.headers["X-Request-Id"]

    def addresses() -> list[str | None]:
        with Session(engine) as session:
            return list(session.scalars(select(Audit.address).order_by(Audit.id)))

    secure, number = cookie_and_number(app)
    assert (secure, number != "from-the-proxy") == (False, True)
    with another(settings, trusted_proxies=1) as behind:
        assert behind.test_client().get("/login", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] != "a b"
        client = behind.test_client()
        found = client.get("/login", headers=told, base_url="https://localhost")
        csrf = found.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        data = {"login": "admin", "password": PASSWORD, "csrf_token": csrf}
        response = client.post(
            "/login", data=data, base_url="https://localhost", headers=told | {"Referer": "https://localhost/"}
        )
        assert response.status_code == 303
        assert response.headers["X-Request-Id"] == "from-the-proxy"
    assert addresses() == ["127.0.0.1", "7.7.7.7"]


def test_the_number_of_a_request_goes_with_what_it_caused(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    response = post(client, f"/conversations/{number}/answers", text="ответ")
    with Session(engine) as session:
        assert session.scalars(select(Delivery.request_id)).all() == [response.headers["X-Request-Id"]]
