"""The API keeps to its own description, whatever is sent: requests are made from the OpenAPI document."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage import seed, tokens
from app.storage.models import CannedAnswer, Event, EventState, Note, now
from app.web import create_app

ROWS = 30
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# 12.0 is a whole number to JSON Schema and none to us, so what is right by the schema may still be refused
MORE: dict[str, list[Any]] = {"positive": [], "negative": [checks.negative_data_rejection]}
EXAMPLES = {"positive": 10, "negative": 4}  # of each operation


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Iterator[Flask]:
    seed.fill(engine, settings, ROWS, now())
    with Session(engine) as session, session.begin():
        for number in range(ROWS):
            session.add(Event(type="message_new", raw={}, state=EventState.FAILED, error="why not"))
            session.add(CannedAnswer(shortcut=f"word{number}", text="text"))
            session.add(Note(conversation_id=1, after_id=0, operator_id=1, text="note"))
    app = create_app(settings)
    logging.getLogger().setLevel(logging.ERROR)
    yield app
    app.extensions["engine"].dispose()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_as_described(app: Flask, engine: Engine, mode: str) -> None:
    with Session(engine) as session, session.begin():
        _token, secret = tokens.create(session, 1, "test", list(tokens.Scope))
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)
    schema.config.generation.with_security_parameters = False  # the token is a right one; others have their own tests
    answers: Counter[int] = Counter()

    def try_out(operation: Any) -> None:
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        @bounds(
            max_examples=EXAMPLES[mode],
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Any) -> None:
            # numbers of what is there, more often than not
            for name, number in (case.path_parameters or {}).items():
                if isinstance(number, int) and number % 4:
                    case.path_parameters[name] = number % ROWS + 1
            response = case.call(headers={"Authorization": f"Bearer {secret}"})
            answers[response.status_code] += 1
            case.validate_response(response, checks=[*CHECKS, *MORE[mode]])

        one()

    for found in schema.get_all_operations():
        operation = found.ok()
        if mode == "positive" or operation.body or operation.query:
            try_out(operation)
    assert answers[200 if mode == "positive" else 422] > 10, answers
