"""The audit trail as a page."""

import json
import re
from typing import Any

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext
from sqlalchemy import select

from app.storage.models import Audit, Operator
from app.web.database import reader

blueprint = Blueprint("trail", __name__, url_prefix="/audit")
PAGE = 50
NUMBER = re.compile(r"[0-9]{1,18}")

# what can be done; an action that is not here is shown by its code, and cannot be asked for
ACTIONS = {
    "session.begin": lazy_gettext("signed in"),
    "session.refused": lazy_gettext("wrong password"),
    "session.end": lazy_gettext("signed out"),
    "session.end_all": lazy_gettext("signed out everywhere else"),
    "account.change": lazy_gettext("changed the own account"),
    "password.change": lazy_gettext("changed the own password"),
    "password.chosen": lazy_gettext("accepted an invitation"),
    "password.reset": lazy_gettext("reset a password"),
    "operator.add": lazy_gettext("added an operator"),
    "operator.change": lazy_gettext("changed an operator"),
    "operator.deactivate": lazy_gettext("deactivated an operator"),
    "operator.activate": lazy_gettext("activated an operator"),
    "canned.add": lazy_gettext("added a canned answer"),
    "canned.change": lazy_gettext("changed a canned answer"),
    "canned.delete": lazy_gettext("deleted a canned answer"),
    "token.add": lazy_gettext("made an API token"),
    "token.revoke": lazy_gettext("revoked an API token"),
    "event.again": lazy_gettext("ran set-aside events again"),
    "event.dismiss": lazy_gettext("dismissed a set-aside event"),
    "conversation.answer": lazy_gettext("answered"),
    "conversation.note": lazy_gettext("wrote a note"),
    "conversation.assign": lazy_gettext("assigned a conversation"),
    "conversation.topic": lazy_gettext("named the topic of a conversation"),
    "conversation.close": lazy_gettext("closed a conversation"),
    "conversation.send_again": lazy_gettext("sent an answer again"),
    "report.order": lazy_gettext("ordered an export, or changed the reports' schedule"),
    "connect.ask": lazy_gettext("asked VK how it is set up"),
}

ROWS = (
    select(
        Audit.id,
        Audit.at,
        Audit.operator_id,
        Audit.action,
        Audit.target,
        Audit.details,
        Audit.address,
        Audit.request_id,
        Operator.name.label("operator"),
    )
    .outerjoin(Operator, Operator.id == Audit.operator_id)
    .order_by(Audit.id.desc())
)


@blueprint.get("")
def page() -> ResponseReturnValue:
    """The newest first, of one operator or one kind if that is asked for; `before` is the number after which this page begins."""
    asked = {name: request.args.get(name, "") for name in ("operator", "action", "before")}
    if not all(NUMBER.fullmatch(asked[name] or "0") for name in ("operator", "before")):
        abort(404)
    query = ROWS
    if asked["operator"]:
        query = query.where(Audit.operator_id == int(asked["operator"]))
    if asked["action"]:
        query = query.where(Audit.action == asked["action"].replace("\0", ""))
    if asked["before"]:
        query = query.where(Audit.id < int(asked["before"]))
    rows = reader().execute(query.limit(PAGE + 1)).all()
    operators = reader().execute(select(Operator.id, Operator.name).order_by(Operator.name, Operator.id)).all()
    older = rows[PAGE - 1].id if len(rows) > PAGE else None
    shown = {"rows": rows[:PAGE], "operators": operators, "actions": ACTIONS, "asked": asked, "older": older}
    return render_template("audit.html", in_words=_in_words, **shown)


def _in_words(details: dict[str, Any]) -> str:
    """role: admin, language: –"""
    return ", ".join(f"{name}: {_plain(value)}" for name, value in details.items())


def _plain(value: Any) -> str:
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
