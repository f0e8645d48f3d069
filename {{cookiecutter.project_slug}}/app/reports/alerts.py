"""What operators have to look at without being asked: rules, each of which is told once in their chat, and once when it is over.

While quiet hours last nothing is told; what is still so when they end, is. On the inbox's health page it is seen at once.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask_babel import format_timedelta, gettext, ngettext
from sqlalchemy import ColumnElement, Engine, and_, func, or_, select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.storage import desk
from app.storage.engine import insert_new
from app.storage.models import (
    Alert,
    Author,
    Conversation,
    ConversationStatus,
    Delivery,
    DeliveryState,
    Message,
)
from app.storage.queues import FIRST_NEW, FIRST_UNFINISHED, UNREACHABLE, last_poll, word

CALM = timedelta(minutes=5)  # so long a thing has to be well before it is called over: what comes and goes is told once
LATELY = timedelta(hours=1)
MANY = 1000  # more are not counted


@dataclass(frozen=True)
class Look:
    """What the rules look at: the database as it is at this moment, and the settings."""

    session: Session
    settings: Settings
    at: datetime

    def late(self, since: datetime | None, limit: timedelta) -> str | None:
        """How long it is since then, in words, when that is more than `limit`. A limit of nothing switches the rule off."""
        if not limit or since is None or self.at - since <= limit:
            return None
        return str(format_timedelta(self.at - since, threshold=1.5))


def backlog(look: Look) -> str | None:
    """Many conversations are open."""
    some = select(Conversation.id).where(Conversation.status == ConversationStatus.OPEN).limit(MANY).subquery()
    count = look.session.scalar(select(func.count()).select_from(some)) or 0
    if not look.settings.alert_open or count <= look.settings.alert_open:
        return None
    return str(ngettext("%(num)s conversation is open.", "%(num)s conversations are open.", count))


def response(look: Look) -> str | None:
    """Somebody waits long for an operator: since the hand-over, or since they wrote after an operator's last answer."""
    here = Message.conversation_id == Conversation.id
    answered = select(func.max(Message.id)).where(
        here, Message.author == Author.OPERATOR, Message.created_at >= Conversation.opened_at
    )
    answered_id = answered.correlate(Conversation).scalar_subquery()
    asked = select(func.min(Message.created_at)).where(here, Message.author == Author.PERSON, Message.id > answered_id)
    rows = look.session.execute(
        select(
            Conversation.opened_at, answered_id.label("answered"), asked.correlate(Conversation).scalar_subquery().label("asked")
        )
        .where(Conversation.status == ConversationStatus.OPEN)
        .limit(MANY)
    )
    waits = [row.asked if row.answered else row.opened_at for row in rows]
    oldest = min((since for since in waits if since), default=None)
    time = look.late(oldest, timedelta(minutes=look.settings.alert_wait))
    return time and gettext("Somebody has waited for an operator for %(time)s.", time=time)


def failures(look: Look) -> str | None:
    """Many messages could not be sent lately, and it was not that people do not want them."""
    failed = select(func.count()).where(
        Delivery.state == word(DeliveryState.FAILED),
        Delivery.next_try_at > look.at - LATELY,
        or_(Delivery.error_code.is_(None), Delivery.error_code.not_in(UNREACHABLE)),
    )
    count = look.session.scalar(failed) or 0
    if not look.settings.alert_failed or count <= look.settings.alert_failed:
        return None
    return str(ngettext("%(num)s message was not sent within an hour.", "%(num)s messages were not sent within an hour.", count))


def silence(look: Look) -> str | None:
    """VK was not heard of by the long poll."""
    if look.settings.vk_transport != "longpoll":
        return None
    polled = look.session.scalar(last_poll(look.settings.vk_group_id))
    time = look.late(polled, timedelta(minutes=look.settings.alert_silence))
    return time and gettext("VK has not been heard of for %(time)s: no messages come in.", time=time)


def incoming(look: Look) -> str | None:
    """The bot does not keep up with what comes in."""
    time = look.late(look.session.scalar(FIRST_NEW), timedelta(minutes=look.settings.alert_queue))
    return time and gettext("Messages that came in wait for the bot, the first for %(time)s.", time=time)


def outgoing(look: Look) -> str | None:
    """Answers do not go out."""
    time = look.late(look.session.scalar(FIRST_UNFINISHED), timedelta(minutes=look.settings.alert_queue))
    return time and gettext("Messages wait to be sent, the first for %(time)s.", time=time)


def disk(look: Look) -> str | None:
    """The disk of the data folder is nearly full."""
    usage = shutil.disk_usage(look.settings.data_dir)
    free = 100 * usage.free // usage.total
    if not look.settings.alert_disk or free >= look.settings.alert_disk:
        return None
    return str(gettext("%(percent)s %% of the disk is free.", percent=free))


def backup(look: Look) -> str | None:
    """The newest backup is old, or there is none."""
    folder = look.settings.backup_dir
    if folder is None or not look.settings.alert_backup:
        return None
    try:
        files = [entry.stat().st_mtime for entry in folder.iterdir() if entry.is_file()]
    except OSError:
        return str(gettext("The folder with the backups cannot be read."))
    if not files:
        return str(gettext("There is no backup."))
    newest = datetime.fromtimestamp(max(files), look.at.tzinfo)
    time = look.late(newest, timedelta(hours=look.settings.alert_backup))
    return time and gettext("The newest backup was made %(time)s ago.", time=time)


RULES: Mapping[str, Callable[[Look], str | None]] = {
    rule.__name__: rule for rule in (backlog, response, failures, silence, incoming, outgoing, disk, backup)
}


def check(engine: Engine, settings: Settings, at: datetime) -> None:
    """Look at everything, take down what is wrong and what is over, and tell the operators' chat what it does not know yet."""
    with Session(engine.execution_options(read_only=True)) as session:
        look = Look(session, settings, at)
        found = {name: words for name, rule in RULES.items() if (words := rule(look))}
        quiet = settings.quiet(at) or settings.operators_peer_id is None
        if not found and session.scalar(select(Alert.id).where(or_(Alert.ended_at.is_(None), _untold_end())).limit(1)) is None:
            return
    with Session(engine) as session, session.begin():
        _take_down(session, found, at)
        if not quiet and settings.operators_peer_id is not None:
            _tell(session, settings.operators_peer_id, at)


def _take_down(session: Session, found: Mapping[str, str], at: datetime) -> None:
    if found:
        insert_new(
            session, Alert, [{"rule": rule, "words": words, "began_at": at, "seen_at": at} for rule, words in found.items()]
        )
    for alert in session.scalars(select(Alert).where(Alert.ended_at.is_(None)).with_for_update()):
        if alert.rule in found:
            alert.words, alert.seen_at = found[alert.rule], at
        elif alert.seen_at <= at - CALM:
            alert.ended_at = at


def _untold_end() -> ColumnElement[bool]:
    """What was over before it was ever told is not told at all."""
    return and_(Alert.ended_at.is_not(None), Alert.told_at.is_not(None), Alert.end_told_at.is_(None))


def _tell(session: Session, peer_id: int, at: datetime) -> None:
    begun = and_(Alert.ended_at.is_(None), Alert.told_at.is_(None))
    lines = []
    for alert in session.scalars(select(Alert).where(or_(begun, _untold_end())).order_by(Alert.id).with_for_update()):
        if alert.ended_at is None:
            alert.told_at = at
            lines.append(f"⚠️ {alert.words}")
        else:
            alert.end_told_at = at
            lines.append(f"✅ {gettext('Over: %(words)s', words=alert.words)}")
    if lines:
        desk.send(session, peer_id, "\n".join(lines))
