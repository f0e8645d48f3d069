"""The invented month: it is believable, hangs together, and harms nobody."""

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.settings import Settings, SettingsError
from app.storage import desk, seed
from app.storage.models import (
    Author,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Direction,
    Message,
    Operator,
    Person,
    Request,
)
from app.storage.queues import claim_deliveries

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)  # a Wednesday


def test_a_month_hangs_together(settings: Settings, engine: Engine) -> None:
    seed.fill(engine, settings, 400, NOON)
    with Session(engine) as session:
        conversations = session.scalars(select(Conversation).order_by(Conversation.id)).all()
        assert len(conversations) == 400
        assert {row.status for row in conversations} == set(ConversationStatus)
        dialogs: dict[int, list[Message]] = defaultdict(list)
        for line in session.scalars(select(Message).order_by(Message.id)):
            dialogs[line.conversation_id].append(line)
        delivered = set(session.scalars(select(Delivery.message_id)))
        asked = session.scalars(select(Request)).all()
        people = {person.id: person.vk_id for person in session.scalars(select(Person))}
        for row in conversations:
            lines = dialogs[row.id]
            times = [line.created_at for line in lines]
            assert times == sorted(times)
            assert NOON - timedelta(days=32) < times[0]
            assert row.last_message_at == times[-1] < NOON
            assert lines[0].author == Author.PERSON
            assert people[row.person_id or 0] == row.peer_id
            assert (row.opened_at is not None) >= (row.status != ConversationStatus.BOT)
            assert row.status != ConversationStatus.CLOSED or (row.closed_at is not None and row.assignee_id is None)
            assert all((line.id in delivered) == (line.direction == Direction.OUT) for line in lines)
            requests = [request for request in asked if request.conversation_id == row.id]
            assert bool(requests) == (row.opened_at is not None)
            assert all(request.closed_at for request in requests) == (row.status != ConversationStatus.OPEN)
        # nothing that the bot would send to people who are not there
        assert claim_deliveries(session, 10, timedelta(minutes=1)) == []
        states = Counter(session.scalars(select(Delivery.state)))
        assert 0 < states[DeliveryState.FAILED] < 20
        assert session.scalar(select(func.count()).select_from(Person).where(~Person.reachable)) == states[DeliveryState.FAILED]
        assert session.scalar(select(func.count()).select_from(Operator)) == 4


def test_more_than_is_held_in_memory_at_a_time_is_all_written(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "BATCH", 7)
    seed.fill(engine, settings, 30, NOON)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Conversation)) == 30


def test_what_comes_later_takes_the_next_numbers(settings: Settings, engine: Engine) -> None:
    seed.fill(engine, settings, 10, NOON)
    with Session(engine) as session, session.begin():
        row = Conversation(peer_id=1)
        session.add(row)
        session.flush()
        desk.receive(session, row, "Привет")
        desk.hand_over(row)
    seed.fill(engine, settings, 10, NOON)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Conversation)) == 21
        row = session.scalars(select(Conversation).where(Conversation.peer_id == 1)).one()
        # the triggers are there still
        assert session.scalar(select(Request.opened_at).where(Request.conversation_id == row.id)) == row.opened_at


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_people_write_by_day_and_waits_are_of_all_lengths(settings: Settings, engine: Engine) -> None:
    seed.fill(engine, settings, 1500, NOON)
    with Session(engine) as session:
        written = session.scalars(select(Message.created_at).where(Message.author == Author.PERSON)).all()
        hours, days = Counter(at.hour for at in written), Counter(at.weekday() for at in written)
        assert hours[3] * 5 < hours[15]
        assert days[6] * 1.5 < days[2]
        first: dict[int, datetime] = {}
        waits = []
        for line in session.scalars(select(Message).order_by(Message.id)):
            if line.author == Author.PERSON:
                first.setdefault(line.conversation_id, line.created_at)
            elif line.author == Author.OPERATOR and (asked := first.get(line.conversation_id)):
                waits.append((line.created_at - asked).total_seconds() if asked.hour in range(10, 18) else 300)
                first.pop(line.conversation_id)
    waits.sort()
    assert 120 < waits[len(waits) // 2] < 900
    assert waits[-len(waits) // 20] > 2 * waits[len(waits) // 2]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("language", ["ru", "en"])
def test_texts_are_in_the_projects_language_and_the_same_every_time(
    settings: Settings, engine: Engine, tmp_path: Path, language: str
) -> None:
    settings = settings.model_copy(update={"app_language": language})
    seed.fill(engine, settings, 100, NOON)
    with Session(engine) as session:
        texts = session.scalars(select(Message.text).order_by(Message.id)).all()
    assert not any(re.search(r"[{}]", text) for text in texts)
    assert any(re.search("[а-я]", text) for text in texts) == (language == "ru")
    with engine.begin() as connection:
        for table in ("delivery", "message", "conversation", "person"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
    seed.fill(engine, settings, 100, NOON)
    with Session(engine) as session:
        assert session.scalars(select(Message.text).order_by(Message.id)).all() == texts


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_it_refuses_what_would_do_harm(settings: Settings, engine: Engine) -> None:
    def refusal(words: list[str], app_env: str = "development") -> str:
        with pytest.raises(SettingsError) as error:
            seed.main(settings.model_copy(update={"app_env": app_env}), words)
        return str(error.value)

    assert "this is production" in refusal(["5"], "production")
    assert "from 1 to 1000000" in refusal(["0"])
    seed.main(settings, ["5"])
    assert "make seed ADD=1" in refusal(["5"])
    seed.main(settings.model_copy(update={"app_env": "production"}), ["5", "--add", "--in-production"])
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Conversation)) == 10
