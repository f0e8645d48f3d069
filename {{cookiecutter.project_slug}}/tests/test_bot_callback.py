"""The whole way where VK calls: the sandbox calls the web, the bot answers; nothing is lost or doubled on it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from pydantic import SecretStr
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from app.settings import Settings
from app.storage.models import Event, EventState
from app.web import create_app
from tests.bot import Sandbox, running, wait_for

CONFIRMATION = "0a1b2c3d"
SECRET = SecretStr("8f14e45fceea167a5a36dedd4bea2543")  # VK takes up to 50 characters


@contextmanager
def served(settings: Settings) -> Iterator[str]:
    app = create_app(settings)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/vk/callback"
    server.shutdown()
    server.server_close()
    app.extensions["engine"].dispose()


def called(settings: Settings, sandbox: Sandbox) -> Settings:
    changes = {"vk_transport": "callback", "vk_callback_confirmation": CONFIRMATION, "vk_callback_secret": SECRET}
    return settings.model_copy(update=changes | {"vk_api_url": sandbox.url})


def test_people_are_answered_without_a_poll(settings: Settings, sandbox: Sandbox) -> None:
    settings = called(settings, sandbox)
    secret = settings.secret("vk_callback_secret")
    with served(settings) as url, running(settings) as bot:
        sandbox.post("callback", url=url, secret=secret, confirmation=CONFIRMATION)
        people = [sandbox.person(f"Вера {n}") for n in range(3)]
        for person in people:
            sandbox.say(person, "Здравствуйте")
        for person in people:
            wait_for(lambda person=person: bool(sandbox.answers(person)))  # type: ignore[misc]  # a lambda has no types
        with Session(bot.engine) as session:
            events = session.scalars(select(Event).where(Event.type == "message_new")).all()
            assert [event.state for event in events] == [EventState.DONE] * 3
            assert secret not in str([event.raw for event in events])
        assert not sandbox.parts.longpoll.is_heard()
        requests.delete(f"{sandbox.url}/control/callback", timeout=10)


def test_what_came_while_the_database_was_away_comes_again(settings: Settings, sandbox: Sandbox, engine: Engine) -> None:
    settings = called(settings, sandbox)
    with served(settings) as url:
        sandbox.post("callback", url=url, secret=settings.secret("vk_callback_secret"))
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE event RENAME TO gone"))
        sandbox.say(sandbox.person(), "Здравствуйте")
        shown = f"{sandbox.url}/control/callback"
        wait_for(lambda: requests.get(shown, timeout=10).json()["retries"] > 0)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO event"))
        wait_for(lambda: requests.get(shown, timeout=10).json()["waiting"] == 0)
        with Session(engine) as session:
            kinds = select(Event.type, func.count()).group_by(Event.type).order_by(Event.type)
            assert dict(session.execute(kinds).all())["message_new"] == 1
        requests.delete(shown, timeout=10)


def test_another_secret_reaches_nothing(settings: Settings, sandbox: Sandbox, engine: Engine) -> None:
    with served(called(settings, sandbox)) as url:
        sandbox.post("callback", url=url, secret="wrong")
        sandbox.say(sandbox.person(), "Здравствуйте")
        shown = f"{sandbox.url}/control/callback"
        wait_for(lambda: requests.get(shown, timeout=10).json()["retries"] > 0)
        with Session(engine) as session:
            assert session.scalar(select(func.count()).select_from(Event)) == 0
        requests.delete(shown, timeout=10)
