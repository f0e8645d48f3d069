"""A person: who they are, and everything there is of them."""

from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select

from app.storage.models import Conversation, Message, Note, Operator, Person
from app.web import inbox
from app.web.database import reader

blueprint = Blueprint("people", __name__)
NOTES = 100

ABOUT = select(Person.id, Person.vk_id, Person.name.label("person"), Person.reachable, Person.created_at)


@blueprint.get(f"/people/<int(max={10**18 - 1}):person_id>")
def page(person_id: int) -> ResponseReturnValue:
    """What is known of a person, their conversations, and what operators noted in these."""
    about = reader().execute(ABOUT.where(Person.id == person_id)).one_or_none() or abort(404)
    theirs = Conversation.person_id == person_id
    conversations = reader().execute(inbox.ROWS.where(theirs).order_by(Conversation.id)).all()
    counts = (
        select(Message.conversation_id, func.count())
        .where(Message.conversation_id.in_([row.id for row in conversations]))
        .group_by(Message.conversation_id)
    )
    notes = (
        select(Note.id, Note.text, Note.created_at, Note.conversation_id, Operator.name.label("operator"))
        .join(Operator, Operator.id == Note.operator_id)
        .join(Conversation, Conversation.id == Note.conversation_id)
        .where(theirs)
        .order_by(Note.id.desc())
        .limit(NOTES)
    )
    return render_template(
        "person.html",
        about=about,
        conversations=conversations,
        counts={row[0]: row[1] for row in reader().execute(counts)},
        notes=reader().execute(notes).all(),
        here=inbox.here(),
    )
