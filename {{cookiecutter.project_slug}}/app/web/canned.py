"""Canned answers: texts that operators need often, each with the shortcut that writes it."""

import re

from flask import Blueprint, abort, redirect, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.storage.models import CannedAnswer
from app.web.audit import audit
from app.web.database import reader, writer
from app.web.form import field

blueprint = Blueprint("canned", __name__, url_prefix="/canned-answers")
ONE = f"/<int(max={10**18 - 1}):answer_id>"
SHORTCUT = re.compile(r"[\w-]{1,50}")  # a word, in any alphabet
TEXT_LIMIT = 4000  # characters: one message of VK


@blueprint.get("")
def page() -> ResponseReturnValue:
    """All of them, each in a form of its own, and a form for one more."""
    return _page()


@blueprint.post("")
def add() -> ResponseReturnValue:
    """Add one."""
    return _save(None)


@blueprint.post(ONE)
def change(answer_id: int) -> ResponseReturnValue:
    """Change the shortcut or the text."""
    return _save(answer_id)


@blueprint.post(f"{ONE}/delete")
def delete(answer_id: int) -> ResponseReturnValue:
    """Delete it; what was sent with it stays."""
    with writer() as session:
        delete_one(session, _locked(session, answer_id))
    return redirect("/canned-answers", 303)


def save_one(session: Session, answer: CannedAnswer, shortcut: str, text: str) -> None:
    """Store a new answer, or what is new of one. Raises `IntegrityError` when another has the shortcut."""
    is_new = answer.id is None
    answer.shortcut, answer.text = shortcut, text
    session.add(answer)
    audit(session, "canned.add" if is_new else "canned.change", f"/{shortcut}", text=text)
    session.flush()


def delete_one(session: Session, answer: CannedAnswer) -> None:
    """Delete it; what was sent with it stays."""
    session.delete(answer)
    audit(session, "canned.delete", f"/{answer.shortcut}", text=answer.text)


def _save(answer_id: int | None) -> ResponseReturnValue:
    shortcut, text = field("shortcut").removeprefix("/").lower(), field("text")
    if not SHORTCUT.fullmatch(shortcut):
        return _page(answer_id, gettext("A shortcut is a word of up to 50 letters and digits.")), 400
    if not 0 < len(text) <= TEXT_LIMIT:
        return _page(answer_id, gettext("A text has 1 to %(most)s characters.", most=TEXT_LIMIT)), 400
    try:
        with writer() as session:
            save_one(session, CannedAnswer() if answer_id is None else _locked(session, answer_id), shortcut, text)
    except IntegrityError:
        return _page(answer_id, gettext("There is a canned answer with this shortcut already.")), 409
    return redirect("/canned-answers", 303)


def _page(wrong_id: int | None = None, problem: str | None = None) -> str:
    """`problem` is what is wrong with the form of the answer `wrong_id`, None for the new one; what was typed stays in it."""
    answers = reader().scalars(select(CannedAnswer).order_by(CannedAnswer.shortcut)).all()
    typed = {"shortcut": field("shortcut"), "text": field("text")} if problem else {}
    shown = {"answers": answers, "wrong_id": wrong_id, "problem": problem, "typed": typed, "limit": TEXT_LIMIT}
    return render_template("canned.html", **shown)


def _locked(session: Session, answer_id: int) -> CannedAnswer:
    return session.get(CannedAnswer, answer_id, with_for_update=True) or abort(404)
