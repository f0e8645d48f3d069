"""Claiming work: no two workers get the same row, nothing overtakes within a peer, what a dead worker held comes back.

The same statements serve both databases: PostgreSQL honours `FOR UPDATE SKIP LOCKED`; SQLite drops it and has one writer.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, String, exists, func, literal, select, update
from sqlalchemy.orm import Session, aliased

from app.storage.models import Delivery, DeliveryState, Event, EventState, Person, now


def claim_events(session: Session, limit: int, newest: int) -> Sequence[Event]:
    """Up to `limit` new events up to number `newest`, in order. They are this transaction's alone, and so are their peers.

    Who has locked a peer's first new event has the peer: nobody takes a later one while that is new.
    """
    earlier = aliased(Event)
    blocked = exists().where(earlier.peer_id == Event.peer_id, _new(earlier), earlier.id < Event.id)
    waiting = select(Event).where(_new(Event), Event.id <= newest).order_by(Event.id).limit(limit)
    first = session.scalars(waiting.where(~blocked).with_for_update(skip_locked=True, of=Event)).all()
    peers = {event.peer_id for event in first if event.peer_id is not None}
    if len(first) in (0, limit) or not peers:
        return first
    later = session.scalars(waiting.where(Event.peer_id.in_(peers), Event.id.not_in([event.id for event in first])))
    return sorted([*first, *later], key=lambda event: event.id)[:limit]


def unseen_events(session: Session, after: int, limit: int) -> Sequence[tuple[int, int | None, str | None]]:
    """Number, peer and the person's first name, if they are known, of new events with higher numbers than `after`."""
    named = select(Event.id, Event.peer_id, Person.first_name).outerjoin(Person, Person.vk_id == Event.peer_id)
    return session.execute(named.where(_new(Event), Event.id > after).order_by(Event.id).limit(limit)).tuples().all()


def claim_deliveries(session: Session, limit: int, lease: timedelta) -> Sequence[Delivery]:
    """Up to `limit` deliveries that are due, at most one of a peer, marked as being sent for the time of `lease`.

    One of a peer, so that the next is not sent before it is known that this one was; no peer gets more than ten a second.
    """
    at = now()
    earlier = aliased(Delivery)
    blocked = exists().where(earlier.peer_id == Delivery.peer_id, _unfinished(earlier), earlier.id < Delivery.id)
    due = (
        select(Delivery.id)
        .where(_unfinished(Delivery), Delivery.next_try_at <= at, ~blocked)
        .order_by(Delivery.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=Delivery)
        .cte("due")
    )
    claimed = session.scalars(
        update(Delivery)
        .where(Delivery.id.in_(select(due.c.id)))
        .values(
            state=DeliveryState.SENDING,
            next_try_at=at + lease,
            attempts=Delivery.attempts + 1,
            first_tried_at=func.coalesce(Delivery.first_tried_at, at),
        )
        .returning(Delivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return sorted(claimed, key=lambda row: row.id)


def _new(event: type[Event]) -> ColumnElement[bool]:
    return event.state == word(EventState.NEW)


def _unfinished(delivery: type[Delivery]) -> ColumnElement[bool]:
    return delivery.state.in_([word(DeliveryState.PENDING), word(DeliveryState.SENDING)])


def word(state: StrEnum) -> ColumnElement[str]:
    """Written into the statement, so that the index of such rows is found."""
    return literal(str(state), String, literal_execute=True)
