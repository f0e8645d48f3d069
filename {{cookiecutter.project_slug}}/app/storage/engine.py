"""Connections that behave alike on PostgreSQL and SQLite."""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, create_engine, event, literal_column, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from app.log import redact
from app.settings import Settings

log = structlog.get_logger()

WRONG_PASSWORD = "password authentication failed"  # noqa: S105 - the words of PostgreSQL


def make_engine(url: URL, *, pool_size: int = 5) -> Engine:
    """An engine for `url`. On SQLite: WAL, foreign keys, a busy timeout, and every transaction begins as a writer.

    SQLite's default, deferred BEGIN fails with "database is locked" when a reader turns into a writer, whatever the
    busy timeout says; BEGIN IMMEDIATE waits its turn instead. Errors, which go into logs, hold no values: people's messages,
    hashes, and what was typed for a login.
    """
    if url.get_backend_name() == "postgresql":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": 5, "application_name": "desk"},
        )
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30}, pool_size=pool_size, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin on its own
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    # SQLite's own knows the letters of English only
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


def _begin_immediate(connection: Any) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")


def insert_new(session: Session, table: type[DeclarativeBase], rows: list[dict[str, Any]]) -> None:
    """Insert `rows`, all with the same keys; those that a unique constraint knows already are left out."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    # with RETURNING many rows go in one statement, without it each in its own
    session.execute(dialect.insert(table).on_conflict_do_nothing().returning(literal_column("1")), rows)


def alembic_config(url: URL) -> Config:
    """Alembic's configuration without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url
    return config


def schema_head() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory(str(Path(__file__).parent / "migrations")).get_current_head()
    if head is None:
        raise RuntimeError("there is no migration in app/storage/migrations/versions")
    return head


def schema_revision(engine: Engine) -> str | None:
    """The revision that the database is at; None before the first migration."""
    # a probe must not wait for SQLite's one writer, nor make it wait
    with engine.connect().execution_options(read_only=True) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def readiness(engine: Engine) -> str | None:
    """None when the database answers and its schema is the one this code needs, else one line that says what is wrong."""
    try:
        revision = schema_revision(engine)
    except SQLAlchemyError as error:
        return f"no answer from the database at {_where(engine)}: {_reason(error)}"
    head = schema_head()
    return None if revision == head else f"the database is at revision {revision}, this code needs {head}: run `make migrate`"


def wait_for_database(
    settings: Settings, ready: Callable[[Engine], str | None] = readiness, stop: threading.Event | None = None
) -> Engine:
    """An engine whose database answers with the right schema. Says once a cause what it waits for, and keeps trying."""
    engine = make_engine(settings.database)
    said, pause = "", 0.5
    while (problem := ready(engine)) is not None:
        if problem != said:
            log.warning(f"waiting: {problem}")
            said = problem
        if stop is not None and stop.wait(pause):
            break
        if stop is None:
            time.sleep(pause)
        pause = min(pause * 1.5, 5)
    return engine


def reachable(engine: Engine) -> str | None:
    """None when the database answers at all, else one line that says what is wrong."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        return f"no answer from the database at {_where(engine)}: {_reason(error)}"
    return None


def _where(engine: Engine) -> str:
    url = engine.url
    return url.render_as_string(hide_password=True) if url.host is None else f"{url.host}:{url.port or 5432}/{url.database}"


def _reason(error: SQLAlchemyError) -> str:
    cause = str(getattr(error, "orig", error)).strip().splitlines()
    reason = redact(cause[0] if cause else type(error).__name__)
    if isinstance(error, OperationalError) and WRONG_PASSWORD in reason:
        reason += " (an old volume keeps its old password: see `make doctor`)"
    return reason
