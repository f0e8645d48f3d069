"""The trail: who did what, when, and from where."""

from typing import Any

from flask import request
from flask_login import current_user
from sqlalchemy.orm import Session

from app.log import request_id
from app.storage.models import Audit


def audit(session: Session, action: str, target: str | None = None, *, operator_id: int | None = None, **details: Any) -> None:
    """Take down what the operator of this request does, in the transaction that does it: neither is there without the other.

    `action` is "kind.verb", as "operator.role"; `target` what it was done to, as "operator 7" (up to 200 characters);
    `details` go into JSON. `operator_id` says who it is where nobody is signed in yet.
    """
    if operator_id is None and current_user.is_authenticated:
        operator_id = current_user.id
    session.add(
        Audit(
            operator_id=operator_id,
            action=action,
            target=target,
            details=details,
            address=request.remote_addr,
            request_id=request_id(),
        )
    )
