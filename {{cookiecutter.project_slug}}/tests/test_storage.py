"""The storage behaves alike on both databases."""

import threading
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.engine import readiness
from app.storage.models import Base, CannedAnswer, Conversation, ConversationStatus, Delivery, DeliveryState, Event, Operator, now
from app.storage.queues import claim_deliveries, claim_events
from app.storage.wake import Channel, Waiter, wake


@pytest.fixture
def conversation(engine: Engine) -> int:
    with Session(engine) as session, session.begin():
        row = Conversation(peer_id=1)
        session.add(row)
        session.flush()
        return row.id


def test_the_database_is_ready_after_the_migration(engine: Engine) -> None:
    assert readiness(engine) is None


def test_the_migrations_make_what_the_models_say(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_times_keep_their_zone_and_naive_ones_are_refused(engine: Engine, conversation: int) -> None:
    with Session(engine) as session:
        assert session.get_one(Conversation, conversation).created_at.utcoffset() == timedelta(0)
        session.get_one(Conversation, conversation).opened_at = now().replace(tzinfo=None)
        with pytest.raises(StatementError, match="without a zone"):
            session.flush()


def test_an_error_tells_no_values(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([CannedAnswer(shortcut="again", text="what somebody wrote") for _ in range(2)])
        with pytest.raises(IntegrityError) as caught:
            session.flush()
    assert "what somebody wrote" not in str(caught.value)


def test_the_first_operator_exists_once(engine: Engine) -> None:
    with Session(engine) as session:
        assert session.scalars(select(Operator.login)).all() == ["admin"]


def test_an_event_is_stored_once(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Event(event_id="a", type="message_new", peer_id=1, cmid=1, raw={}))
    for again in (Event(event_id="a", type="message_new", raw={}), Event(type="message_new", peer_id=1, cmid=1, raw={})):
        with Session(engine) as session:
            session.add(again)
            with pytest.raises(IntegrityError):
                session.flush()


def test_who_has_a_peers_first_event_has_the_peer(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(
            Event(type="message_new", peer_id=peer, cmid=cmid, raw={})
            for peer, cmid in [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (4, 1)]
        )

    def claim(session: Session, limit: int) -> list[tuple[int | None, int | None]]:
        return [(event.peer_id, event.cmid) for event in claim_events(session, limit, newest=6)]

    with Session(engine) as session, session.begin():
        assert claim(session, 1) == [(1, 1)]
        assert claim(session, 3) == [(1, 1), (2, 1), (3, 1)]
        assert claim(session, 5) == [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)]
        assert claim(session, 9) == [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2)]
    if engine.dialect.name == "sqlite":
        return  # it has one writer
    with Session(engine) as one, one.begin(), Session(engine) as other, other.begin():
        assert claim(one, 2) == [(1, 1), (2, 1)]
        assert claim(other, 2) == [(3, 1)]


def test_an_answer_is_split_and_its_keyboard_goes_last(engine: Engine, conversation: int) -> None:
    with Session(engine) as session, session.begin():
        desk.answer(session, session.get_one(Conversation, conversation), "слово " * 1000, keyboard={"buttons": []})
    with Session(engine) as session:
        parts = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        assert [part.keyboard for part in parts] == [None, {"buttons": []}]
        assert all(len(part.text) <= desk.TEXT_LIMIT for part in parts)
        assert len({part.random_id for part in parts}) == 2


@given(st.text(), st.integers(1, 50))
def test_splitting_loses_nothing_but_space(text: str, limit: int) -> None:
    parts = desk.split_text(text, limit)
    assert parts
    assert all(len(part) <= limit for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_only_one_delivery_of_a_peer_is_claimed_and_a_dead_workers_comes_back(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(Delivery(peer_id=peer, text=text, random_id=1) for peer, text in [(1, "a"), (1, "b"), (2, "c")])
    with Session(engine) as session, session.begin():
        assert [row.text for row in claim_deliveries(session, 25, timedelta(minutes=1))] == ["a", "c"]
    with Session(engine) as session, session.begin():
        assert claim_deliveries(session, 25, timedelta(minutes=1)) == []
        session.execute(update(Delivery).values(next_try_at=now() - timedelta(seconds=1)))
    with Session(engine) as session, session.begin():
        again = claim_deliveries(session, 25, timedelta(minutes=1))
        assert [(row.text, row.attempts) for row in again] == [("a", 2), ("c", 2)]
        again[0].state = DeliveryState.SENT
    with Session(engine) as session, session.begin():
        assert [row.text for row in claim_deliveries(session, 25, timedelta(minutes=1))] == ["b"]


def test_four_workers_never_claim_the_same_delivery(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(Delivery(peer_id=peer, text="", random_id=1) for peer in range(200))
    claimed: list[int] = []

    def work() -> None:
        while True:
            with Session(engine) as session, session.begin():
                rows = claim_deliveries(session, 7, timedelta(minutes=1))
                if not rows:
                    return
                claimed.extend(row.id for row in rows)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(claimed) == len(set(claimed)) == 200


def test_concurrent_writers_of_one_conversation_lose_nothing(engine: Engine, conversation: int) -> None:
    def work() -> None:
        for _ in range(20):
            with Session(engine) as session, session.begin():
                row = desk.lock_conversation(session, conversation)
                assert row is not None
                desk.receive(session, row, "привет")

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with Session(engine) as session:
        assert session.scalar(select(func.sum(Conversation.unread))) == 80


def test_a_hand_over_and_back(engine: Engine, conversation: int) -> None:
    with Session(engine) as session, session.begin():
        row = session.get_one(Conversation, conversation)
        row.step = "ask"
        desk.hand_over(row, topic="delivery")
        assert (row.status, row.topic, row.step) == (ConversationStatus.OPEN, "delivery", None)
        assert row.opened_at is not None
        desk.close(row)
        assert row.status == ConversationStatus.CLOSED


def test_a_conversation_shows_what_a_human_wrote_last(engine: Engine, conversation: int) -> None:
    with Session(engine) as session, session.begin():
        row = session.get_one(Conversation, conversation)
        desk.receive(session, row, "Где заказ?")
        desk.answer(session, row, "Передал оператору")
        assert row.last_message_text == "Где заказ?"
        desk.answer(session, row, "Едет", operator=session.get_one(Operator, 1))
        assert row.last_message_text == "Едет"


def test_a_waiter_wakes_at_the_commit(engine: Engine) -> None:
    with Waiter(engine, Channel.OUTBOX) as waiter:
        with Session(engine) as session, session.begin():
            session.add(Delivery(peer_id=1, text="", random_id=1))
            wake(session, Channel.OUTBOX)
        before = now()
        waiter.wait(30)
        assert now() - before < timedelta(seconds=25)
