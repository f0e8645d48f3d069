"""Wakes a loop when there is work for it: NOTIFY on PostgreSQL; on SQLite, whose writers cannot call, a look at a number."""

import sqlite3
import time
from enum import StrEnum
from types import TracebackType

import psycopg
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

SQLITE_PAUSE = 0.05  # seconds between two looks, each of which costs microseconds


class Channel(StrEnum):
    """What has news."""

    EVENTS = "desk_events"
    INBOX = "desk_inbox"
    OUTBOX = "desk_outbox"
    REPORTS = "desk_reports"


def wake(session: Session, channel: Channel) -> None:
    """Wake who waits on `channel`, at the moment this transaction is committed."""
    session.info.setdefault(wake, set()).add(channel)


@event.listens_for(Session, "before_commit")
def _call(session: Session) -> None:
    """Wake each once, however many changes there were."""
    channels = session.info.pop(wake, ())
    if channels and session.get_bind().dialect.name == "postgresql":
        called = ", ".join(f"pg_notify('{channel}', '')" for channel in sorted(channels))
        session.execute(text(f"SELECT {called}"))


class Waiter:
    """Waits for news on `channel`; on SQLite, for any. Its connection is its own: it remembers what it has seen."""

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self._notifies: psycopg.Connection | None = None
        if engine.dialect.name == "postgresql":
            url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._notifies = psycopg.connect(url, autocommit=True, connect_timeout=5, application_name=f"desk wait {channel}")
            self._notifies.execute(f'LISTEN "{channel}"')
        else:
            self._file = sqlite3.connect(str(engine.url.database), isolation_level=None)
            self._version = self._look()

    def wait(self, timeout: float) -> None:
        """Return at news, or after `timeout` seconds. News that came since the last wait counts.

        Raises `psycopg.OperationalError` when the connection is lost: make a new one then.
        """
        if self._notifies is not None:
            for _ in self._notifies.notifies(timeout=timeout, stop_after=1):
                pass
            return
        deadline = time.monotonic() + timeout
        while (version := self._look()) == self._version and time.monotonic() < deadline:
            time.sleep(SQLITE_PAUSE)
        self._version = version

    def _look(self) -> int:
        """SQLite's number that changes when another connection writes."""
        return int(self._file.execute("PRAGMA data_version").fetchone()[0])

    def __enter__(self) -> "Waiter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        (self._notifies or self._file).close()
