"""The long poll: a request waits here until there is an update for it, or its time is over."""

import math
import time
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.sandbox.faults import LOST, Faults, malformed_updates
from app.sandbox.news import News
from app.sandbox.store import Event, Memory, newest_event, update_object

MAX_WAIT = 90
BATCH = 1000
KEY_EXPIRED, ALL_LOST = 2, 3  # VK's values of `failed`, beside `LOST`
SILENCE = 10  # seconds between two polls after which nobody is taken to listen


class LongPoll:
    """What the requests that wait for `news` answer is read from the file."""

    def __init__(self, engine: Engine, group_id: int, faults: Faults, news: News) -> None:
        self._engine = engine.execution_options(read_only=True)
        self._group_id = group_id
        self._faults = faults
        self._news = news
        self._waiting = 0
        self._last = -math.inf

    def is_heard(self) -> bool:
        """Whether somebody polls: the bot, most likely."""
        return self._waiting > 0 or time.monotonic() - self._last < SILENCE

    def check(self, key: str, ts: str, wait: int, version: str) -> dict[str, Any]:
        """VK's answer to `act=a_check`. `wait` is in seconds, `version` is that of the updates."""
        deadline = time.monotonic() + min(wait, MAX_WAIT)
        with self._news:
            self._waiting += 1
            try:
                while True:
                    answer = self._failure() or self._look(key, ts, version)
                    left = deadline - time.monotonic()
                    if answer.get("updates") != [] or left <= 0 or self._news.over:
                        return answer
                    self._news.wait(left)
            finally:
                self._waiting -= 1
                self._last = time.monotonic()

    def _failure(self) -> dict[str, Any] | None:
        fault = self._faults.take("failed")
        if fault is None:
            return None
        with Session(self._engine) as session:
            return {"failed": LOST, "ts": newest_event(session)} if fault.code == LOST else {"failed": fault.code}

    def _look(self, key: str, ts: str, version: str) -> dict[str, Any]:
        with Session(self._engine) as session:
            if key != session.get_one(Memory, "longpoll").value["key"]:
                return {"failed": KEY_EXPIRED}
            newest = newest_event(session)
            oldest = session.scalar(select(func.min(Event.id))) or newest + 1
            if not ts.isdecimal():
                return {"failed": ALL_LOST}
            if not oldest - 1 <= int(ts) <= newest:
                return {"failed": LOST, "ts": newest}
            events = session.scalars(select(Event).where(Event.id > int(ts)).order_by(Event.id).limit(BATCH)).all()
            updates: list[Any] = [update_object(event, self._group_id, version) for event in events]
        after = str(events[-1].id) if events else ts
        if updates and self._faults.take("repeat"):
            updates, after = [update for update in updates for _ in range(2)], ts
        if self._faults.take("malformed"):
            updates = [*malformed_updates(self._group_id), *updates]
        return {"ts": after, "updates": updates}
