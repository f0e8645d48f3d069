"""Connect VK: what is switched on there and what is not. The bot looks (`app/bot/checkup.py`): the web has no way to VK."""

from flask import Blueprint, abort, redirect, render_template
from flask.typing import ResponseReturnValue
from flask_babel import get_locale
from sqlalchemy import select, update

from app.storage.models import Checkup, now
from app.web import live
from app.web.audit import audit
from app.web.database import reader, writer

blueprint = Blueprint("connect", __name__, url_prefix="/connect")
VK = "vk"  # the row's name


@blueprint.get("")
def page() -> ResponseReturnValue:
    """What the bot found; to htmx, if there is news, that alone."""
    query = select(Checkup.asked_at, Checkup.done_at, Checkup.found).where(Checkup.name == VK)
    row = reader().execute(query).one_or_none() or abort(404)
    waits = row.done_at is None or row.asked_at > row.done_at
    checks = [{"right": each["right"], **each[str(get_locale())]} for each in row.found]
    etag = live.fingerprint(waits, row.done_at, checks)
    shown = {"checks": checks, "done_at": row.done_at, "waits": waits, "etag": etag}
    if live.is_htmx():
        return live.answer(etag, lambda: render_template("_connect.html", **shown))
    return render_template("connect.html", **shown)


@blueprint.post("")
def ask() -> ResponseReturnValue:
    """Ask the bot to look again."""
    with writer() as session:
        session.execute(update(Checkup).where(Checkup.name == VK).values(asked_at=now()))
        audit(session, "connect.ask")
    return redirect("/connect", 303)


def has_bot() -> bool:
    """Whether a bot was ever there: a project may have been made without one."""
    return reader().scalar(select(Checkup.name).where(Checkup.name == VK)) is not None
