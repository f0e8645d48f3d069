"""How each operation of the API is run: whose token, which role, what is asked, what is answered.

An operation is a function from a session and what was asked to a `msgspec.Struct`. Its path, its annotations and its docstring
are its description as well.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from hashlib import sha256
from typing import Any, Literal, NoReturn, TypeVar, get_type_hints

import msgspec
from flask import Blueprint, Response, abort, g, request
from flask.typing import ResponseReturnValue
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from app.storage.engine import insert_new
from app.storage.models import ApiReply, ApiToken, Operator, now
from app.storage.tokens import Scope, digest
from app.web import problem
from app.web.auth import COLUMNS, SignedIn, may
from app.web.database import reader, writer

blueprint = Blueprint("api", __name__, url_prefix=problem.PREFIX)
OPERATIONS: list["Operation"] = []
KEY_HEADER, KEY_LIMIT = "Idempotency-Key", 200
REMEMBERED = timedelta(days=1)  # so long is a repeat answered the same
USED = timedelta(minutes=1)  # how exactly a token's last use is known
JSON = "application/json"
encode = msgspec.json.Encoder().encode

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One method of one path. `page` is the endpoint of the page that does the same, and so says which role it needs."""

    method: Literal["get", "post", "put", "patch", "delete"]
    path: str
    scope: Scope
    page: str
    status: int
    function: Callable[..., Any]
    query: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    gives: Any

    @property
    def name(self) -> str:
        """What clients call it."""
        return self.function.__name__

    @property
    def words(self) -> str:
        """What it does."""
        return inspect.getdoc(self.function) or ""


def operation(
    method: Literal["get", "post", "put", "patch", "delete"], path: str, scope: Scope, *, page: str, status: int = 200
) -> Callable[[F], F]:
    """Make the function an operation of the API."""

    def register(function: F) -> F:
        types = get_type_hints(function)
        known = Operation(
            method, path, scope, page, status, function, types.get("query"), types.get("body"), types.get("return", type(None))
        )
        OPERATIONS.append(known)
        blueprint.add_url_rule(path, function.__name__, partial(_run, known), methods=[method.upper()])
        return function

    return register


def refuse(code: int, detail: str, headers: dict[str, str] | None = None) -> NoReturn:
    """End the request with this problem."""
    abort(problem.response(code, detail, headers))


def missing(what: str, number: int) -> NoReturn:
    """End the request: there is no such thing."""
    refuse(404, f"there is no {what} {number}")


def _run(asked: Operation, **arguments: Any) -> ResponseReturnValue:
    _authorise(asked)
    if asked.query:
        arguments["query"] = _converted(request.args.to_dict(), asked.query)
    if asked.body:
        arguments["body"] = _read_body(asked.body)
    if asked.method == "get":
        return _unless_known(encode(asked.function(reader(), **arguments)))
    with writer() as session:
        return _write(session, asked, arguments)


def _authorise(asked: Operation) -> None:
    """Find out whose token it is. A cookie counts for nothing here, so no other site can make a browser do anything."""
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    found = reader().connection().execute(_token_query(), {"digest": digest(secret)}).one_or_none()
    if kind.lower() != "bearer" or found is None:
        refuse(401, "send the header Authorization: Bearer TOKEN, with a valid token", {"WWW-Authenticate": "Bearer"})
    token_id, scopes, used_at, *operator = found
    g._login_user = SignedIn(*operator)  # where Flask-Login keeps whom it has found
    g.language, g.scopes = g._login_user.language, scopes.split()
    if asked.scope not in g.scopes:
        refuse(403, f"the token has not the scope {asked.scope}")
    if not may(asked.page):
        refuse(403, f"the role {g._login_user.role} does not allow it")
    if used_at is None or now() - used_at > USED:
        with writer() as session:
            session.execute(update(ApiToken).where(ApiToken.id == token_id).values(used_at=now()))


@cache
def _token_query() -> Any:
    columns = (ApiToken.id, ApiToken.scopes, ApiToken.used_at, *COLUMNS)
    valid = (ApiToken.digest == bindparam("digest"), ApiToken.revoked_at.is_(None), Operator.active)
    return select(*columns).join(Operator, Operator.id == ApiToken.operator_id).where(*valid)


def _converted(values: Any, kind: type[msgspec.Struct]) -> msgspec.Struct:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        refuse(422, str(error))


def _read_body(kind: type[msgspec.Struct]) -> msgspec.Struct:
    if request.mimetype != JSON:
        refuse(415, f"send Content-Type: {JSON}")
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except msgspec.ValidationError as error:
        refuse(422, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        refuse(400, str(error))


def _unless_known(body: bytes) -> Response:
    """The answer, or 304 when the client has it already."""
    response = Response(body, content_type=JSON)
    response.set_etag(sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


def _write(session: Session, asked: Operation, arguments: dict[str, Any]) -> Response:
    """Do it and answer; with a key that is known already, only answer as the first time."""
    key = request.headers.get(KEY_HEADER)
    if key is None or asked.method != "post":
        return Response(encode(asked.function(session, **arguments)), asked.status, content_type=JSON)
    if not 0 < len(key) <= KEY_LIMIT:
        refuse(400, f"{KEY_HEADER} has 1 to {KEY_LIMIT} characters")
    reply = _reply(session, sha256(repr((g._login_user.id, key)).encode()).hexdigest())
    shape = sha256(repr((request.full_path, request.get_data())).encode()).hexdigest()
    if reply.status is None or reply.body is None:
        reply.request, reply.status = shape, asked.status
        reply.body = encode(asked.function(session, **arguments)).decode()
    elif reply.request != shape:
        refuse(422, f"this {KEY_HEADER} was used for another request")
    return Response(reply.body, reply.status, content_type=JSON)


def _reply(session: Session, key: str) -> ApiReply:
    """The row of this key, held: who sends the same at the same time waits until this one is done."""
    session.execute(delete(ApiReply).where(ApiReply.created_at < now() - REMEMBERED))
    insert_new(session, ApiReply, [{"digest": key, "request": "", "status": None, "body": None}])
    return session.scalars(select(ApiReply).where(ApiReply.digest == key).with_for_update()).one()
