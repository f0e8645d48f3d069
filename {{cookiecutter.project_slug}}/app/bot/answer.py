"""answer: the inbox into conversations. An event and all that follows from it are one transaction, and many events share one."""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

import structlog
from sqlalchemy import Engine, bindparam, select, tuple_, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, joinedload

from app.bot.dialog import dialog
from app.bot.loops import Bot
from app.bot.operators import perform
from app.bot.take import Situation, after_closing, take
from app.bot.talk import Acknowledge, Action, Ask, Assign, Dialog, HandOver, Incoming, Reply, Report, Resume, Tell
from app.bot.texts import Texts, load_texts
from app.bot.vk import Vk, VkError
from app.log import one_line
from app.settings import Settings
from app.storage import desk, inbox
from app.storage.engine import insert_new
from app.storage.inbox import ALLOW, Closing, Consent, IncomingMessage, Press
from app.storage.models import GROUP_CHATS, Conversation, ConversationStatus, Event, EventState, Message, Person, now
from app.storage.queues import claim_events, unseen_events
from app.storage.wake import Channel, Waiter

log = structlog.get_logger()

FEW, MANY = 50, 200  # events in one transaction: few for a quick answer, more and more in a rush
REST = 0.5  # times the processor's time that a transaction took
NAMES_PAUSE = 30.0  # seconds without asking for names after VK did not tell them
NAMES_AT_ONCE = 1000  # the most that VK tells with one call

