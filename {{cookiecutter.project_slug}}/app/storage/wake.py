"""Wakes a loop when there is work for it: NOTIFY on PostgreSQL; on SQLite, whose writers cannot call, a short sleep."""

import time
from enum import StrEnum
from types import TracebackType

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

SQLITE_PAUSE = 0.1  # seconds; asking a SQLite file costs microseconds


class Channel(StrEnum):
    """What has news."""

    EVENTS = "desk_events"
    INBOX = "desk_inbox"
    OUTBOX = "desk_outbox"


def wake(session: Session, channel: Channel) -> None:
    """Wake who waits on `channel`, at the moment this transaction is committed."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": str(channel)})


class Waiter:
    """Waits for news on `channel`. Its connection is its own: LISTEN belongs to a connection and must not be pooled."""

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self._connection: psycopg.Connection | None = None
        if engine.dialect.name == "postgresql":
            url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = psycopg.connect(url, autocommit=True, connect_timeout=5, application_name=f"desk wait {channel}")
            self._connection.execute(f'LISTEN "{channel}"')

    def wait(self, timeout: float) -> None:
        """Return at news, or after `timeout` seconds. News that came since the last wait counts.

        Raises `psycopg.OperationalError` when the connection is lost: make a new one then.
        """
        if self._connection is None:
            time.sleep(min(timeout, SQLITE_PAUSE))
            return
        for _ in self._connection.notifies(timeout=timeout, stop_after=1):
            pass

    def __enter__(self) -> "Waiter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            self._connection.close()
