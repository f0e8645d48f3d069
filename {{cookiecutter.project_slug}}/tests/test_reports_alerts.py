"""What operators are told without asking: once, once when it is over, and not at night."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from app.reports import alerts
from app.settings import Settings
from app.storage.models import (
    Alert,
    Author,
    Conversation,
    ConversationStatus,
    Cursor,
    Delivery,
    DeliveryState,
    Direction,
    Event,
    Message,
)
from tests.conftest import on_sqlite
from tests.reports import Works, bare

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CHAT = 2000000001


@pytest.fixture
def works(settings: Settings) -> Works:
    limits = {"alert_open": 2, "alert_disk": 0, "operators_peer_id": CHAT, "app_language": "en", "quiet_hours": "22-8"}
    return bare(settings.model_copy(update=limits))


def check(these: Works, at: datetime) -> list[str]:
    """What the chat is told at that moment."""
    with these.speaking("en"):
        alerts.check(these.engine, these.settings, at)
    with Session(these.engine) as session, session.begin():
        told = list(session.scalars(select(Delivery.text).where(Delivery.peer_id == CHAT)))
        session.execute(delete(Delivery).where(Delivery.peer_id == CHAT))
    return told


def add(engine: Engine, *rows: Any) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(rows)


def conversation(number: int, opened_at: datetime = NOON) -> Conversation:
    return Conversation(id=number, peer_id=number, status=ConversationStatus.OPEN, opened_at=opened_at)


def written(number: int, author: Author, at: datetime) -> Message:
    direction = Direction.IN if author == Author.PERSON else Direction.OUT
    return Message(conversation_id=number, direction=direction, author=author, created_at=at)


def test_it_is_told_once_and_once_when_it_is_over(works: Works) -> None:
    add(works.engine, *map(conversation, range(1, 4)))
    assert check(works, NOON) == ["⚠️ 3 conversations are open."]
    assert check(works, NOON + timedelta(minutes=1)) == []
    with Session(works.engine) as session, session.begin():
        session.execute(update(Conversation).values(status=ConversationStatus.CLOSED))
    assert check(works, NOON + timedelta(minutes=2)) == []  # it might come again at once
    assert check(works, NOON + timedelta(minutes=7)) == ["✅ Over: 3 conversations are open."]
    assert check(works, NOON + timedelta(minutes=8)) == []


@on_sqlite
def test_at_night_nothing_is_told_and_in_the_morning_what_is_still_so(works: Works) -> None:
    night, morning = NOON.replace(hour=23), NOON + timedelta(hours=20)
    add(works.engine, *map(conversation, range(1, 4)), Cursor(name="longpoll:1", value="1", updated_at=NOON))
    assert check(works, night) == []
    with Session(works.engine) as session, session.begin():
        assert set(session.scalars(select(Alert.rule))) == {"backlog", "response", "silence"}
        session.execute(update(Conversation).values(status=ConversationStatus.CLOSED))
    assert check(works, night + timedelta(minutes=6)) == []
    assert check(works, morning) == ["⚠️ VK has not been heard of for 20 hours: no messages come in."]
    with Session(works.engine) as session, session.begin():
        session.execute(update(Cursor).values(updated_at=morning))
    night += timedelta(days=1)
    with Session(works.engine) as session, session.begin():
        session.execute(update(Cursor).values(updated_at=night))
    assert check(works, night) == []  # over, but said in the morning
    with Session(works.engine) as session, session.begin():
        session.execute(update(Cursor).values(updated_at=morning + timedelta(days=1)))
    (told,) = check(works, morning + timedelta(days=1))
    assert told.startswith("✅ Over: VK has not been heard of")


@on_sqlite
def test_each_rule_sees_what_it_looks_for(works: Works) -> None:
    long_ago = NOON - timedelta(hours=3)
    folder = works.settings.data_dir / "backups"
    folder.mkdir()
    (folder / "old.dump").touch()
    os.utime(folder / "old.dump", (long_ago.timestamp(),) * 2)
    limits = {"alert_disk": 100, "backup_dir": folder, "alert_backup": 1}
    these = Works(works.app, works.settings.model_copy(update=limits), works.engine)
    refused = {"text": "", "random_id": 1, "state": DeliveryState.FAILED, "next_try_at": NOON}
    add(
        works.engine,
        Event(type="message_new", raw={}, received_at=long_ago),
        Delivery(peer_id=5, text="", random_id=1, created_at=long_ago),
        *(Delivery(peer_id=5, error_code=100, **refused) for _ in range(11)),
        *(Delivery(peer_id=5, error_code=901, **refused) for _ in range(50)),  # people who forbid messages
    )
    (told,) = check(these, NOON)
    lines = sorted(told.splitlines())
    assert sum(line.endswith("% of the disk is free.") for line in lines) == 1
    assert [line for line in lines if not line.endswith("% of the disk is free.")] == [
        "⚠️ 11 messages were not sent within an hour.",
        "⚠️ Messages that came in wait for the bot, the first for 3 hours.",
        "⚠️ Messages wait to be sent, the first for 3 hours.",
        "⚠️ The newest backup was made 3 hours ago.",
    ]


@on_sqlite
def test_backups_that_cannot_be_read_are_told_of_and_stop_nothing_else(works: Works) -> None:
    limits = {"alert_disk": 100, "backup_dir": works.settings.data_dir / ("x" * 300), "alert_backup": 1}  # no such name may be
    these = Works(works.app, works.settings.model_copy(update=limits), works.engine)
    (told,) = check(these, NOON)
    assert "⚠️ The folder with the backups cannot be read." in told
    assert "of the disk is free" in told


@on_sqlite
def test_who_was_answered_waits_only_since_they_wrote_again(works: Works) -> None:
    def minutes(ago: int) -> datetime:
        return NOON - timedelta(minutes=ago)

    def rule() -> str | None:
        with works.speaking("en"), Session(works.engine) as session:
            return alerts.response(alerts.Look(session, works.settings, NOON))

    add(works.engine, conversation(1, minutes(200)), written(1, Author.PERSON, minutes(201)))
    assert rule() == "Somebody has waited for an operator for 3 hours."
    add(works.engine, written(1, Author.OPERATOR, minutes(190)))
    assert rule() is None
    add(works.engine, written(1, Author.PERSON, minutes(120)), written(1, Author.PERSON, minutes(10)))
    assert rule() == "Somebody has waited for an operator for 2 hours."
    add(works.engine, written(1, Author.OPERATOR, minutes(1)))
    assert rule() is None


@on_sqlite
def test_without_a_chat_alerts_are_kept_and_with_a_limit_of_nothing_there_are_none(works: Works) -> None:
    add(works.engine, *map(conversation, range(1, 4)))
    mute = Works(works.app, works.settings.model_copy(update={"alert_open": 0, "alert_wait": 0}), works.engine)
    assert check(mute, NOON) == []
    deaf = Works(works.app, works.settings.model_copy(update={"operators_peer_id": None}), works.engine)
    assert check(deaf, NOON) == []
    with Session(works.engine) as session:
        assert session.scalars(select(Alert.rule)).all() == ["backlog"]