# built once, for building takes longer than what they do
KNOWN = (
    select(Conversation)
    .options(joinedload(Conversation.person))
    .where(Conversation.peer_id.in_(bindparam("peers", expanding=True)))
    .order_by(Conversation.id)  # so that no two wait for each other
    .with_for_update(of=Conversation)
)
STORED = select(Message.conversation_id, Message.cmid).where(
    tuple_(Message.conversation_id, Message.cmid).in_(bindparam("numbers", expanding=True))
)
DEALT_WITH = (
    update(Event)
    .where(Event.id.in_(bindparam("events", expanding=True)))
    .values(state=EventState.DONE, error=None, attempts=Event.attempts + 1, done_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class Story:
    """What decides about messages."""

    settings: Settings
    texts: Texts
    dialog: Dialog


def answer(bot: Bot) -> Generator[bool]:
    """Work the inbox off for ever. Several of these may run at once, in threads or processes."""
    strangers = Strangers(bot.vk(), bot.settings.app_language)
    story = Story(bot.settings, load_texts(bot.settings.app_language), dialog)
    limit = FEW
    with Waiter(bot.engine, Channel.EVENTS) as waiter:
        while True:
            newest = strangers.meet(bot.engine)
            with bot.resting(REST):
                found = answer_next(bot.engine, story, newest, limit)
            limit = min(2 * limit, MANY) if found == limit else FEW
            if not found:
                waiter.wait(1)
            yield True


class Strangers:
    """Asks VK who has written, before a transaction begins: SQLite's only writer must not wait for the network."""

    def __init__(self, vk: Vk, language: str) -> None:
        self._vk = vk
        self._language = language
        self._not_before = 0.0
        self._newest = 0

    def meet(self, engine: Engine) -> int:
        """Store the names of new people who wrote; returns the number of the newest event whose person was asked for.

        Without an answer of VK we go on without names.
        """
        with Session(engine.execution_options(read_only=True)) as session:
            events = unseen_events(session, self._newest, NAMES_AT_ONCE)
        strangers = {peer for _, peer, name in events if peer and not name and 0 < peer < GROUP_CHATS}
        if strangers and time.monotonic() >= self._not_before:
            people = self._ask(strangers)
            if people:
                _store_names(engine, people)
        self._newest = max([self._newest, *(number for number, _, _ in events)])
        return self._newest

    def _ask(self, ids: Collection[int]) -> list[dict[str, Any]]:
        try:
            people = self._vk.call("users.get", user_ids=",".join(map(str, ids)), lang=self._language)
            return [{"vk_id": person["id"], **{key: person[key] for key in ("first_name", "last_name")}} for person in people]
        except (VkError, KeyError, TypeError) as error:
            self._not_before = time.monotonic() + NAMES_PAUSE
            log.warning(f"people stay without names for now: {one_line(error)}")
            return []


def _store_names(engine: Engine, people: list[dict[str, Any]]) -> None:
    with Session(engine) as session, session.begin():
        insert_new(session, Person, people)
        told = {person["vk_id"]: person for person in people}
        for person in session.scalars(select(Person).where(Person.vk_id.in_(told), Person.first_name == "")):
            person.first_name, person.last_name = told[person.vk_id]["first_name"], told[person.vk_id]["last_name"]


def answer_next(engine: Engine, story: Story, newest: int, limit: int = MANY) -> int:
    """Deal with the next events up to number `newest`, and say with how many. One that raises is set aside, with why."""
    try:
        with Session(engine) as session, session.begin():
            events = claim_events(session, limit, newest)
            _deal_with(session, events, story)
            return len(events)
    except (OperationalError, InterfaceError):
        raise  # the database is at fault, not an event
    except Exception:
        # one of them spoils it for all: one by one, each does for itself alone
        done = 0
        while done < limit and _answer_alone(engine, story, newest):
            done += 1
        return done


def _answer_alone(engine: Engine, story: Story, newest: int) -> bool:
    with Session(engine) as session, session.begin():
        events = claim_events(session, 1, newest)
        for event in events:
            try:
                with session.begin_nested():
                    _deal_with(session, [event], story)
            except (OperationalError, InterfaceError):
                raise
            except Exception as error:
                log.exception(f"event {event.id} is set aside")
                _hand_over(session, event, story)
                event.state, event.error = EventState.FAILED, one_line(error)
        return bool(events)


def _hand_over(session: Session, event: Event, story: Story) -> None:
    """Show the operators what the bot could not answer, if it can be stored at all."""
    speechless = Dialog()
    speechless.otherwise(lambda _: [HandOver()])
    try:
        with session.begin_nested():
            _deal_with(session, [event], replace(story, dialog=speechless))
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        event.attempts, event.done_at = event.attempts + 1, now()
        log.warning(f"the conversation does not show event {event.id}: {one_line(error)}")


def _deal_with(session: Session, events: Sequence[Event], story: Story) -> None:
    contents = [_read(event) for event in events]
    peers = {content.peer_id for content in contents if not isinstance(content, Consent)}
    conversations, new = _conversations(session, peers - {story.settings.operators_peer_id})
    stored = _stored(session, conversations, [content for content in contents if isinstance(content, IncomingMessage)])
    scene = _Scene(session, story, desk.Ledger(session), now().astimezone(story.settings.zone))
    for event, content in zip(events, contents, strict=True):
        if isinstance(content, Consent):
            _person(session, content.user_id).reachable = event.type == ALLOW
            continue
        conversation = conversations.get(content.peer_id)
        if (
            isinstance(content, IncomingMessage)
            and conversation
            and (conversation.id, content.conversation_message_id) not in stored
        ):
            _receive(scene.ledger, conversation, content)
        scene.play(content, conversation, first=content.peer_id in new)
        new.discard(content.peer_id)
    scene.ledger.write()
    session.execute(DEALT_WITH, {"events": [event.id for event in events], "now": now()})


def _read(event: Event) -> IncomingMessage | Press | Closing | Consent:
    """Raises `ValueError` for what is not in VK's form, or means nothing to the bot."""
    content = event.raw.get("object", {})
    match event.type:
        case inbox.MESSAGE:
            return IncomingMessage.model_validate(content.get("message"))
        case inbox.PRESS:
            return Press.model_validate(content)
        case inbox.CLOSED:
            return Closing.model_validate(content)
        case inbox.ALLOW | inbox.DENY:
            return Consent.model_validate(content)
    raise ValueError(f"the bot does nothing about {event.type}")


def _receive(ledger: desk.Ledger, conversation: Conversation, message: IncomingMessage) -> None:
    ledger.receive(
        conversation,
        message.text,
        cmid=message.conversation_message_id,
        at=message.date,
        attachments=message.attachments,
    )
    if conversation.person is not None:
        conversation.person.reachable = True


def _stored(
    session: Session, conversations: Mapping[int, Conversation], messages: Sequence[IncomingMessage]
) -> set[tuple[int, int | None]]:
    """Conversation and number of those that an earlier try has stored, though their events were set aside."""
    numbers = [
        (conversations[message.peer_id].id, message.conversation_message_id)
        for message in messages
        if message.peer_id in conversations
    ]
    return {(conversation, cmid) for conversation, cmid in session.execute(STORED, {"numbers": numbers})}


@dataclass(frozen=True)
class _Scene:
    """Where what is decided is done. `at` is this moment, in the project's time zone."""

    session: Session
    story: Story
    ledger: desk.Ledger
    at: datetime

    def play(self, content: IncomingMessage | Press | Closing, conversation: Conversation | None, *, first: bool) -> None:
        """Do what is to be done about an event. The operators' chat has no conversation."""
        # one that is not stored: the decision is made from the message alone then
        known = conversation or Conversation(id=0, peer_id=content.peer_id, status=ConversationStatus.BOT, form={})
        for action in self._decide(content, known, first=first):
            self._do(action, known, content)

    def _decide(self, content: IncomingMessage | Press | Closing, known: Conversation, *, first: bool) -> Sequence[Action]:
        dialog, texts, settings = self.story.dialog, self.story.texts, self.story.settings
        name, reachable = (known.person.first_name, known.person.reachable) if known.person else ("", True)
        if isinstance(content, Closing):
            if known.status != ConversationStatus.CLOSED or not reachable:
                return []  # it goes on, or the person does not want to hear of it
            return after_closing(Incoming(name=name, in_chat=known.person is None, at=self.at, texts=texts), dialog)
        situation = Situation(
            message=_as_message(content, self.at) if isinstance(content, Press) else content,
            is_press=isinstance(content, Press),
            group_id=settings.vk_group_id,
            conversation_id=known.id,
            status=known.status,
            step=known.step,
            form=known.form,
            name=name,
            first=first,
            reachable=reachable,
            operators_peer_id=settings.operators_peer_id,
            at=self.at,
        )
        return take(situation, dialog, texts)

    def _do(self, action: Action, known: Conversation, content: IncomingMessage | Press | Closing) -> None:
        match action:
            case Resume():
                known.status, known.step, known.form = ConversationStatus.BOT, None, {}
            case Reply():
                self.ledger.answer(
                    known,
                    action.text,
                    keyboard=action.keyboard.render() if action.keyboard else None,
                    template=action.carousel.render() if action.carousel else None,
                    attachment=action.attachment,
                    upload=action.upload.render() if action.upload else None,
                )
            case Ask(step, form):
                known.step, known.form = step, dict(form)
            case HandOver():
                desk.hand_over(known, action.topic)
            case Acknowledge(text):
                if isinstance(content, Press):
                    self.ledger.acknowledge(known.peer_id, {"event_id": content.event_id, "user_id": content.user_id}, text)
            case Tell(peer_id, text, keyboard):
                self.ledger.tell(peer_id, text, keyboard.render() if keyboard else None)
            case Assign() | Report():
                for told in perform(self.session, action, self.story.texts, self.at):
                    self._do(told, known, content)
            case _:
                assert_never(action)


def _as_message(press: Press, at: datetime) -> IncomingMessage:
    return IncomingMessage(
        peer_id=press.peer_id,
        from_id=press.user_id,
        conversation_message_id=press.conversation_message_id,
        date=at,
        payload=press.payload,
    )


def _conversations(session: Session, peer_ids: Collection[int]) -> tuple[dict[int, Conversation], set[int]]:
    """The peers' conversations, locked, and which of them are new. Their events are ours alone, so nobody else makes them."""
    found = {conversation.peer_id: conversation for conversation in session.scalars(KNOWN, {"peers": list(peer_ids)})}
    new = set(peer_ids) - found.keys()
    people = _people(session, {peer_id for peer_id in new if peer_id < GROUP_CHATS}) if new else {}
    for peer_id in sorted(new):
        found[peer_id] = Conversation(
            peer_id=peer_id, person=people.get(peer_id), status=ConversationStatus.BOT, form={}, unread=0
        )
        session.add(found[peer_id])
    session.flush()
    return found, new


def _people(session: Session, vk_ids: Collection[int]) -> dict[int, Person]:
    """People by their VK ids; those whom we do not know are stored without a name."""
    people = {person.vk_id: person for person in session.scalars(select(Person).where(Person.vk_id.in_(vk_ids)))}
    for vk_id in sorted(set(vk_ids) - people.keys()):
        people[vk_id] = Person(vk_id=vk_id, first_name="", reachable=True)
        session.add(people[vk_id])
    return people


def _person(session: Session, vk_id: int) -> Person:
    return _people(session, [vk_id])[vk_id]
