"""Tokens of the JSON API: a program that has one does what its operator may do, within the token's scopes."""

import secrets
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import Settings, SettingsError
from app.storage.engine import wait_for_database
from app.storage.models import ApiToken, Audit, Operator

PREFIX = "desk_"  # so that a token that was left lying about is known for one
NAME_LIMIT = 100


class Scope(StrEnum):
    """What a token is good for."""

    READ = "read"
    ANSWER = "answer"
    MANAGE = "manage"


def digest(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()


def create(session: Session, operator_id: int, name: str, scopes: Sequence[Scope]) -> tuple[ApiToken, str]:
    """A new token and its secret, which nobody can tell again."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(operator_id=operator_id, name=name[:NAME_LIMIT], digest=digest(secret), scopes=" ".join(scopes))
    session.add(token)
    session.flush()
    return token, secret


def main(settings: Settings, login: str, name: str, words: Sequence[str]) -> None:
    """Print a new token of the operator `login`. Raises `SettingsError` for a login or a scope that there is not."""
    unknown = set(words) - set(Scope)
    if unknown:
        raise SettingsError(f"there is no scope {min(unknown)}: there are {', '.join(Scope)}")
    engine = wait_for_database(settings)
    with Session(engine) as session, session.begin():
        operator_id = session.scalar(select(Operator.id).where(Operator.login == login, Operator.active))
        if operator_id is None:
            raise SettingsError(f"there is no operator {login}")
        token, secret = create(session, operator_id, name, [Scope(word) for word in words] or list(Scope))
        details = {"login": login, "name": token.name, "scopes": token.scopes}
        session.add(Audit(action="token.add", target=f"token {token.id}", details=details))
    engine.dispose()
    print(secret)
