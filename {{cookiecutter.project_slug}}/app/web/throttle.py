"""Holds back who tries passwords. The counts are in the database, so that they hold over all workers and restarts.

Somebody who tries passwords for another's account must not lock that person out. So a browser in which an account was signed in
to before is counted by itself, for that account; and who tries from one address is stopped long before the account is.
"""

import secrets
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Address, ip_address, ip_network

from flask import Response, current_app, request
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import case, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.storage.models import Throttle, now

WINDOW = timedelta(minutes=15)
LIMITS = {"browser": 10, "address": 20, "account": 50, "password": 10}  # tries within it, by the first word of what is counted
COOKIE = "desk_known"
KNOWN_FOR = timedelta(days=365)


def names(login: str) -> list[str]:
    """What a try of a password for `login` counts against, in order."""
    login = login[:100]  # as long as one can be
    known = _known_browser(login)
    return [f"browser {known}"] if known else [f"address {_network(request.remote_addr or '')}", f"account {login}"]


def count(session: Session, counted: Iterable[str]) -> timedelta | None:
    """Count a try, before it is made: many at once must not pass together. None, or how long it is until one may try again."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    for name in counted:
        at = now()
        row = dialect.insert(Throttle).values(name=name, tries=1, until=at + WINDOW)
        over = Throttle.until <= at
        again = {
            "tries": case((over, 1), else_=Throttle.tries + 1),
            "until": case((over, row.excluded.until), else_=Throttle.until),
        }
        found = row.on_conflict_do_update(index_elements=["name"], set_=again).returning(Throttle.tries, Throttle.until)
        tries, until = session.execute(found).one()
        if tries > LIMITS[name.split()[0]]:
            wait: timedelta = until - at
            return max(wait, timedelta(seconds=1))
    return None


def take_back(session: Session, counted: Iterable[str]) -> None:
    """The try was right: it does not count. What is over is forgotten."""
    for name in counted:  # in the order of `count`: two who hold one each would wait for each other for ever
        session.execute(update(Throttle).where(Throttle.name == name).values(tries=Throttle.tries - 1))
    # what somebody counts on at this moment is let be: they may wait for a count that is held here
    over = select(Throttle.name).where(Throttle.until <= now()).with_for_update(skip_locked=True)
    session.execute(delete(Throttle).where(Throttle.name.in_(over)))


def remember_browser(response: Response, login: str) -> None:
    """Give this browser the cookie that says that `login` has signed in with it."""
    value = _signer().dumps([login, _known_browser(login) or secrets.token_hex(8)])
    response.set_cookie(COOKIE, value, max_age=KNOWN_FOR, secure=request.is_secure, httponly=True, samesite="Lax")


def _known_browser(login: str) -> str | None:
    try:
        known, number = _signer().loads(request.cookies.get(COOKIE, ""))
    except (BadSignature, ValueError):
        return None
    return str(number) if known == login else None


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.secret_key or "", salt="known browser")


def _network(address: str) -> str:
    """The address itself, or the network of an IPv6 one: anybody has a whole one.

    An IPv4 address may come as IPv6 writes it, ::ffff:10.0.0.1; all of these are in one network.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
