"""People, canned answers, operators, what was set aside, the audit trail, and how all is."""

from collections.abc import Callable, Sequence
from typing import Any

from flask import g
from msgspec import UNSET
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.storage import models
from app.storage.tokens import Scope
from app.web import canned, events, inbox, operators, people, status, trail
from app.web.api import shapes
from app.web.api.operation import missing, operation, refuse
from app.web.api.shapes import (
    Before,
    Canned,
    CannedAnswer,
    Colleague,
    Deed,
    Done,
    Health,
    Invitation,
    Light,
    Me,
    Operator,
    Page,
    Person,
)
from app.web.auth import me
from app.web.inbox import PAGE

NUMBER = f"<int(max={10**18 - 1})"
CANNED = select(models.CannedAnswer.id, models.CannedAnswer.shortcut, models.CannedAnswer.text)
OPERATORS = select(
    models.Operator.id,
    models.Operator.login,
    models.Operator.name,
    models.Operator.role,
    models.Operator.vk_id,
    models.Operator.language,
    models.Operator.active,
    models.Operator.created_at,
).order_by(models.Operator.id)


@operation("get", "/me", Scope.READ, page="account.page")
def get_me(_session: Session) -> Me:
    """Whose token this is."""
    return Me(me().id, me().login, me().name, me().role, g.scopes)


@operation("get", "/health", Scope.READ, page="status.page")
def get_health(_session: Session) -> Health:
    """How the desk is, as the page of the same name shows it."""
    lights = status.state().lights
    return Health([Light(light.name, light.level, light.words, light.detail, light.cure) for light in lights])


@operation("get", "/people", Scope.READ, page="people.page")
def list_people(session: Session, query: shapes.People) -> Page[Person]:
    """People, the newest first, 50 at a time."""
    words = query.q.lower().split()[: inbox.WORDS]
    if words and max(map(len, words)) < inbox.SHORTEST:
        return Page([], None)
    found = people.ABOUT.order_by(models.Person.id.desc())
    for word in words:
        found = found.where(func.lower(inbox.NAME).contains(word, autoescape=True))
    return _page(session, found, models.Person.id, query.before, Person)


@operation("get", f"/people/{NUMBER}:person_id>", Scope.READ, page="people.page")
def get_person(session: Session, person_id: int) -> Person:
    """One person."""
    row = session.execute(people.ABOUT.where(models.Person.id == person_id)).one_or_none()
    return Person(*row) if row else missing("person", person_id)


@operation("get", "/canned-answers", Scope.READ, page="inbox.index")
def list_canned_answers(session: Session) -> Page[CannedAnswer]:
    """All canned answers."""
    rows = session.execute(CANNED.order_by(models.CannedAnswer.shortcut)).all()
    return Page([CannedAnswer(*row) for row in rows], None)


@operation("post", "/canned-answers", Scope.MANAGE, page="canned.add", status=201)
def add_canned_answer(session: Session, body: Canned) -> CannedAnswer:
    """Add a canned answer."""
    return _save_canned(session, models.CannedAnswer(), body)


@operation("put", f"/canned-answers/{NUMBER}:answer_id>", Scope.MANAGE, page="canned.change")
def change_canned_answer(session: Session, answer_id: int, body: Canned) -> CannedAnswer:
    """Change a canned answer."""
    answer = session.get(models.CannedAnswer, answer_id, with_for_update=True) or missing("canned answer", answer_id)
    return _save_canned(session, answer, body)


@operation("delete", f"/canned-answers/{NUMBER}:answer_id>", Scope.MANAGE, page="canned.delete")
def delete_canned_answer(session: Session, answer_id: int) -> Done:
    """Delete a canned answer. What was sent with it stays."""
    answer = session.get(models.CannedAnswer, answer_id, with_for_update=True) or missing("canned answer", answer_id)
    canned.delete_one(session, answer)
    return Done(answer_id)


@operation("get", "/colleagues", Scope.READ, page="conversation.page")
def list_colleagues(session: Session) -> Page[Colleague]:
    """To whom a conversation can be assigned."""
    query = select(models.Operator.id, models.Operator.name).where(models.Operator.active).order_by(models.Operator.id)
    return Page([Colleague(*row) for row in session.execute(query)], None)


