"""What operators see when something does not work, and what they do about it: health, set-aside events, answers sent again."""

import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import Engine, event, select, text, update
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage import desk
from app.storage.inbox import add_events
from app.storage.models import (
    Alert,
    Audit,
    Checkup,
    Conversation,
    Cursor,
    Delivery,
    DeliveryState,
    Event,
    EventState,
    Heartbeat,
    Message,
    Operator,
    Role,
    now,
)
from app.storage.wake import Channel, Waiter
from app.web import create_app
from app.web.status import CURES, TOKEN
from tests.conftest import make_settings, on_sqlite
from tests.test_web import add_conversation, app, as_role, client, etag, post, signed_in

__all__ = ["app", "client"]  # the same fixtures

LOOPS = ("bot.receive", "bot.answer", "bot.deliver")


def beat(engine: Engine, name: str, ago: float = 1, problem: str | None = None) -> None:
    with Session(engine) as session, session.begin():
        session.merge(Heartbeat(name=name, at=now() - timedelta(seconds=ago), problem=problem))


def add_event(engine: Engine, cmid: int = 1, *, error: str | None = "KeyError: 'topics'", **message: Any) -> int:
    """A message that the bot could not deal with; without `error` one that waits for it."""
    told = {"peer_id": 1, "from_id": 1, "conversation_message_id": cmid, "date": 1700000000, "text": "Где заказ?"} | message
    with Session(engine) as session, session.begin():
        add_events(session, [{"type": "message_new", "event_id": f"e{cmid}", "object": {"message": told}}])
        row = session.scalars(select(Event).order_by(Event.id.desc())).first()
        assert row is not None
        if error:
            row.state, row.error, row.attempts, row.done_at = EventState.FAILED, error, 1, now()
        return row.id


