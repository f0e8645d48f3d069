"""answer: the inbox into conversations. An event and all that follows from it are one transaction."""

import time
from collections.abc import Generator
from typing import assert_never

import structlog
from sqlalchemy import Engine, func, or_, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from app.bot.dialog import dialog
from app.bot.loops import Bot
from app.bot.take import Situation, take
from app.bot.talk import Action, Ask, Dialog, HandOver, Reply, Resume
from app.bot.texts import Texts, load_texts
from app.bot.vk import Vk, VkError
from app.log import one_line
from app.settings import Settings
from app.storage import desk
from app.storage.inbox import ALLOW, DENY, MESSAGE, Consent, IncomingMessage
from app.storage.models import GROUP_CHATS, Conversation, ConversationStatus, Event, EventState, Person, now
from app.storage.queues import next_event
from app.storage.wake import Channel, Waiter

log = structlog.get_logger()

NAMES_PAUSE = 30.0  # seconds without asking for names after VK did not tell them

Names = dict[int, tuple[str, str]]


def answer(bot: Bot) -> Generator[bool]:
    """Work the inbox off for ever. Several of these may run at once, in threads or processes."""
    strangers = _Strangers(bot.vk(), bot.settings.app_language)
    texts = load_texts(bot.settings.app_language)
    with Waiter(bot.engine, Channel.EVENTS) as waiter:
        while True:
            newest, names = strangers.names(bot.engine)
            if not answer_next(bot.engine, bot.settings, dialog, texts, names=names, newest=newest):
                waiter.wait(1)
            yield True


class _Strangers:
    """Asks VK who has written, before a transaction begins: SQLite's only writer must not wait for the network."""

    def __init__(self, vk: Vk, language: str) -> None:
        self._vk = vk
        self._language = language
        self._not_before = 0.0

    def names(self, engine: Engine) -> tuple[int, Names]:
        """The newest event's number, and first and last names by VK id of people with events up to it whom we do not know.

        Without an answer of VK we go on without names.
        """
        nameless = or_(Person.id.is_(None), Person.first_name == "")
        waiting = (
            select(Event.peer_id)
            .outerjoin(Person, Person.vk_id == Event.peer_id)
            .where(Event.state == EventState.NEW, Event.peer_id.between(1, GROUP_CHATS), nameless)
            .distinct()
            .limit(100)
        )
        with Session(engine.execution_options(read_only=True)) as session:
            newest = session.scalar(select(func.max(Event.id))) or 0
            ids = session.scalars(waiting).all()
        if not ids or time.monotonic() < self._not_before:
            return newest, {}
        try:
            people = self._vk.call("users.get", user_ids=",".join(map(str, ids)), lang=self._language)
            return newest, {person["id"]: (person["first_name"], person["last_name"]) for person in people}
        except (VkError, KeyError, TypeError) as error:
            self._not_before = time.monotonic() + NAMES_PAUSE
            log.warning(f"people stay without names for now: {one_line(error)}")
            return newest, {}


def answer_next(engine: Engine, settings: Settings, dialog: Dialog, texts: Texts, *, names: Names, newest: int) -> bool:
    """Deal with the next event up to number `newest`; False when there is none. One that raises is set aside with its reason."""
    with Session(engine) as session, session.begin():
        event = next_event(session)
        if event is None or event.id > newest:
            return False
        try:
            with session.begin_nested():
                _deal_with(session, event, settings, dialog, texts, names=names)
            event.state = EventState.DONE
        except (OperationalError, InterfaceError):
            raise  # the database is at fault, not the event
        except Exception as error:
            event.state, event.error = EventState.FAILED, one_line(error)
            log.exception(f"event {event.id} is set aside")
        event.attempts += 1
        event.done_at = now()
    return True


def _deal_with(session: Session, event: Event, settings: Settings, dialog: Dialog, texts: Texts, *, names: Names) -> None:
    content = event.raw["object"]
    if event.type == MESSAGE:
        message = IncomingMessage.model_validate(content["message"])
        _take(session, message, settings, dialog, texts, names=names)
    elif event.type in (ALLOW, DENY):
        _person(session, Consent.model_validate(content).user_id, names).reachable = event.type == ALLOW


def _take(session: Session, message: IncomingMessage, settings: Settings, dialog: Dialog, texts: Texts, *, names: Names) -> None:
    conversation, first = _conversation(session, message.peer_id, names)
    desk.receive(
        session,
        conversation,
        message.text,
        cmid=message.conversation_message_id,
        at=message.date,
        attachments=message.attachments,
    )
    person = conversation.person
    if person is not None:
        person.reachable = True
    situation = Situation(
        message=message,
        group_id=settings.vk_group_id,
        status=conversation.status,
        step=conversation.step,
        form=conversation.form,
        name=person.first_name if person else "",
        first=first,
    )
    for action in take(situation, dialog, texts):
        _do(session, conversation, action)


def _do(session: Session, conversation: Conversation, action: Action) -> None:
    match action:
        case Resume():
            conversation.status, conversation.step, conversation.form = ConversationStatus.BOT, None, {}
        case Reply(text, keyboard, attachment):
            desk.answer(session, conversation, text, keyboard=keyboard.render() if keyboard else None, attachment=attachment)
        case Ask(step, form):
            conversation.step, conversation.form = step, dict(form)
        case HandOver(topic):
            desk.hand_over(conversation, topic)
        case _:
            assert_never(action)


def _conversation(session: Session, peer_id: int, names: Names) -> tuple[Conversation, bool]:
    """The peer's conversation, locked, and whether it is new. A peer's events come one by one, so nobody else makes it."""
    known = select(Conversation).where(Conversation.peer_id == peer_id).with_for_update(of=Conversation)
    conversation = session.scalar(known)
    if conversation is not None:
        if conversation.person is not None:
            _name(conversation.person, names)
        return conversation, False
    conversation = Conversation(peer_id=peer_id, person=_person(session, peer_id, names) if peer_id < GROUP_CHATS else None)
    session.add(conversation)
    session.flush()
    return conversation, True


def _person(session: Session, vk_id: int, names: Names) -> Person:
    person = session.scalar(select(Person).where(Person.vk_id == vk_id))
    if person is None:
        person = Person(vk_id=vk_id)
        session.add(person)
    _name(person, names)
    return person


def _name(person: Person, names: Names) -> None:
    if person.vk_id in names:
        person.first_name, person.last_name = names[person.vk_id]
