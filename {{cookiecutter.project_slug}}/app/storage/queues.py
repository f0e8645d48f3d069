"""Claiming work: no two workers get the same row, nothing overtakes within a peer, what a dead worker held comes back.

The same statements serve both databases: PostgreSQL honours `FOR UPDATE SKIP LOCKED`; SQLite drops it and has one writer.
They are built once, for building takes longer than what they do.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, Integer, Row, Select, String, bindparam, exists, func, literal, select, update
from sqlalchemy.orm import Session, aliased

from app.storage.models import Cursor, Delivery, DeliveryState, Event, EventState, Person, now

# VK's codes for people who do not want to be written to, or cannot be: no fault of anybody here
UNREACHABLE = (7, 900, 901, 902, 936, 945, 950)


def _new(event: type[Event]) -> ColumnElement[bool]:
    return event.state == word(EventState.NEW)


def _unfinished(delivery: type[Delivery]) -> ColumnElement[bool]:
    return delivery.state.in_([word(DeliveryState.PENDING), word(DeliveryState.SENDING)])


def word(state: StrEnum) -> ColumnElement[str]:
    """Written into the statement, so that the index of such rows is found."""
    return literal(str(state), String, literal_execute=True)


NEW, UNFINISHED = _new(Event), _unfinished(Delivery)
# when the first of what waits came
FIRST_NEW = select(Event.received_at).where(NEW).order_by(Event.id).limit(1)
FIRST_UNFINISHED = select(Delivery.created_at).where(UNFINISHED).order_by(Delivery.id).limit(1)


def poll_name(group_id: int) -> str:
    """What the cursor of the community's long poll is called."""
    return f"longpoll:{group_id}"


def last_poll(group_id: int) -> Select[datetime]:
    """When the community's long poll last heard of VK."""
    return select(Cursor.updated_at).where(Cursor.name == poll_name(group_id))


_earlier_event, _earlier_delivery = aliased(Event), aliased(Delivery)
_new_events = (
    select(Event).where(_new(Event), Event.id <= bindparam("newest")).order_by(Event.id).limit(bindparam("limit", type_=Integer))
)
_later_than_a_new_one = exists().where(
    _earlier_event.peer_id == Event.peer_id, _new(_earlier_event), _earlier_event.id < Event.id
)
FIRST_EVENTS = _new_events.where(~_later_than_a_new_one).with_for_update(skip_locked=True, of=Event)
LATER_EVENTS = _new_events.where(
    Event.peer_id.in_(bindparam("peers", expanding=True)), Event.id.not_in(bindparam("first", expanding=True))
)
UNSEEN_EVENTS = (
    select(Event.id, Event.peer_id, Person.first_name)
    .outerjoin(Person, Person.vk_id == Event.peer_id)
    .where(_new(Event), Event.id > bindparam("after"))
    .order_by(Event.id)
    .limit(bindparam("limit", type_=Integer))
)
_later_than_an_unfinished_one = exists().where(
    _earlier_delivery.peer_id == Delivery.peer_id, _unfinished(_earlier_delivery), _earlier_delivery.id < Delivery.id
)
_due = (
    select(Delivery.id)
    .where(_unfinished(Delivery), Delivery.next_try_at <= bindparam("now"), ~_later_than_an_unfinished_one)
    .order_by(Delivery.id)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True, of=Delivery)
    .cte("due")
)
CLAIM = (
    update(Delivery)
    .where(Delivery.id.in_(select(_due.c.id)))
    .values(
        state=DeliveryState.SENDING,
        next_try_at=bindparam("until"),
        attempts=Delivery.attempts + 1,
        first_tried_at=func.coalesce(Delivery.first_tried_at, bindparam("now")),
    )
    .returning(Delivery)
    .execution_options(synchronize_session=False, populate_existing=True)
)


def claim_events(session: Session, limit: int, newest: int) -> Sequence[Event]:
    """Up to `limit` new events up to number `newest`, in order. They are this transaction's alone, and so are their peers.

    Who has locked a peer's first new event has the peer: nobody takes a later one while that is new.
    """
    which = {"limit": limit, "newest": newest}
    first = session.scalars(FIRST_EVENTS, which).all()
    peers = {event.peer_id for event in first if event.peer_id is not None}
    if len(first) in (0, limit) or not peers:
        return first
    later = session.scalars(LATER_EVENTS, {**which, "peers": list(peers), "first": [event.id for event in first]})
    return sorted([*first, *later], key=lambda event: event.id)[:limit]


def unseen_events(session: Session, after: int, limit: int) -> Sequence[Row[int, int | None, str | None]]:
    """Number, peer and the person's first name, if they are known, of new events with higher numbers than `after`."""
    return session.execute(UNSEEN_EVENTS, {"after": after, "limit": limit}).all()


def claim_deliveries(session: Session, limit: int, lease: timedelta) -> Sequence[Delivery]:
    """Up to `limit` deliveries that are due, at most one of a peer, marked as being sent for the time of `lease`.

    One of a peer, so that the next is not sent before it is known that this one was; no peer gets more than ten a second.
    """
    at = now()
    claimed = session.scalars(CLAIM, {"limit": limit, "now": at, "until": at + lease})
    return sorted(claimed, key=lambda row: row.id)
