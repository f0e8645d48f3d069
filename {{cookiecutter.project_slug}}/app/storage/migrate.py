"""Brings the database to the schema that this code needs: migrations, roles, and the first operator."""

from typing import cast

import psycopg
import structlog
from alembic import command
from argon2 import PasswordHasher
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from app.settings import Settings, SettingsError
from app.storage import roles, triggers
from app.storage.engine import WRONG_PASSWORD, alembic_config, reachable, schema_head, wait_for_database
from app.storage.models import Audit, Operator, Role, Throttle

log = structlog.get_logger()

# 19 MiB, 2 passes: OWASP's first choice for argon2id, 25 ms on a small server instead of the library's 190
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
FIRST_LOGIN = "admin"


def migrate(settings: Settings) -> None:
    """Wait for the database, then bring it to the head revision. Running it again changes nothing.

    Raises `SettingsError` when the database refuses the password.
    """
    engine = wait_for_database(settings, ready=_answers)
    command.upgrade(alembic_config(settings.database), "head")
    for trigger in triggers.TRIGGERS:
        # each by itself: who holds one table and wants the next could wait for a service that does the same
        with engine.begin() as connection:
            triggers.put(connection, trigger)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            driver = connection.connection.driver_connection
            roles.grant(cast("psycopg.Connection", driver), settings)
    _first_operator(engine, settings)
    log.info(f"the database is at revision {schema_head()}")
    engine.dispose()


def _answers(engine: Engine) -> str | None:
    problem = reachable(engine)
    if problem and WRONG_PASSWORD in problem:
        raise SettingsError(problem)  # no waiting cures that
    return problem


def reset_password(settings: Settings) -> None:
    """Give the first operator the password from `secrets/operator_password` again, whatever was done to them since.

    All their sessions end.
    """
    engine = wait_for_database(settings)
    with Session(engine) as session, session.begin():
        operator = session.scalar(select(Operator).where(Operator.login == FIRST_LOGIN))
        if operator is None:
            raise SettingsError(f"there is no operator {FIRST_LOGIN}")
        operator.password_hash = hasher.hash(settings.secret("operator_password"))
        operator.session_version += 1
        operator.active, operator.role = True, Role.ADMIN
        session.execute(delete(Throttle).where(Throttle.name == f"account {FIRST_LOGIN}"))
        session.add(Audit(action="password.reset", target=f"operator {operator.id}"))
    log.info(f"{FIRST_LOGIN} has the password in secrets/operator_password now")
    engine.dispose()


def revision(settings: Settings, message: str) -> None:
    """Write a new migration from the difference between the models and the database."""
    command.revision(alembic_config(settings.database), message, autogenerate=True)


def _first_operator(engine: Engine, settings: Settings) -> None:
    """Without operators nobody could sign in: the first is an admin with the password from `secrets/operator_password`."""
    with Session(engine) as session, session.begin():
        if session.scalar(select(func.count()).select_from(Operator)):
            return
        password = hasher.hash(settings.secret("operator_password"))
        session.add(Operator(login=FIRST_LOGIN, name=FIRST_LOGIN.capitalize(), password_hash=password, role=Role.ADMIN))
        log.info(f"created the operator {FIRST_LOGIN}; the password is in secrets/operator_password")