def add_answer(engine: Engine, conversation_id: int, *states: DeliveryState) -> Message:
    """An answer in as many parts as there are states."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        message = desk.answer(session, session.get_one(Conversation, conversation_id), "слово " * (600 * len(states)))
        assert len(message.deliveries) == len(states)
        for part, state in zip(message.deliveries, states, strict=True):
            long_ago = now() - timedelta(hours=2)
            part.state, part.attempts, part.first_tried_at, part.error, part.error_code = state, 7, long_ago, "no", 901
        session.flush()
        return message


def parts(engine: Engine) -> list[Delivery]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.scalars(select(Delivery).order_by(Delivery.id)))


def get_event(engine: Engine, number: int) -> Event:
    with Session(engine, expire_on_commit=False) as session:
        return session.get_one(Event, number)


def lights(client: FlaskClient) -> dict[str, tuple[str, str]]:
    """The level and the words of each light."""
    page = client.get("/health")
    assert page.status_code == 200
    found = re.findall(r'data-light="(\w+)">(.*?)</li>', page.text, re.DOTALL)
    plain = [(level, re.sub(r"\s+", " ", re.sub("<.*?>", " ", body)).strip()) for level, body in found]
    names = [re.findall(r"<h2>(?:<a [^>]*>)?(.*?)<", body)[0] for _level, body in found]
    return dict(zip(names, plain, strict=True))


def banner(client: FlaskClient) -> str:
    page = client.get("/").text
    found = re.search(r'<div id="banner".*?</div>', page, re.DOTALL)
    assert found
    return re.sub("<.*?>", "", found[0]).strip()


# health


def test_all_is_green_when_all_works(client: FlaskClient, engine: Engine) -> None:
    for loop in LOOPS:
        beat(engine, loop)
    assert {level for level, _words in lights(client).values()} == {"good"}
    assert banner(client) == ""


def test_a_bot_that_never_ran_is_no_alarm(client: FlaskClient) -> None:
    assert [level for level, _words in lights(client).values()][:3] == ["doubtful"] * 3
    assert banner(client) == ""


@pytest.mark.parametrize(("ago", "level"), [(20, "good"), (45, "doubtful"), (90, "bad")])
def test_a_loop_that_is_not_heard_of(client: FlaskClient, engine: Engine, ago: float, level: str) -> None:
    for loop in LOOPS:
        beat(engine, loop, ago=ago if loop == "bot.answer" else 1)
    shown = lights(client)["The bot&#39;s answers"]
    assert shown[0] == level
    assert ("make up" in shown[1]) == (level != "good")
    assert ("The bot&#39;s answers" in banner(client)) == (level == "bad")


def test_the_problem_of_a_loop_is_told_with_its_cure(client: FlaskClient, engine: Engine) -> None:
    for loop in LOOPS:
        beat(engine, loop, problem="VK does not answer (execute: <ReadTimeout>)" if loop == "bot.deliver" else None)
    level, words = lights(client)["Sending"]
    assert level == "doubtful"  # it may be over in a moment
    assert "VK does not answer (execute: &lt;ReadTimeout&gt;)" in words
    assert "goes on trying by itself" in words
    with Session(engine) as session, session.begin():
        session.add(Delivery(peer_id=1, text="x", random_id=1, created_at=now() - timedelta(minutes=5)))
    assert lights(client)["Sending"][0] == "bad"
    assert "Sending" in banner(client)


def test_a_refused_key_is_everybodys_alarm_at_once(client: FlaskClient, engine: Engine) -> None:
    beat(engine, "bot.receive", problem="VK refuses the token (5: User authorization failed)")
    level, words = lights(client)["Receiving messages"]
    assert level == "bad"
    assert "secrets/vk_token" in words
    assert "make vk-check" in words
    assert "Receiving messages" in banner(client)


def test_a_long_poll_without_news_of_vk_turns_red(client: FlaskClient, engine: Engine) -> None:
    beat(engine, "bot.receive", problem="VK does not answer (the long poll: ConnectionError)")
    for ago, level in ((10, "doubtful"), (600, "bad")):
        with Session(engine) as session, session.begin():
            session.merge(Cursor(name="longpoll:1", value="5", updated_at=now() - timedelta(seconds=ago)))
        assert lights(client)["Receiving messages"][0] == level


@pytest.mark.parametrize(("ago", "level"), [(5, "good"), (60, "doubtful"), (600, "bad")])
def test_queues_tell_how_long_their_first_has_waited(client: FlaskClient, engine: Engine, ago: float, level: str) -> None:
    for cmid in (1, 2, 3):
        add_event(engine, cmid, error=None)
    with engine.begin() as connection:
        connection.execute(update(Event).values(received_at=now() - timedelta(seconds=ago)))
        session_free = {"peer_id": 1, "text": "x", "random_id": 1, "state": "pending", "attempts": 0, "created_at": now()}
        connection.execute(Delivery.__table__.insert(), [session_free | {"next_try_at": now()}])
    shown = lights(client)
    assert shown["Waiting for the bot"][0] == level
    assert shown["Waiting for the bot"][1].startswith("Waiting for the bot 3, the first for ")
    assert shown["Waiting to be sent"][1].startswith("Waiting to be sent 1, the first for ")


def test_what_waits_for_a_decision_is_counted_and_linked(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    message = add_answer(engine, number, DeliveryState.HELD)
    add_answer(engine, number, DeliveryState.FAILED)
    add_answer(engine, number, DeliveryState.FAILED)
    with engine.begin() as connection:  # one of long ago is history
        connection.execute(update(Delivery).where(Delivery.id == 3).values(next_try_at=now() - timedelta(days=2)))
    add_event(engine)
    shown = lights(client)
    assert (shown["Held back"][0], shown["Set aside"][0], shown["Refused by VK"][0]) == ("doubtful", "doubtful", "good")
    assert "1 within a day" in shown["Refused by VK"][1]
    page = client.get("/health").text
    assert f'href="/conversations/{number}?view=all#message-{message.id}"' in page
    assert page.count("#message-") == 2


def test_what_the_reports_have_found_is_shown_until_it_is_over(client: FlaskClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all([Alert(rule="disk", words="На диске свободно 3 %."), Alert(rule="backup", words="Old.", ended_at=now())])
    page = client.get("/health").text
    assert "На диске свободно 3 %." in page
    assert "/reports/health" in page
    assert "Old." not in page


def test_vks_calls_need_no_loop(settings: Settings, engine: Engine) -> None:
    changes = {"vk_transport": "callback", "vk_callback_confirmation": "c", "app_language": "en"}
    app = create_app(settings.model_copy(update=changes))
    beat(engine, "bot.receive", ago=1000, problem="old")
    assert lights(signed_in(app))["Receiving messages"][0] == "good"
    app.extensions["engine"].dispose()


def test_another_schema_is_red(client: FlaskClient, engine: Engine) -> None:
    assert "at revision 0001" in lights(client)["Database"][1]
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    level, words = lights(client)["Database"]
    assert (level, "make migrate" in words) == ("bad", True)


def test_the_page_names_versions_and_no_secret(client: FlaskClient, settings: Settings) -> None:
    page = client.get("/health").text
    assert re.search(r"(SQLite|PostgreSQL) \d+[\d.]* · Python 3\.\d+", page)
    secrets = [value.get_secret_value() for _name, value in settings if isinstance(value, SecretStr)]
    assert len(secrets) > 3
    assert not any(secret in page for secret in secrets)


def test_the_health_says_304_until_it_changes(client: FlaskClient, engine: Engine) -> None:
    for loop in LOOPS:
        beat(engine, loop)
    known = {part: etag(client.get("/health").text, part) for part in ("health", "banner")}

    def news(part: str, address: str) -> int:
        return client.get(address, headers={"If-None-Match": known[part], "HX-Request": "true"}).status_code

    assert (news("health", "/health"), news("banner", "/health/banner")) == (304, 304)
    add_event(engine)
    assert (news("health", "/health"), news("banner", "/health/banner")) == (200, 200)
    part = client.get("/health/banner", headers={"HX-Request": "true"}).text
    assert re.search(r'id="set-aside"[^>]*hx-swap-oob="true">1<', part)


def test_the_looks_at_the_queues_find_their_indexes(client: FlaskClient, app: Flask, engine: Engine) -> None:
    """On long tables the banner, which every page asks for, must not read them through."""
    statements: list[tuple[str, Any]] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
    client.get("/health")
    client.get("/events")
    looks = [(sql, values) for sql, values in statements if "FROM event" in sql or "FROM delivery" in sql]
    assert looks
    explain = "EXPLAIN " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
        for sql, values in looks:
            plan = str(connection.exec_driver_sql(explain + sql, values).all())
            assert not re.search(r"Seq Scan on (event|delivery)|SCAN (event|delivery)(?! USING)", plan), (sql, plan)


# metrics


def test_prometheus_reads_what_the_health_page_shows(app: Flask, engine: Engine, settings: Settings) -> None:
    beat(engine, "bot.answer", ago=5)
    beat(engine, "bot.deliver", problem="VK does not answer")
    for cmid in (1, 2):
        add_event(engine, cmid)
    add_event(engine, 3, error=None)
    add_answer(engine, add_conversation(engine), DeliveryState.HELD)
    shown = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {settings.secret('metrics_token')}"})
    assert shown.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(shown.text)}
    assert all(family.documentation and family.type == "gauge" for family in families.values())
    values = {(name, *s.labels.values()): s.value for name, family in families.items() for s in family.samples}
    assert values["desk_ready",] == 1
    assert values["desk_queue_length", "events"] == 1
    assert values["desk_queue_oldest_seconds", "outbox"] == 0
    assert values["desk_events_set_aside",] == 2
    assert values["desk_deliveries_held",] == 1
    assert (values["desk_loop_works", "bot.answer"], values["desk_loop_works", "bot.deliver"]) == (1, 0)
    assert values["desk_loop_seen_seconds", "bot.answer"] >= 5
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    unready = app.test_client().get("/metrics", headers={"Authorization": f"Bearer {settings.secret('metrics_token')}"})
    assert [line for line in unready.text.splitlines() if line[0] != "#"] == ["desk_ready 0.0"]


@on_sqlite
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Bearer wröng", "Basic {}", "{}"])
def test_the_figures_are_nobody_elses(client: FlaskClient, settings: Settings, given: str) -> None:
    headers = {"Authorization": given.format(settings.secret("metrics_token"))}
    refused = client.get("/metrics", headers=headers)  # not even an admin's session shows them
    assert (refused.status_code, "desk_" in refused.text) == (401, False)


# connect VK


def check(name: str, *, right: bool) -> dict[str, Any]:
    said = {"en": {"text": f"<{name}>", "cure": None if right else "Switch it on"}}
    return {"name": name, "right": right, **said, "ru": {"text": f"«{name}»", "cure": None if right else "Включите"}}


@on_sqlite
def test_without_a_bot_there_is_nothing_to_connect(client: FlaskClient) -> None:
    assert client.get("/connect").status_code == 404
    assert "/connect" not in client.get("/account").text


@on_sqlite
def test_what_the_bot_found_is_shown_with_its_cures_and_asked_for_again(client: FlaskClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        found = [check("key", right=True), check("messages", right=False)]
        session.add(Checkup(name="vk", asked_at=now() - timedelta(hours=1), done_at=now() - timedelta(hours=1), found=found))
    page = client.get("/connect").text
    assert 'href="/connect"' in client.get("/account").text
    assert re.findall(r'data-right="(\w+)"', page) == ["yes", "no"]
    assert page.count("Switch it on") == 1
    assert "&lt;messages&gt;" in page
    seen = etag(page, "connect")
    assert client.get("/connect", headers={"If-None-Match": seen, "HX-Request": "true"}).status_code == 304
    assert post(client, "/connect").location == "/connect"
    waits = client.get("/connect", headers={"If-None-Match": seen, "HX-Request": "true"})
    assert (waits.status_code, "The bot is looking" in waits.text, "<html" in waits.text) == (200, True, False)
    with Session(engine) as session, session.begin():
        row = session.get_one(Checkup, "vk")
        assert row.done_at is not None
        assert row.asked_at > row.done_at
        row.done_at, row.found = now(), [check("messages", right=True)]
    assert "Looked at" in client.get("/connect").text
    post(client, "/account", name="Admin", language="ru")
    assert "«messages»" in client.get("/connect").text


# set aside


def test_a_set_aside_event_is_shown_with_all_that_is_known(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, first_name="Анна")
    add_event(engine, text="<script>alert(1)</script>", error="<b>broken</b>")
    page = client.get("/events").text
    assert f'<a href="/conversations/{number}?view=all">Анна</a>' in page
    assert "&lt;b&gt;broken&lt;/b&gt;" in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2  # as a text, and within the JSON
    assert "&#34;conversation_message_id&#34;: 1" in page
    assert "<script>alert" not in page
    assert re.search(r'id="set-aside"[^>]*>1<', client.get("/").text)


def test_odd_events_are_shown_too(client: FlaskClient, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        add_events(session, ["no object", {"type": "message_new", "object": {"message": {"text": ["x"]}}}, {"type": None}])
    page = client.get("/events").text
    assert page.count('data-event="') == 3
    assert "not in VK&#39;s form" in page


def test_run_again_wakes_the_bot(client: FlaskClient, engine: Engine) -> None:
    number, other = add_event(engine), add_event(engine, 2)
    with Waiter(engine, Channel.EVENTS) as waiter:
        assert post(client, f"/events/{number}/again?before=99").location == "/events?before=99"
        waiter.wait(10)
    row = get_event(engine, number)
    assert (row.state, row.error, row.attempts, row.done_at, row.peer_id) == (EventState.NEW, None, 0, None, 1)
    assert get_event(engine, other).state == EventState.FAILED
    assert post(client, f"/events/{number}/again").status_code == 404  # it is the bot's now
    assert post(client, f"/events/{number}/dismiss").status_code == 404


def test_what_cannot_be_read_stays_set_aside(client: FlaskClient, engine: Engine) -> None:
    number = add_event(engine)
    with engine.begin() as connection:
        connection.execute(update(Event).values(raw={"type": "message_new", "object": {}}, error="old"))
    post(client, f"/events/{number}/again")
    row = get_event(engine, number)
    assert row.state == EventState.FAILED
    assert str(row.error).startswith("not in VK's form")


def test_what_can_be_read_now_finds_its_peer(client: FlaskClient, engine: Engine) -> None:
    number = add_event(engine)
    with engine.begin() as connection:
        connection.execute(update(Event).values(type="unreadable", peer_id=None))
    post(client, f"/events/{number}/again")
    row = get_event(engine, number)
    assert (row.type, row.peer_id, row.state) == ("message_new", 1, EventState.NEW)


def test_all_are_run_again_and_what_fails_again_stays(
    client: FlaskClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.events.AT_ONCE", 2)
    for cmid in range(1, 6):
        add_event(engine, cmid)
    with engine.begin() as connection:
        connection.execute(update(Event).where(Event.id == 2).values(raw={"type": "message_new", "object": {}}))
    with Waiter(engine, Channel.EVENTS) as waiter:
        assert post(client, "/events/again").location == "/events"
        waiter.wait(10)
    states = [get_event(engine, number).state for number in range(1, 6)]
    assert states == [EventState.NEW, EventState.FAILED, *[EventState.NEW] * 3]
    with Session(engine) as session:
        told = session.scalars(select(Audit).where(Audit.action == "event.again")).one()
        assert told.details == {"count": 5}


def test_what_is_done_with_an_event_is_told(client: FlaskClient, engine: Engine) -> None:
    first, second = add_event(engine), add_event(engine, 2)
    post(client, f"/events/{first}/again")
    post(client, f"/events/{second}/dismiss")
    with Session(engine) as session:
        told = session.execute(select(Audit.action, Audit.target, Audit.operator_id).order_by(Audit.id)).all()
    assert told[1:] == [("event.again", f"event {first}", 1), ("event.dismiss", f"event {second}", 1)]


@pytest.mark.parametrize("role", Role)
def test_who_may_dismiss(app: Flask, engine: Engine, role: Role) -> None:
    with engine.begin() as connection:
        connection.execute(update(Operator).values(role=role))
    client, number = signed_in(app), add_event(engine)
    allowed = role != Role.OPERATOR
    assert ("/dismiss" in client.get("/events").text) == allowed
    assert post(client, f"/events/{number}/dismiss").status_code == (303 if allowed else 403)
    row = get_event(engine, number)
    assert (row.state, row.error) == (EventState.DONE if allowed else EventState.FAILED, "KeyError: 'topics'")
    assert post(client, f"/events/{add_event(engine, 2)}/again").status_code == 303


def test_pages_of_events_lose_and_repeat_nothing(client: FlaskClient, engine: Engine) -> None:
    numbers = [add_event(engine, cmid) for cmid in range(1, 46)]
    address, seen = "/events", []
    while True:
        page = client.get(address).text
        seen += [int(number) for number in re.findall(r'data-event="(\d+)"', page)]
        older = re.search(r'href="([^"]+)">Older', page)
        if not older:
            break
        address = older[1]
    assert seen == numbers[::-1]
    for wrong in ("x", "-1", "1'", "9" * 19, "%D9%A1"):
        assert client.get(f"/events?before={wrong}").status_code == 404


@pytest.mark.parametrize("number", ["0", "9" * 19, "1'", "-1"])
def test_an_event_that_does_not_exist_is_not_found(client: FlaskClient, number: str) -> None:
    assert post(client, f"/events/{number}/again").status_code == 404


# sending again


def test_refused_parts_are_sent_again_under_another_number(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    message = add_answer(engine, number, DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.HELD)
    before = parts(engine)
    assert f"/conversations/{number}/messages/{message.id}/again" in client.get(f"/conversations/{number}").text
    with Waiter(engine, Channel.OUTBOX) as waiter:
        response = post(client, f"/conversations/{number}/messages/{message.id}/again?view=all")
        waiter.wait(10)
    assert (response.status_code, response.location) == (303, f"/conversations/{number}?view=all")
    sent, refused, held = parts(engine)
    assert (sent.state, sent.random_id) == (DeliveryState.SENT, before[0].random_id)
    assert (refused.state, refused.attempts, refused.first_tried_at) == (DeliveryState.PENDING, 0, None)
    assert (refused.error, refused.error_code) == (None, None)
    assert refused.random_id != before[1].random_id
    assert refused.next_try_at <= now()
    assert (held.state, held.random_id) == (DeliveryState.HELD, before[2].random_id)


def test_what_vk_may_have_is_sent_again_only_when_asked_twice_and_under_its_number(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    message = add_answer(engine, number, DeliveryState.HELD)
    address, (before,) = f"/conversations/{number}/messages/{message.id}/again", parts(engine)
    page = client.get(f"/conversations/{number}").text
    assert re.search(r'<details>\s*<summary>Send again.*name="held" value="yes".*Send all the same', page, re.DOTALL)
    post(client, address)
    assert parts(engine)[0].state == DeliveryState.HELD
    post(client, address, held="yes")
    (after,) = parts(engine)
    # the bot holds what was tried long ago: it must look untried
    assert (after.state, after.first_tried_at, after.random_id) == (DeliveryState.PENDING, None, before.random_id)


def test_another_conversations_answer_is_not_sent_again(client: FlaskClient, engine: Engine) -> None:
    number, other = add_conversation(engine), add_conversation(engine)
    message = add_answer(engine, number, DeliveryState.FAILED)
    for address in (f"{other}/messages/{message.id}", f"{number}/messages/999", f"{number}/messages/{'9' * 19}"):
        assert post(client, f"/conversations/{address}/again").status_code == 404
    assert parts(engine)[0].state == DeliveryState.FAILED


def test_what_is_sent_or_on_its_way_is_left_alone(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    states = (DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.SENDING)
    message = add_answer(engine, number, *states)
    assert "Send again" not in client.get(f"/conversations/{number}").text
    before = [(part.state, part.random_id, part.attempts) for part in parts(engine)]
    post(client, f"/conversations/{number}/messages/{message.id}/again", held="yes")
    assert [(part.state, part.random_id, part.attempts) for part in parts(engine)] == before


# attachments


@pytest.mark.parametrize(("app_env", "seen"), [("development", True), ("production", False)])
def test_the_sandboxs_pictures_are_seen_in_development_only(settings: Settings, engine: Engine, app_env: str, seen: bool) -> None:
    app = create_app(settings.model_copy(update={"app_env": app_env, "app_language": "en"}))
    number = add_conversation(engine)
    urls = ("http://127.0.0.1:8002/photo/1/k", "http://127.0.0.1.evil.example/x", "http://localhost@evil.example/x")
    photos: list[Any] = [{"type": "photo", "photo": {"sizes": [{"width": 500, "url": url}]}} for url in urls]
    with Session(engine) as session, session.begin():
        session.scalars(select(Message)).one().attachments = photos
    response = signed_in(app).get(f"/conversations/{number}")
    assert ('src="http://127.0.0.1:8002/photo/1/k"' in response.text) == seen
    assert "evil.example" not in response.text
    (images,) = re.findall(r"img-src ([^;]*)", response.headers["Content-Security-Policy"])
    assert images == "'self' data: https:" + (" http://127.0.0.1:* http://localhost:*" if seen else "")
    app.extensions["engine"].dispose()


def test_files_have_their_size_and_other_kinds_a_word(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    address = "https://vk.com/doc1_2"
    sizes = {"a.txt": 900, "b.pdf": 1_600_000, "c.zip": 123_456, "odd": "big", "odder": -1}
    kinds = ("audio_message", "sticker", "video", "poll")
    files: list[Any] = [{"type": "doc", "doc": {"title": name, "size": size, "url": address}} for name, size in sizes.items()]
    with Session(engine) as session, session.begin():
        session.scalars(select(Message)).one().attachments = files + [{"type": kind, kind: {}} for kind in kinds]
    page = client.get(f"/conversations/{number}").text
    found = re.findall(r">([^<>]+)</a>(?: <small>([^<]+)</small>)?</p>", page)
    assert found == [("a.txt", "900 byte"), ("b.pdf", "1.5 MB"), ("c.zip", "121 kB"), ("odd", ""), ("odder", "")]
    for word in ("Voice message", "Sticker", "Video", "Poll"):
        assert f'<p class="none">{word}</p>' in page


# the contract with the bot, whose words the cures are found by


def test_the_cures_are_found_by_the_bots_own_words() -> None:
    vk = pytest.importorskip("app.bot.vk", reason="this project has no bot")
    assert str(vk._refusal(5, "x")).startswith(TOKEN)
    line = vk.Vk(make_settings())
    errors = (TimeoutError(), vk.ApiHttpError(None, None, None, None, _Status()))
    said = [str(line._no_answer("x", error)) for error in errors]
    assert all(any(line.startswith(start) for start in CURES) for line in said)


class _Status:
    status_code = 502


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_role_of_the_service_may_do_all_this(settings: Settings, engine: Engine) -> None:
    with as_role(settings, "web", vk_transport="callback", vk_callback_confirmation="c") as app:
        number, first, second = add_conversation(engine), add_event(engine, 1), add_event(engine, 2)
        message = add_answer(engine, number, DeliveryState.FAILED)
        client = signed_in(app)
        for address in (
            f"/events/{first}/again",
            f"/events/{second}/dismiss",
            f"/conversations/{number}/messages/{message.id}/again",
        ):
            assert post(client, address).status_code == 303, address
        someone = {"login": "maria", "name": "M", "role": "operator", "vk_id": "", "language": ""}
        assert post(client, "/operators", **someone).status_code == 201
        for address, form in {
            "/operators/2/deactivate": {},
            "/canned-answers": {"shortcut": "x", "text": "x"},
            "/canned-answers/1/delete": {},
            "/connect": {},
            "/account/sessions/end": {},
        }.items():
            assert post(client, address, **form).status_code == 303, address
        assert client.get("/audit").status_code == 200
        assert client.get("/health").status_code == 200
        told = {"type": "group_join", "group_id": 1, "object": {}, "secret": settings.secret("vk_callback_secret")}
        assert client.post("/vk/callback", json=told).text == "ok"
