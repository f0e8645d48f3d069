"""A sandbox and a bot in threads, for the tests of the bot."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from random import randrange
from typing import Any, ClassVar

import requests
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from app.bot.__main__ import LOOPS
from app.bot.loops import Bot, Pulse, start
from app.sandbox import create_app
from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.wake import Channel, wake
from tests.conftest import make_settings


class Sandbox:
    """The real sandbox on a free port, and what people do in it."""

    by_url: ClassVar[dict[str | None, "Sandbox"]] = {}

    def __init__(self, folder: Path) -> None:
        self.app = create_app(make_settings(data_dir=folder))
        self._server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()
        self.by_url[self.url] = self

    @property
    def parts(self) -> Any:
        """What it is made of, to do to it what its control API cannot."""
        return self.app.extensions["sandbox"]

    @contextmanager
    def answering_at_once(self) -> Iterator[None]:
        """No long poll waits meanwhile."""
        self.parts.news.end()
        yield
        self.parts.news.over = False

    def close(self) -> None:
        del self.by_url[self.url]
        self.parts.stop()
        self._server.shutdown()
        self._server.server_close()
        self.parts.engine.dispose()

    def post(self, what: str, **body: Any) -> Any:
        response = requests.post(f"{self.url}/control/{what}", json=body, timeout=10)
        response.raise_for_status()
        return response.json()

    def person(self, first_name: str = "Вера") -> int:
        return int(self.post("people", first_name=first_name, last_name="Ким")["id"])

    def say(self, person: int, text: str, **more: Any) -> None:
        self.post("messages", from_id=person, text=text, **more)

    def dialog(self, person: int) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/control/messages", params={"peer_id": person}, timeout=10)
        return list(answer.json()["items"])

    def answers(self, person: int) -> list[str]:
        return [message["text"] for message in self.dialog(person) if message["from_id"] < 0]


def wait_for(what: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until `what` is true; a figure of minutes is for a machine that does much else, not for the bot."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)


def all_of(engine: Engine, table: Any) -> list[Any]:
    """The rows of a table, in the order of their keys."""
    with Session(engine) as session:
        return list(session.scalars(select(table).order_by(*table.__table__.primary_key)))


@contextmanager
def running(settings: Settings, *names: str) -> Iterator[Bot]:
    """The bot's loops, or those of `names`, in threads of this process."""
    bot = Bot(settings, make_engine(settings.database))
    loops = {name: loop for name, loop in LOOPS.items() if not names or name in names}
    threads = start(bot, loops, Pulse(loops))
    try:
        yield bot
    finally:
        bot.stop.set()
        sandbox = Sandbox.by_url.get(settings.vk_api_url)
        with sandbox.answering_at_once() if sandbox else nullcontext():
            _wake_all(bot.engine)
            for thread in threads:
                thread.join(30)
        bot.engine.dispose()
        assert not any(thread.is_alive() for thread in threads)


def _wake_all(engine: Engine) -> None:
    """Let the loops that wait for news look round, so that no test waits for them."""
    with suppress(SQLAlchemyError), Session(engine) as session, session.begin():
        if engine.dialect.name == "sqlite":
            session.execute(text(f"PRAGMA user_version = {randrange(2**31)}"))  # noqa: S311 - nobody's number, and news to SQLite
        for channel in Channel:
            wake(session, channel)
