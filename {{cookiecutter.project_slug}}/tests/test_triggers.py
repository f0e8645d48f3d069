"""What the database writes down by itself, the same on both."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, delete, select, text, update
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage import desk
from app.storage.migrate import migrate
from app.storage.models import (
    Author,
    Changed,
    Conversation,
    ConversationStatus,
    Direction,
    Message,
    Operator,
    Request,
    Rollup,
    now,
)
from tests.conftest import on_postgresql


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


def requests(session: Session) -> list[tuple[str | None, int | None, bool]]:
    session.flush()
    rows = session.execute(select(Request).order_by(Request.id).execution_options(populate_existing=True)).scalars()
    return [(row.topic, row.operator_id, row.closed_at is not None) for row in rows]


def test_each_time_that_operators_have_the_word_is_a_request(session: Session) -> None:
    operator = session.scalars(select(Operator)).one()
    conversation = Conversation(peer_id=1)
    session.add(conversation)
    assert requests(session) == []
    desk.hand_over(conversation, "returns")
    assert requests(session) == [("returns", None, False)]
    desk.hand_over(conversation, "delivery")
    conversation.assignee = operator
    assert requests(session) == [("delivery", operator.id, False)]
    desk.close(conversation)
    assert requests(session) == [("delivery", operator.id, True)]
    desk.hand_over(conversation)
    session.flush()
    conversation.status = ConversationStatus.BOT  # the word is given back by something that knows of no closing
    assert requests(session) == [("delivery", operator.id, True), ("delivery", None, True)]
    for row in session.scalars(select(Request)):
        assert row.closed_at is not None
        assert row.closed_at >= row.opened_at
    session.delete(conversation)
    assert requests(session) == []


def test_a_conversation_that_comes_as_it_is_brings_its_last_request(session: Session) -> None:
    at = now()
    session.add(Conversation(peer_id=1, status=ConversationStatus.OPEN, opened_at=at))
    session.add(Conversation(peer_id=2, status=ConversationStatus.CLOSED, opened_at=at - timedelta(hours=2), closed_at=at))
    session.add(Conversation(peer_id=3))
    session.flush()
    assert sorted(session.execute(select(Request.opened_at, Request.closed_at)).all()) == [
        (at - timedelta(hours=2), at),
        (at, None),
    ]


def marks(session: Session) -> list[tuple[bool, bool, bool]]:
    """What is marked since the last look: whether it has hours, a conversation, and a message."""
    session.flush()
    rows = session.execute(delete(Changed).returning(Changed.at, Changed.conversation_id, Changed.message_id)).all()
    return sorted(tuple(value is not None for value in row) for row in rows)  # type: ignore[misc]


def test_nothing_is_marked_before_somebody_keeps_figures(session: Session) -> None:
    conversation = Conversation(peer_id=1, topic="returns")
    session.add(conversation)
    session.flush()
    desk.receive(session, conversation, "hello")
    assert marks(session) == []
    session.add(Rollup(id=1, definition=""))
    session.flush()
    message = desk.receive(session, conversation, "hello")
    assert marks(session) == [(True, True, True)]
    message.text, message.cmid = "edited", 7
    conversation.unread = 0
    assert marks(session) == []
    message.created_at += timedelta(hours=1)
    assert marks(session) == [(True, True, True)] * 2
    session.execute(update(Message).values(author=Author.BOT))
    assert marks(session) == [(True, True, True)] * 4
    conversation.topic = "delivery"
    assert marks(session) == [(False, True, False)]
    desk.hand_over(conversation)
    assert marks(session) == [(True, False, False)]
    session.delete(message)
    assert marks(session) == [(True, True, True)]
    desk.close(conversation)
    assert marks(session) == [(True, False, False)]


@on_postgresql
def test_who_writes_while_somebody_migrates_only_waits(settings: Settings, engine: Engine) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with Session(engine) as session, ThreadPoolExecutor() as pool:
        session.add(Conversation(id=1, peer_id=1))
        session.flush()
        migrating = pool.submit(migrate, settings)
        while not migrating.done():
            with engine.connect() as connection:
                if connection.scalar(waiting):
                    break
        session.add(Message(conversation_id=1, direction=Direction.IN, author=Author.PERSON))
        session.commit()
        migrating.result()


def test_the_triggers_are_there_once_however_often_one_migrates(settings: Settings, engine: Engine) -> None:
    migrate(settings)
    with Session(engine) as session, session.begin():
        session.add(Rollup(id=1, definition=""))
        session.flush()
        session.add(Conversation(peer_id=1, status=ConversationStatus.OPEN, opened_at=now()))
        assert marks(session) == [(True, False, False)]
