"""Sessions of a request: one that only reads, opened when first asked for, and a writing one around each change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from flask import Flask, current_app, g
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage.engine import make_engine


def register(app: Flask, settings: Settings) -> None:
    """Make the engine; it connects at the first query."""
    app.extensions["engine"] = make_engine(settings.database)
    app.teardown_appcontext(_close)


def engine() -> Engine:
    """This application's engine."""
    return cast("Engine", current_app.extensions["engine"])


def reader() -> Session:
    """The request's session for reading. It takes no lock: SQLite lets others write, PostgreSQL begins no transaction."""
    if "reader" not in g:
        options: dict[str, Any] = {"read_only": True}
        if engine().dialect.name == "postgresql":
            options["isolation_level"] = "AUTOCOMMIT"
        g.reader = Session(engine().execution_options(**options))
    return cast("Session", g.reader)


@contextmanager
def writer() -> Iterator[Session]:
    """A session in a transaction of its own, committed at the end."""
    with Session(engine()) as session, session.begin():
        yield session
    if "reader" in g:
        g.reader.rollback()  # on SQLite it would go on seeing what there was when it began


def _close(_error: BaseException | None) -> None:
    if "reader" in g:
        g.pop("reader").close()
