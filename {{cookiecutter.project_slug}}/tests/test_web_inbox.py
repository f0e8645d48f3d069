"""The list of conversations: what is found in it, page by page, and that no change of what it shows is missed."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, select, update
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.models import Conversation, ConversationStatus, Operator, Person, now
from tests.conftest import on_sqlite
from tests.test_web import add_conversation, add_operator, app, client, etag, shown

__all__ = ["app", "client"]  # the same fixtures


def found(client: FlaskClient, words: str, more: str = "&view=all") -> list[int]:
    return shown(client.get(f"/?q={quote(words)}{more}"))


def test_words_are_found_in_any_message_and_in_names_whatever_their_case(client: FlaskClient, engine: Engine) -> None:
    anna, oleg = add_conversation(engine, "Где мой ЗАКАЗ?"), add_conversation(engine, "Hello", first_name="Олег")
    with Session(engine) as session, session.begin():
        row = session.get_one(Conversation, anna)
        desk.answer(session, row, "Заказ уже в пути", operator=session.get_one(Operator, 1))
        desk.receive(session, row, "Спасибо")
        assert row.person
        row.person.last_name = "Заказникова"
    assert found(client, "закАз") == [anna]
    assert found(client, "в пути") == [anna]
    assert found(client, "анна заказник") == [anna]
    assert found(client, "ОЛЕГ") == [oleg]
    assert found(client, "hELLO") == [oleg]
    assert found(client, "где пути") == []  # all of them in one message
    assert found(client, "анна", "&view=mine") == []


def test_a_search_is_for_what_is_written_and_nothing_else(client: FlaskClient, engine: Engine) -> None:
    add_conversation(engine, "nothing of it: 1000 axb cxd its")
    for words in ("100%", "a_b", "c\\d", "it's", "%%%", "'; DROP TABLE person; --", ":word0 %(word0)s", "{0} %s", "a\0bc"):
        plain = words.replace("\0", "")
        number = add_conversation(engine, f"here {plain} is")
        assert found(client, words) == [number]
        assert f'value="{plain}"'.replace("'", "&#39;") in client.get(f"/?view=all&q={quote(words)}").text


@on_sqlite
def test_a_search_needs_three_letters(client: FlaskClient, engine: Engine) -> None:
    add_conversation(engine, "да нет")
    assert "Too short" in client.get("/?view=all&q=да не").text
    assert found(client, "да нет") == [1]
    assert "Nothing is found" in client.get("/?q=доставка").text


@on_sqlite
def test_the_topic_narrows_the_list_and_all_topics_are_offered(client: FlaskClient, engine: Engine) -> None:
    first, second, third = (add_conversation(engine, "вопрос", topic=topic) for topic in ("Оплата", "Доставка & <b>", "Оплата"))
    add_conversation(engine, "вопрос")
    options = client.get("/").text.split('name="topic"')[1].split("</select>")[0]
    assert re.findall(r"<option[^>]*>([^<]+)</option>", options) == ["All topics", "Доставка &amp; &lt;b&gt;", "Оплата"]
    assert shown(client.get("/?topic=Оплата")) == [third, first]
    assert found(client, "вопрос", f"&topic={quote('Доставка & <b>')}") == [second]


def test_pages_of_a_search_lose_and_repeat_nothing(client: FlaskClient, engine: Engine) -> None:
    at = now()
    with Session(engine) as session, session.begin():
        for n in range(1, 131):
            # some by what was said, some by the name, some by both, some not at all
            name = "Иголкин" if n % 3 == 0 else "Сенов"
            row = Conversation(peer_id=n, person=Person(vk_id=n, first_name=name), topic="Оплата")
            session.add(row)
            session.flush()
            desk.receive(session, row, "ищу иголку" if n % 2 == 0 else "сено")
            row.last_message_at = at - timedelta(minutes=n // 40)
        expected = [n for n in range(130, 0, -1) if n % 2 == 0 or n % 3 == 0]
        expected.sort(key=lambda n: (-(n // 40), n), reverse=True)
    address, seen = f"/?view=all&q={quote('ИГОЛК')}&topic={quote('Оплата')}", []
    while True:
        page = client.get(address)
        seen.append(shown(page))
        older = re.search(r'href="([^"]+)">Older', page.text)
        if not older:
            break
        address = older[1].replace("&amp;", "&")
    assert [len(rows) for rows in seen] == [50, len(expected) - 50]
    assert [row for rows in seen for row in rows] == expected


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_a_search_finds_its_indexes(client: FlaskClient, app: Flask, engine: Engine) -> None:
    add_conversation(engine, "игла")
    statements: list[tuple[str, Any]] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
    assert found(client, "игла") == [1]
    (search,) = [statement for statement in statements if "message.text" in statement[0] and "aggregate" not in statement[0]][-1:]
    with engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        plan = str(connection.exec_driver_sql("EXPLAIN " + search[0], search[1]).all())
    assert "ix_message_words" in plan or "ix_message_conversation_id" in plan
    assert "ix_person_words" in plan or "pk_person" in plan
    with engine.connect() as connection:  # alone each of them is the way
        connection.exec_driver_sql("SET enable_seqscan = off")
        explain = "EXPLAIN SELECT id FROM"
        for table, text in {"message": "text", "person": "first_name || ' ' || last_name"}.items():
            plan = str(connection.exec_driver_sql(f"{explain} {table} WHERE lower({text}) LIKE '%%игла%%'").all())
            assert f"ix_{table}_words" in plan


@on_sqlite
def test_the_address_keeps_everything_on_the_way(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, "вопрос & ответ", topic="Оплата")
    query = f"?view=all&q={quote('вопрос')}+%26+{quote('ответ')}&topic={quote('Оплата')}"
    page = client.get(f"/{query}").text.replace("&amp;", "&")
    assert f'href="/conversations/{number}{query}"' in page
    assert f'href="/{query.replace("all", "closed")}"' in page
    assert f'hx-get="/inbox{query}"' in page
    page = client.get(f"/conversations/{number}{query}").text.replace("&amp;", "&")
    assert f'action="/conversations/{number}/answers{query}"' in page
    assert f'class="back" href="/{query}"' in page


# 304: each kind of change that the list shows is news


CHANGES: dict[str, Any] = {
    "a message": lambda session, row: desk.receive(session, row, "ещё"),
    "an answer": lambda session, row: desk.answer(session, row, "ответ", operator=session.get_one(Operator, 1)),
    "read": lambda _session, row: setattr(row, "unread", 0),
    "a topic": lambda _session, row: setattr(row, "topic", "Оплата"),
    "taken": lambda _session, row: setattr(row, "assignee_id", 1),
    "closed": lambda _session, row: desk.close(row),
    "a name": lambda _session, row: setattr(row.person, "last_name", "Каренина"),
    "the name of who has it": lambda session, _row: session.execute(update(Operator).where(Operator.id == 2).values(name="M.")),
    "somebody new": lambda session, _row: session.add(Conversation(peer_id=99, status=ConversationStatus.OPEN)),
    "somebody gone": lambda session, _row: session.execute(update(Conversation).values(status=ConversationStatus.BOT)),
}


def test_every_change_of_what_the_list_shows_is_news(client: FlaskClient, engine: Engine) -> None:
    add_operator(engine, "maria")
    number = add_conversation(engine)
    add_conversation(engine, assignee_id=2)

    def news(known: str) -> int:
        return client.get("/inbox?view=all", headers={"If-None-Match": known}).status_code

    for name, change in CHANGES.items():
        known = etag(client.get("/?view=all").text, "inbox")
        assert news(known) == 304
        with Session(engine) as session, session.begin():
            change(session, session.get_one(Conversation, number))
        assert news(known) == 200, name


@on_sqlite
def test_the_counts_beside_the_tabs_are_news_too(client: FlaskClient, engine: Engine) -> None:
    known = etag(client.get("/?view=closed").text, "inbox")
    add_conversation(engine)
    assert client.get("/inbox?view=closed", headers={"If-None-Match": known}).status_code == 200


@on_sqlite
def test_a_poll_without_news_asks_two_questions(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_conversation(engine)
    page = client.get(f"/conversations/{number}?view=all").text
    statements: list[str] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append(args[2]))
    since = re.search(r"thread\?view=all&amp;since=(\d+)", page)
    assert since
    for address, part in {"/inbox?view=all": "inbox", f"/conversations/{number}/thread?since={since[1]}": "latest"}.items():
        statements.clear()
        assert client.get(address, headers={"If-None-Match": etag(page, part)}).status_code == 304
        assert sum(statement.startswith("SELECT") for statement in statements) == 2, address  # who asks, and what there is


@on_sqlite
def test_a_page_of_the_past_looks_at_nothing_that_came_later(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_conversation(engine)
    statements: list[str] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert "Привет" in client.get(f"/conversations/{number}?until=1000").text
    assert not [each for each in statements if "group_concat" in each and "delivery" in each]


def test_the_seen_row_is_no_news_of_an_older_page(client: FlaskClient, engine: Engine) -> None:
    """A page of old conversations stays as it is when a new one comes, but for the counts."""
    at = now()
    with Session(engine) as session, session.begin():
        session.add_all(Conversation(peer_id=n, last_message_at=at - timedelta(days=n)) for n in range(1, 61))
    older = re.search(r'href="/(\?[^"]+)">Older', client.get("/?view=all").text)
    assert older
    query = older[1].replace("&amp;", "&")
    known = etag(client.get(f"/{query}").text, "inbox")
    with Session(engine) as session, session.begin():
        session.add(Conversation(peer_id=100))
    assert client.get(f"/inbox{query}", headers={"If-None-Match": known}).status_code == 304
    with Session(engine) as session, session.begin():
        last = session.scalars(select(Conversation).where(Conversation.peer_id == 60)).one()
        last.topic = "x"
    assert client.get(f"/inbox{query}", headers={"If-None-Match": known}).status_code == 200