@operation("get", "/operators", Scope.MANAGE, page="operators.page")
def list_operators(session: Session) -> Page[Operator]:
    """All operators, also those who may not sign in any more."""
    return Page([Operator(*row) for row in session.execute(OPERATORS)], None)


@operation("get", f"/operators/{NUMBER}:operator_id>", Scope.MANAGE, page="operators.one")
def get_operator(session: Session, operator_id: int) -> Operator:
    """One operator."""
    row = session.execute(OPERATORS.where(models.Operator.id == operator_id)).one_or_none()
    return Operator(*row) if row else missing("operator", operator_id)


@operation("post", "/operators", Scope.MANAGE, page="operators.add", status=201)
def add_operator(session: Session, body: shapes.NewOperator) -> Invitation:
    """Add an operator, who chooses a password at the address that this gives."""
    values = {"name": body.name.strip(), "role": body.role, "vk_id": body.vk_id, "language": body.language}
    try:
        operator, address = operators.add_one(session, body.login, values)
    except IntegrityError:
        refuse(409, "somebody has this login or this VK id already")
    return Invitation(operator.id, address)


@operation("patch", f"/operators/{NUMBER}:operator_id>", Scope.MANAGE, page="operators.change")
def change_operator(session: Session, operator_id: int, body: shapes.OperatorChange) -> Operator:
    """Change an operator. What is not named stays as it is; whose `active` becomes false is signed out everywhere."""
    get_operator(session, operator_id)
    values = {name: value for name in ("name", "role", "vk_id", "language") if (value := getattr(body, name)) is not UNSET}
    try:
        operators.change_one(session, operator_id, values)
        if body.active is True:
            operators.activate_one(session, operator_id)
        if body.active is False:
            operators.deactivate_one(session, operator_id)
        session.flush()
    except operators.Refused as refusal:
        refuse(409, str(refusal))
    except IntegrityError:
        refuse(409, "somebody has this VK id already")
    return get_operator(session, operator_id)


@operation("post", f"/operators/{NUMBER}:operator_id>/invitation", Scope.MANAGE, page="operators.invite", status=201)
def invite_operator(session: Session, operator_id: int) -> Invitation:
    """A new invitation in place of the operator's password. Their sessions and tokens end."""
    get_operator(session, operator_id)
    return Invitation(operator_id, operators.invite_one(session, operator_id))


@operation("get", "/events", Scope.READ, page="events.page")
def list_events(session: Session, query: Before) -> Page[shapes.SetAside]:
    """Events that the bot could not deal with, the newest first, 50 at a time."""
    return _page(session, events.ROWS, models.Event.id, query.before, shapes.SetAside)


@operation("post", f"/events/{NUMBER}:event_id>/again", Scope.MANAGE, page="events.again")
def run_event_again(session: Session, event_id: int) -> Done:
    """Put it back into the bot's inbox. It comes back here if the bot fails again."""
    events.again_one(session, _set_aside(session, event_id))
    return Done(event_id)


@operation("post", f"/events/{NUMBER}:event_id>/dismiss", Scope.MANAGE, page="events.dismiss")
def dismiss_event(session: Session, event_id: int) -> Done:
    """Call it done. Nobody answers what was in it."""
    events.dismiss_one(session, _set_aside(session, event_id))
    return Done(event_id)


@operation("get", "/audit", Scope.MANAGE, page="trail.page")
def list_deeds(session: Session, query: Before) -> Page[Deed]:
    """Who did what, the newest first, 50 at a time."""
    return _page(session, trail.ROWS, models.Audit.id, query.before, Deed)


def _page(session: Session, query: Any, number: Any, before: int, shape: Callable[..., Any]) -> Page[Any]:
    """A page of rows that are in the order of falling numbers."""
    rows: Sequence[Any] = session.execute(query.where(number < before).limit(PAGE + 1)).all()
    following = str(rows[PAGE - 1].id) if len(rows) > PAGE else None
    return Page([shape(*row) for row in rows[:PAGE]], following)


def _save_canned(session: Session, answer: models.CannedAnswer, body: Canned) -> CannedAnswer:
    try:
        canned.save_one(session, answer, body.shortcut, body.text)
    except IntegrityError:
        refuse(409, f"there is a canned answer {body.shortcut} already")
    return CannedAnswer(answer.id, answer.shortcut, answer.text)


def _set_aside(session: Session, event_id: int) -> models.Event:
    return events.set_aside(session, event_id) or missing("event that is set aside", event_id)
