"""The API's description as an OpenAPI 3.1 document, made from the operations and the shapes of what they take and give."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from flask import Response, request

from app.storage.tokens import Scope
from app.web import problem
from app.web.api.operation import JSON, KEY_HEADER, KEY_LIMIT, OPERATIONS, Operation, blueprint

PAGES = re.compile(rb"Page_(\w+)_")  # so msgspec names a page of something
PARAMETER = re.compile(r"<int\(max=(\d+)\):(\w+)>")
SCOPES = {
    Scope.READ: "See what the operator may see.",
    Scope.ANSWER: "Answer, note, assign, close.",
    Scope.MANAGE: "Canned answers, set-aside events, operators, the audit trail, as far as the role goes.",
}
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail"],
}


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The document. Nothing in it is secret."""
    response = Response(_encoded(), content_type=JSON)
    response.add_etag()
    response.make_conditional(request)
    return response


@cache
def document() -> dict[str, Any]:
    """The description of all operations."""
    named: dict[str, Any] = msgspec.json.decode(PAGES.sub(rb"\1Page", msgspec.json.encode(_document())))
    return named


def _document() -> dict[str, Any]:
    kinds = [kind for known in OPERATIONS for kind in (known.query, known.body, known.gives) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for known in OPERATIONS:
        address = PARAMETER.sub(r"{\2}", problem.PREFIX + known.path)
        paths.setdefault(address, {})[known.method] = _described(known, schema_of, components)
    named = {kind.__name__ for known in OPERATIONS if (kind := known.query) is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Community Desk",
            "version": "1",
            "description": "All that the pages do. Errors are application/problem+json. A request with an "
            f"{KEY_HEADER} that is repeated within a day is answered the same and does nothing again.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: schema for name, schema in components.items() if name not in named} | {"Problem": PROBLEM},
        },
    }


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(document())


def _described(known: Operation, schema_of: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    first, _, rest = known.words.partition("\n")
    described: dict[str, Any] = {
        "operationId": known.name,
        "summary": first,
        "description": " ".join(f"{rest} Needs the scope {known.scope}.".split()),
        "security": [{"token": []}],
        "parameters": [*_parameters(known, schema_of, components)],
        "responses": {
            str(known.status): {"description": "Done.", "content": {JSON: {"schema": schema_of[repr(known.gives)]}}},
            "default": {
                "description": "A problem.",
                "content": {problem.TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if known.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema_of[repr(known.body)]}}}
    if known.method == "get":
        described["responses"]["304"] = {"description": "The client has it already: its If-None-Match is the ETag."}
    return described


def _parameters(known: Operation, schema_of: dict[str, Any], components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for most, name in PARAMETER.findall(known.path):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": int(most)},
        }
    if known.query is not None:
        shape = components[schema_of[repr(known.query)]["$ref"].rpartition("/")[2]]
        for name, schema in shape["properties"].items():
            yield {"name": name, "in": "query", "schema": schema}
    if known.method == "post":
        yield {
            "name": KEY_HEADER,
            "in": "header",
            "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LIMIT},
        }
