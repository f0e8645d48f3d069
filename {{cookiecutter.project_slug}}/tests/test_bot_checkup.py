"""What the bot finds out for the web: how VK is set up. And that an operator's request is found again in its log."""

import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from app.bot.checkup import checkup
from app.bot.loops import Bot
from app.settings import Settings
from app.storage import roles
from app.storage.engine import make_engine
from app.storage.models import Checkup, Delivery, DeliveryState, now
from tests.bot import Sandbox, running
from tests.conftest import on_sqlite


def found(engine: Engine) -> dict[str, Any]:
    with Session(engine) as session:
        return {each["name"]: each for each in session.get_one(Checkup, "vk").found}


def test_the_bot_looks_at_its_start_and_when_it_is_asked(settings: Settings, engine: Engine, sandbox: Sandbox) -> None:
    bot = Bot(settings.model_copy(update={"vk_api_url": sandbox.url}), engine)
    bot.stop.set()  # so that it waits for nothing
    rounds = checkup(bot)
    next(rounds)
    assert all(each["right"] for each in found(engine).values())
    assert found(engine)["token"]["en"] == {"text": "The key is valid", "cure": None}
    sandbox.post("settings", messages_enabled=False)
    next(rounds)
    assert found(engine)["messages_on"]["right"]  # nobody has asked
    with engine.begin() as connection:
        connection.execute(update(Checkup).values(asked_at=now()))
    next(rounds)
    messages = found(engine)["messages_on"]
    assert not messages["right"]
    assert "Community messages: Enabled" in messages["en"]["cure"]
    assert "Сообщения сообщества: Включены" in messages["ru"]["cure"]
    with Session(engine) as session:
        row = session.get_one(Checkup, "vk")
        assert row.done_at is not None
        assert row.asked_at <= row.done_at <= now()
    bot.engine.dispose()


@on_sqlite
def test_another_start_looks_again(settings: Settings, engine: Engine, sandbox: Sandbox) -> None:
    long_ago = now() - timedelta(days=1)
    with Session(engine) as session, session.begin():
        session.add(Checkup(name="vk", asked_at=long_ago, done_at=long_ago, found=[]))
    bot = Bot(settings.model_copy(update={"vk_api_url": sandbox.url}), engine)
    next(checkup(bot))
    assert found(engine)


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_the_bots_role_may_do_this(settings: Settings, engine: Engine, sandbox: Sandbox) -> None:
    with engine.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        roles.grant(driver, settings.model_copy(update={"db_password_bot": SecretStr("a password")}))
    own = make_engine(engine.url.set(username="bot", password="a password"))
    bot = Bot(settings.model_copy(update={"vk_api_url": sandbox.url}), own)
    bot.stop.set()
    rounds = checkup(bot)
    next(rounds)
    next(rounds)
    assert found(engine)
    bot.engine.dispose()


@on_sqlite
def test_an_operators_request_stands_in_the_log_of_its_delivery(settings: Settings, engine: Engine, sandbox: Sandbox) -> None:
    person = sandbox.person()
    sandbox.say(person, "Здравствуйте")  # who wrote first may be answered
    with Session(engine) as session, session.begin():
        session.add(Delivery(peer_id=person, text="ответ", random_id=1, request_id="0123456789abcdef"))
        session.add(Delivery(peer_id=person + 1000, text="никому", random_id=2, request_id="fedcba9876543210"))
    unfinished = select(Delivery.id).where(Delivery.state.in_([DeliveryState.PENDING, DeliveryState.SENDING]))
    with capture_logs() as logs, running(settings.model_copy(update={"vk_api_url": sandbox.url}), "bot.deliver"):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with engine.connect() as connection:
                if connection.scalar(unfinished) is None:
                    break
            time.sleep(0.05)
    told = {line["request_id"]: line["problem"] for line in logs if line["event"] == "delivery"}
    assert told.keys() == {"0123456789abcdef", "fedcba9876543210"}
    assert told["0123456789abcdef"] is None
    assert "901" in told["fedcba9876543210"]
