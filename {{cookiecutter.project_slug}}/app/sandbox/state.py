"""What the running sandbox is made of, and the settings that its control API changes."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast, get_args

import structlog
from flask import current_app
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.sandbox.callback import Callback
from app.sandbox.faults import Faults
from app.sandbox.longpoll import LongPoll
from app.sandbox.news import News
from app.sandbox.store import API_VERSION, Memory, add_event, open_store
from app.settings import Settings

log = structlog.get_logger()

TYPING_SECONDS = 10  # how long VK shows "typing"


Permission = Literal["photos", "messages", "docs", "manage"]
Reported = Literal["message_new", "message_event", "message_allow", "message_deny"]


class Behaviour(BaseModel):
    """How the sandbox treats its caller, and how the community is set up. It outlives a restart; faults (`faults`) do not.

    `token`: the only one that is taken, None for any. `permissions`: what it may do. `messages_enabled`: the community takes
    messages. `longpoll_enabled`, `longpoll_version`, `events`: how its long poll is set up. `random_id_seconds` and
    `random_id_messages`: how long a `random_id` is remembered.
    """

    model_config = ConfigDict(extra="forbid")

    requests_per_second: int | None = Field(20, gt=0)
    latency_ms: int = Field(0, ge=0, le=60_000)
    token: str | None = None
    permissions: list[Permission] = list(get_args(Permission))
    messages_enabled: bool = True
    longpoll_enabled: bool = True
    longpoll_version: str = Field(API_VERSION, pattern=r"^5\.\d{1,3}$")
    events: list[Reported] = list(get_args(Reported))
    random_id_seconds: int = Field(3600, gt=0)
    random_id_messages: int = Field(100, gt=0)


class Sandbox:
    """The parts, made once per process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: Engine = open_store(settings)
        self.faults = Faults()
        self.news = News()
        self.longpoll = LongPoll(self.engine, settings.vk_group_id, self.faults, self.news)
        self.callback = Callback(self.engine, settings.vk_group_id, self.news)
        self._typing: dict[int, float] = {}
        self._accepted: defaultdict[str, deque[float]] = defaultdict(deque)
        self._counting, self._writing = threading.Lock(), threading.Lock()
        with Session(self.engine) as session:
            stored = session.get(Memory, "behaviour")
            self.behaviour = Behaviour.model_validate(stored.value if stored else {})
        self.callback.version = self.behaviour.longpoll_version

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose work is committed, and told to who waits for events, at the end.

        One after the other: for SQLite's lock they would wait in sleeps that grow to a tenth of a second.
        """
        with self._writing, Session(self.engine) as session, session.begin():
            yield session
        self.news.tell()

    def happen(self, session: Session, kind: str, content: dict[str, Any]) -> None:
        """Something that the community is told of, if it wants to be."""
        if kind in self.behaviour.events:
            add_event(session, kind, content)

    def stop(self) -> None:
        """Answer all that wait, so that the server can end."""
        self.faults.clear()
        self.news.end()

    def behave(self, changes: dict[str, object]) -> Behaviour:
        """Change some of the settings and remember them. Raises `pydantic.ValidationError`."""
        behaviour = Behaviour.model_validate({**self.behaviour.model_dump(), **changes})
        with self.transaction() as session:
            session.merge(Memory(name="behaviour", value=behaviour.model_dump()))
        self.behaviour = behaviour
        self.callback.version = behaviour.longpoll_version
        return behaviour

    def admit(self, token: str, at: float) -> bool:
        """Whether a request of the token that came `at` this moment (`time.monotonic`) is within its limit for any one second."""
        limit = self.behaviour.requests_per_second
        with self._counting:
            accepted = self._accepted[token]
            while accepted and accepted[0] <= at - 1:
                accepted.popleft()
            if limit is not None and len(accepted) >= limit:
                log.warning(f"refused: more than {limit} requests in a second")
                return False
            accepted.append(at)
            return True

    def is_heard(self) -> bool:
        """Whether somebody takes the events: the bot, most likely."""
        return self.longpoll.is_heard() or self.callback.is_on()

    def show_typing(self, peer_id: int, *, on: bool = True) -> None:
        """Show this person that the community is writing, for as long as VK does; or stop it."""
        self._typing[peer_id] = time.monotonic() + TYPING_SECONDS if on else 0

    def is_typing(self, peer_id: int) -> bool:
        """Whether this person sees that the community is writing."""
        return self._typing.get(peer_id, 0) > time.monotonic()


def sandbox() -> Sandbox:
    """The sandbox of the application that answers this request."""
    return cast(Sandbox, current_app.extensions["sandbox"])
