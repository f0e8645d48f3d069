"""Keeps the loops going whatever fails, and shows from outside that they do: a file for Docker, rows for the operators."""

import contextvars
import random
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import structlog
from sqlalchemy import Engine, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.bot.vk import CALLS, WINDOW, Vk, VkError
from app.log import one_line
from app.settings import Settings
from app.storage.engine import insert_new, readiness
from app.storage.models import Heartbeat, now
from app.storage.pace import Turns

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds after an error
ALIVE_WITHIN = 60.0  # seconds in which a loop has to come round
ALIVE_FILE = Path(tempfile.gettempdir()) / "bot-alive"
HEARTBEAT = 10.0  # seconds


@dataclass(frozen=True)
class Bot:
    """What the loops share."""

    settings: Settings
    engine: Engine
    stop: threading.Event = field(default_factory=threading.Event)

    def vk(self) -> Vk:
        """A line to VK for one thread. Raises `SettingsError` without a token."""
        return Vk(self.settings, self.turns())

    def turns(self) -> Turns:
        """Of all who call VK with this community's token."""
        return Turns(self.engine, f"vk:{self.settings.vk_group_id}", CALLS, WINDOW)

    @contextmanager
    def resting(self, times: float) -> Iterator[None]:
        """Do something, and then nothing for so many times as long as the processor had to do with it.

        In a rush the loops share one processor, and people wait for the senders: what is not sent yet waits well where it is.
        """
        began = time.thread_time()
        yield
        self.stop.wait((time.thread_time() - began) * times)


# A loop is a generator that runs until it is closed. It yields as often as it comes round: True when all is well,
# False when it is busy with something long and nothing is proven yet.
Loop = Callable[[Bot], Generator[bool]]


class DatabaseError(Exception):
    """The database cannot be used now; the text is one line."""


class Pulse:
    """Which loops come round, and what troubles them. Safe to use from their threads."""

    def __init__(self, loops: Mapping[str, Loop]) -> None:
        self._lock = threading.Lock()
        self._seen = dict.fromkeys(loops, time.monotonic())
        self._problems: dict[str, str] = {}

    def alive(self, loop: str) -> None:
        """`loop` has come round. The heartbeat, which tells of the loops, is not one of them."""
        with self._lock:
            if loop in self._seen:
                self._seen[loop] = time.monotonic()

    def well(self, loop: str) -> None:
        """`loop` has come round and works; says so if it did not before."""
        self.alive(loop)
        with self._lock:
            before = self._problems.pop(loop, None)
            over = before is not None and before not in self._problems.values()
        if over:
            log.info(f"over: {before}")

    def troubled(self, loop: str, problem: str, bug: Exception | None = None) -> None:
        """`loop` has come round with a problem: one line in the log, unless this or another loop has said it already."""
        self.alive(loop)
        with self._lock:
            said = problem in self._problems.values()
            self._problems[loop] = problem
        if not said:
            log.warning(problem, exc_info=bug)

    def living(self) -> dict[str, str | None]:
        """The loops that came round lately, each with its problem."""
        limit = time.monotonic() - ALIVE_WITHIN
        with self._lock:
            return {loop: self._problems.get(loop) for loop, seen in self._seen.items() if seen > limit}

    def touch(self) -> None:
        """Renew the file that the container's health check looks at, if all loops come round."""
        if self.living().keys() == self._seen.keys():
            ALIVE_FILE.touch()


def start(bot: Bot, loops: Mapping[str, Loop], pulse: Pulse) -> list[threading.Thread]:
    """Run each of `loops` and the heartbeat in a thread of its own, until `bot.stop` is set."""
    heart = {"heartbeat": lambda bot: _heartbeat(bot, pulse)}
    threads = [
        # the context carries what every log line says; the threads are daemons because a long poll cannot be interrupted
        threading.Thread(target=contextvars.copy_context().run, args=(_keep_going, *item, bot, pulse), name=item[0], daemon=True)
        for item in {**loops, **heart}.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def _keep_going(name: str, loop: Loop, bot: Bot, pulse: Pulse) -> None:
    """Run `loop` until `bot.stop` is set: after an error all that it held is closed, and it begins anew after a pause."""
    pause = FIRST_PAUSE
    while not bot.stop.is_set():
        try:
            _require_database(bot.engine)
            with closing(loop(bot)) as rounds:
                for well in rounds:
                    if bot.stop.is_set():
                        return
                    if well:
                        pulse.well(name)
                        pause = FIRST_PAUSE
                    else:
                        pulse.alive(name)
        except (VkError, DatabaseError) as error:
            pulse.troubled(name, str(error))
        except (SQLAlchemyError, psycopg.Error) as error:
            pulse.troubled(name, readiness(bot.engine) or one_line(error))
        except Exception as error:
            pulse.troubled(name, one_line(error), bug=error)
        bot.stop.wait(random.uniform(pause / 2, pause))  # noqa: S311 - so that many processes do not knock together
        pause = min(pause * 2, LONGEST_PAUSE)


def _require_database(engine: Engine) -> None:
    problem = readiness(engine)
    if problem is not None:
        raise DatabaseError(problem)


def _heartbeat(bot: Bot, pulse: Pulse) -> Generator[bool]:
    while True:
        with Session(bot.engine) as session, session.begin():
            for loop, problem in pulse.living().items():
                insert_new(session, Heartbeat, [{"name": loop}])
                session.execute(update(Heartbeat).where(Heartbeat.name == loop).values(at=now(), problem=problem))
        yield True
        bot.stop.wait(HEARTBEAT)
