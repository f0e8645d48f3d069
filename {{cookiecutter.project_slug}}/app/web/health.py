"""Is the process alive, and can it do its work?"""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.storage.engine import readiness
from app.web.database import engine

blueprint = Blueprint("health", __name__)
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


@blueprint.get("/healthz")
def alive() -> ResponseReturnValue:
    """200 while the process answers."""
    return "ok", PLAIN


@blueprint.get("/readyz")
def ready() -> ResponseReturnValue:
    """200 when the database answers and its schema fits, else 503 and one line that says why not."""
    problem = readiness(engine())
    return (problem, 503, PLAIN) if problem else ("ok", PLAIN)
