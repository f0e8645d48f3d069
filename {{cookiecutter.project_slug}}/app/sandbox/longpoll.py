"""The long poll: a request waits here until there is an update for it, or its time is over."""

import math
import threading
import time
from collections import deque
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.sandbox.store import API_VERSION, Event, Memory, newest_event

MAX_WAIT = 90
BATCH = 1000
LOST, KEY_EXPIRED, ALL_LOST = 1, 2, 3  # VK's values of `failed`
SILENCE = 10  # seconds between two polls after which nobody is taken to listen


class LongPoll:
    """One condition wakes every waiting request; what they answer is read from the file."""

    def __init__(self, engine: Engine, group_id: int) -> None:
        self._engine = engine.execution_options(read_only=True)
        self._group_id = group_id
        self._news = threading.Condition()
        self._failures: deque[int] = deque()
        self._stopping = False
        self._waiting = 0
        self._last = -math.inf

    def is_heard(self) -> bool:
        """Whether somebody polls: the bot, most likely."""
        return self._waiting > 0 or time.monotonic() - self._last < SILENCE

    def wake(self) -> None:
        """Let the waiting requests look again: there may be an update for them."""
        with self._news:
            self._news.notify_all()

    def fail(self, code: int, times: int) -> None:
        """Answer the next `times` polls, the waiting ones too, with this value of `failed`."""
        with self._news:
            self._failures.extend([code] * times)
            self._news.notify_all()

    def stop(self) -> None:
        """Answer the waiting requests at once, so that the server can end."""
        with self._news:
            self._stopping = True
            self._news.notify_all()

    def check(self, key: str, ts: str, wait: int) -> dict[str, Any]:
        """VK's answer to `act=a_check`. `wait` is in seconds."""
        deadline = time.monotonic() + min(wait, MAX_WAIT)
        with self._news:
            self._waiting += 1
            try:
                while True:
                    answer = self._failure() or self._look(key, ts)
                    left = deadline - time.monotonic()
                    if answer.get("updates") != [] or left <= 0 or self._stopping:
                        return answer
                    self._news.wait(left)
            finally:
                self._waiting -= 1
                self._last = time.monotonic()

    def _failure(self) -> dict[str, Any] | None:
        if not self._failures:
            return None
        code = self._failures.popleft()
        with Session(self._engine) as session:
            return {"failed": LOST, "ts": newest_event(session)} if code == LOST else {"failed": code}

    def _look(self, key: str, ts: str) -> dict[str, Any]:
        with Session(self._engine) as session:
            if key != session.get_one(Memory, "longpoll").value["key"]:
                return {"failed": KEY_EXPIRED}
            newest = newest_event(session)
            oldest = session.scalar(select(func.min(Event.id))) or 0
            if not ts.isdecimal():
                return {"failed": ALL_LOST}
            if not oldest - 1 <= int(ts) <= newest:
                return {"failed": LOST, "ts": newest}
            events = session.scalars(select(Event).where(Event.id > int(ts)).order_by(Event.id).limit(BATCH)).all()
            return {"ts": str(events[-1].id) if events else ts, "updates": [self._update(event) for event in events]}

    def _update(self, event: Event) -> dict[str, Any]:
        return {
            "type": event.type,
            "group_id": self._group_id,
            "event_id": event.event_id,
            "v": API_VERSION,
            "object": event.object,
        }
