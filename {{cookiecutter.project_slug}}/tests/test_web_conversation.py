"""What operators do in a conversation: assign, name, note, send files; and what they see of a person."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, select, update
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage import desk
from app.storage.models import (
    Audit,
    CannedAnswer,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    File,
    Message,
    Note,
    Operator,
    Person,
)
from app.web import files
from tests.conftest import on_sqlite
from tests.test_web import add_conversation, add_operator, app, as_role, client, etag, post, read, signed_in, token

__all__ = ["app", "client"]  # the same fixtures
PNG = b"\x89PNG\r\n\x1a\n...."


def audited(engine: Engine) -> list[tuple[str, str | None, dict[str, Any]]]:
    """What operators did to conversations, by the trail."""
    with Session(engine) as session:
        rows = session.scalars(select(Audit).where(Audit.action.startswith("conversation.")).order_by(Audit.id))
        return [(row.action.removeprefix("conversation."), row.target, row.details) for row in rows]


def test_a_conversation_is_assigned_taken_away_and_given_back(client: FlaskClient, engine: Engine) -> None:
    maria = add_operator(engine, "maria")
    number = add_conversation(engine, status=ConversationStatus.BOT)
    assert f'<option value="{maria}" >Maria</option>' in client.get(f"/conversations/{number}").text
    response = post(client, f"/conversations/{number}/assign?view=all&q=x", operator=maria)
    assert response.location == f"/conversations/{number}?view=all&q=x"
    row = read(engine, number)
    assert (row.status, row.assignee_id) == (ConversationStatus.OPEN, maria)
    assert f'<option value="{maria}" selected>' in client.get(f"/conversations/{number}").text
    post(client, f"/conversations/{number}/assign", operator="")
    row = read(engine, number)
    assert (row.status, row.assignee_id) == (ConversationStatus.OPEN, None)
    post(client, f"/conversations/{number}/close")
    post(client, f"/conversations/{number}/assign", operator="")  # nobody has it already, and it stays closed
    assert read(engine, number).status == ConversationStatus.CLOSED
    target = f"conversation {number}"
    assert audited(engine) == [
        ("assign", target, {"to": maria}),
        ("assign", target, {"to": None}),
        ("close", target, {}),
    ]


@on_sqlite
@pytest.mark.parametrize("colleague", ["99", "9" * 18, "9" * 30, "1'", "-1", "gone"])
def test_who_does_not_work_here_gets_nothing(client: FlaskClient, engine: Engine, colleague: str) -> None:
    if colleague == "gone":
        colleague = str(add_operator(engine, "gone"))
        with engine.begin() as connection:
            connection.execute(update(Operator).where(Operator.login == "gone").values(active=False))
    number = add_conversation(engine)
    assert post(client, f"/conversations/{number}/assign", operator=colleague).status_code == 400
    assert read(engine, number).assignee_id is None
    assert audited(engine) == []


@on_sqlite
def test_a_topic_is_set_and_taken_away(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    for topic, kept in [("  Где\n заказ? ", "Где заказ?"), ("Где заказ?", "Где заказ?"), ("x" * 300, "x" * 100), (" ", None)]:
        assert post(client, f"/conversations/{number}/topic", topic=topic).status_code == 303
        assert read(engine, number).topic == kept
    assert [details["topic"] for _action, _target, details in audited(engine)] == ["Где заказ?", "x" * 100, ""]


def test_a_note_stands_where_it_was_written_and_is_never_sent(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, "первое")
    before = read(engine, number)
    for note in ("<b>заметка</b>", "<b>заметка</b>", "другая"):
        assert post(client, f"/conversations/{number}/notes", note=note, key="k").status_code == 303
    with Session(engine) as session, session.begin():
        desk.receive(session, session.get_one(Conversation, number), "второе")
        assert session.scalars(select(Note.text).order_by(Note.id)).all() == ["<b>заметка</b>", "другая"]
        assert session.scalar(select(Delivery.id)) is None
        assert session.scalar(select(Message.id).where(Message.text.contains("заметка"))) is None
    after = read(engine, number)
    assert (before.status, before.assignee_id, before.unread + 1) == (after.status, after.assignee_id, after.unread)
    page = client.get(f"/conversations/{number}").text
    order = re.findall(r'<article id="([a-z]+)-\d+" data-direction="(\w+)"', page)
    assert order == [("message", "in"), ("note", "note"), ("note", "note"), ("message", "in")]
    assert "&lt;b&gt;заметка&lt;/b&gt;" in page
    assert [action for action, _target, _details in audited(engine)] == ["note", "note"]
    assert post(client, f"/conversations/{number}/notes", note=" ").status_code == 400


@on_sqlite
def test_notes_stay_with_their_page_of_messages(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine, "no0")
    with Session(engine) as session, session.begin():
        session.add_all(Message(conversation_id=number, direction="in", author="person", text=f"no{n}") for n in range(1, 110))
        session.flush()
        for after in (0, 1, 60, 61, 110):
            session.add(Note(conversation_id=number, after_id=after, operator_id=1, text=f"note{after}."))
    address, seen = f"/conversations/{number}", []
    while True:
        page = client.get(address).text
        seen.append(re.findall(r"note(\d+)\.", page))
        earlier = re.search(r'class="earlier" href="([^"]+)"', page)
        if not earlier:
            break
        address = earlier[1].replace("&amp;", "&")
    assert seen == [["61", "110"], ["60"], ["0", "1"]]


THREAD: dict[str, Any] = {
    "a message": lambda session, row: desk.receive(session, row, "ещё"),
    "an answer": lambda session, row: desk.answer(session, row, "ответ"),
    "its delivery": lambda session, _row: session.execute(update(Delivery).values(state=DeliveryState.SENT)),
    "its refusal": lambda session, _row: session.execute(update(Delivery).values(state=DeliveryState.FAILED, error="no")),
    "the reason": lambda session, _row: session.execute(update(Delivery).values(error_code=901)),
    "a note": lambda session, row: session.add(Note(conversation_id=row.id, after_id=1, operator_id=1, text="x")),
    "a topic": lambda _session, row: setattr(row, "topic", "Оплата"),
    "a colleague": lambda _session, row: setattr(row, "assignee_id", 1),
    "a name": lambda _session, row: setattr(row.person, "last_name", "Каренина"),
    "no way to write": lambda _session, row: setattr(row.person, "reachable", False),
    "its picture": lambda session, _row: session.execute(
        update(Message).where(Message.id == 1).values(attachments=[{"type": "gift", "gift": {}}])
    ),
    "the end": lambda _session, row: desk.close(row),
}


def test_every_change_of_what_the_thread_shows_is_news(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    address = f"/conversations/{number}/thread?since=0"

    def news(known: str) -> int:
        return client.get(address, headers={"If-None-Match": known}).status_code

    for name, change in THREAD.items():
        known = etag(client.get(f"/conversations/{number}").text, "latest")
        assert news(known) == 304
        with Session(engine) as session, session.begin():
            change(session, session.get_one(Conversation, number))
        assert news(known) == 200, name
    known = etag(client.get(f"/conversations/{number}").text, "latest")
    post(client, f"/conversations/{number}/read", seen=read(engine, number).unread)
    assert news(known) == 304  # when this very page marks its messages as read, nothing on it changes


# canned answers


@on_sqlite
def test_canned_answers_are_offered_and_written_without_scripts(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    with Session(engine) as session, session.begin():
        session.add_all([CannedAnswer(shortcut="b", text='<"b">'), CannedAnswer(shortcut="a", text="Первая\nвторая")])
    page = client.get(f"/conversations/{number}").text
    assert re.findall(r'<option value="([ab])" data-text="([^"]+)"', page) == [
        ("a", "Первая\nвторая"),
        ("b", "&lt;&#34;b&#34;&gt;"),
    ]
    written = post(client, f"/conversations/{number}/draft", text="Начало", canned="b")
    assert written.status_code == 200
    assert re.search(r"<textarea[^>]*>([^<]*)<", written.text).group(1) == "Начало\n&lt;&#34;b&#34;&gt;"  # type: ignore[union-attr]
    nothing = post(client, f"/conversations/{number}/draft", text="Начало", canned="nothing")
    assert ">Начало</textarea>" in nothing.text


# files


def send(client: FlaskClient, number: int, *posted: tuple[str, bytes], **data: Any) -> Any:
    files_ = [(io.BytesIO(content), name) for name, content in posted]
    form = {"csrf_token": token(client), "text": "", "key": "k", "files": files_} | data
    return client.post(f"/conversations/{number}/answers", data=form, content_type="multipart/form-data")


def test_files_are_kept_for_the_thread_and_for_the_bot(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    for _ in range(2):  # sent twice, stored once
        assert send(client, number, ("../../снимок.PNG", PNG), ("a/счёт.pdf", b"%PDF-1"), text="Вот").status_code == 303
    with Session(engine) as session:
        deliveries = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        assert [(row.text, row.upload) for row in deliveries] == [
            ("Вот", {"kind": "photo", "name": "снимок.PNG", "data": "iVBORw0KGgouLi4u", "file": 1, "size": 12}),
            ("", {"kind": "doc", "name": "счёт.pdf", "data": "JVBERi0x", "file": 2, "size": 6}),
        ]
        assert session.scalars(select(File.type).order_by(File.id)).all() == ["image/png", "application/pdf"]
    assert read(engine, number).last_message_text == "счёт.pdf"
    page = client.get(f"/conversations/{number}").text
    assert '<a class="picture" href="/files/1"' in page
    assert '<img src="/files/1" alt="снимок.PNG"' in page
    assert re.search(r'<a href="/files/2"[^>]*>счёт.pdf</a> <small>6 byte', page)
    assert audited(engine) == [("answer", f"conversation {number}", {"message": 2, "files": 2})]


@on_sqlite
def test_a_file_is_served_inert_and_to_operators_only(client: FlaskClient, app: Flask, engine: Engine) -> None:
    send(client, add_conversation(engine), ("счёт; x=1.txt", b"<script>alert(1)</script>"))
    response = client.get("/files/1")
    assert response.data == b"<script>alert(1)</script>"
    assert response.mimetype == "text/plain"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert client.get("/files/1", headers={"If-None-Match": response.headers["ETag"]}).status_code == 304
    assert client.get("/files/2").status_code == 404
    assert app.test_client().get("/files/1", headers={"If-None-Match": response.headers["ETag"]}).status_code == 302


@on_sqlite
def test_what_may_not_be_sent_is_refused_by_its_content(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    bad = {
        "page.html": b"<script>",
        "picture.svg": b"<svg onload=alert(1)>",
        "picture.png": b"<script>alert(1)</script>",
        "picture.jpg": PNG,
        "document.pdf": b"MZ\x90\x00",
        "program.exe": b"MZ\x90\x00",
        "table.xlsx": b"\xd0\xcf\x11\xe0",
        "text.txt": b"a\x00b",
        "empty.txt": b"",
        "png": PNG,
        ".htaccess": b"x",
        "a.png.html": PNG,
    }
    for name, content in bad.items():
        response = send(client, number, (name, content), text="набрано")
        assert (response.status_code, f"{name} cannot be sent" in response.text) == (400, True), name
    assert send(client, number, *[("a.txt", b"x")] * (files.COUNT_LIMIT + 1)).status_code == 400
    large = send(client, number, ("a.txt", b"x" * (files.SIZE_LIMIT + 1)))
    assert (large.status_code, "larger than 5 MB" in large.text) == (400, True)
    assert send(client, number, ("a.txt", b"x" * files.REQUEST_LIMIT)).status_code == 413
    with Session(engine) as session:
        assert session.scalar(select(File.id)) is None
        assert session.scalar(select(Delivery.id)) is None
    assert send(client, number, ("", b""), text="").status_code == 400  # a field left empty is no file


@on_sqlite
def test_nobody_else_may_post_as_much(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_conversation(engine)
    for other, address in ((app.test_client(), "answers"), (client, "notes")):
        big = {"files": [(io.BytesIO(b"x" * 600_000), "a.txt")]}
        response = other.post(f"/conversations/{number}/{address}", data=big, content_type="multipart/form-data")
        assert response.status_code == 413


@pytest.mark.parametrize(
    "name", ["ok.png", "имя файла.txt", "a\u202egnp.txt", "a\r\nX-Evil: 1.txt", "c:\\a\\b.txt", "x" * 300 + ".txt"]
)
def test_names_of_files_are_made_plain(name: str) -> None:
    upload = files.check(f"/etc/{name}", PNG if name.endswith("png") else b"text")
    assert len(upload.name) <= files.NAME_LIMIT
    assert not re.search(r"[/\\\r\n\u202e]", upload.name)
    assert Path(upload.name).suffix == Path(name).suffix


# a person


def test_the_page_of_a_person_shows_all_there_is(client: FlaskClient, app: Flask, engine: Engine) -> None:
    number = add_conversation(engine, "раз", first_name="<i>Анна", topic="Оплата")
    post(client, f"/conversations/{number}/notes", note="звонила <b>", key="k")
    with Session(engine) as session, session.begin():
        row = session.get_one(Conversation, number)
        desk.receive(session, row, "два")
        assert row.person
        person, vk_id = row.person_id, row.person.vk_id
    assert f'<a href="/people/{person}?view=all">' in client.get(f"/conversations/{number}?view=all").text
    page = client.get(f"/people/{person}").text
    for words in (
        "&lt;i&gt;Анна",
        f"https://vk.com/id{vk_id}",
        "2 messages",
        "звонила &lt;b&gt;",
        f"/conversations/{number}",
        ">yes<",
    ):
        assert words in page
    assert "<i>Анна" not in page
    with engine.begin() as connection:
        connection.execute(update(Person).values(reachable=False))
    assert "forbidden the community" in client.get(f"/people/{person}").text
    statements: list[str] = []
    event.listen(app.extensions["engine"], "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert client.get(f"/people/{person}").status_code == 200
    assert sum(statement.startswith("SELECT") for statement in statements) == 7
    assert client.get("/people/999").status_code == 404


@on_sqlite
def test_sending_again_is_on_the_trail(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    with Session(engine) as session, session.begin():
        message = desk.answer(session, session.get_one(Conversation, number), "ответ")
        message.deliveries[0].state = DeliveryState.FAILED
        message_id = message.id
    post(client, f"/conversations/{number}/messages/{message_id}/again")
    assert audited(engine) == [("send_again", f"conversation {number}", {"message": message_id})]


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_role_of_the_service_may_do_all_this(settings: Settings, engine: Engine) -> None:
    number = add_conversation(engine)
    with as_role(settings, "web") as app:
        client = signed_in(app)
        for action, data in {
            "assign": {"operator": "1"},
            "topic": {"topic": "Оплата"},
            "notes": {"note": "x"},
            "draft": {"canned": "x"},
        }.items():
            assert post(client, f"/conversations/{number}/{action}", **data).status_code in (200, 303), action
        assert send(client, number, ("a.txt", b"x")).status_code == 303
        for address in ("/files/1", "/people/1", "/?view=all&q=привет&topic=Оплата", f"/conversations/{number}"):
            assert client.get(address).status_code == 200, address


@on_sqlite
def test_a_form_without_files_may_not_be_as_long_as_one_with(client: FlaskClient, engine: Engine) -> None:
    number = add_conversation(engine)
    data = {"csrf_token": token(client), "key": "k", "text": "x" * 600_000}
    assert client.post(f"/conversations/{number}/answers", data=data).status_code == 413
