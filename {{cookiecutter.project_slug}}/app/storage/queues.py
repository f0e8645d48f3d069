"""Claiming work: no two workers get the same row, nothing overtakes within a peer, what a dead worker held comes back.

The same statements serve both databases: PostgreSQL honours `FOR UPDATE SKIP LOCKED`; SQLite drops it and has one writer.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, aliased

from app.storage.models import Delivery, DeliveryState, Event, EventState, now


def next_event(session: Session) -> Event | None:
    """The oldest new event that is the first of its peer, locked until the transaction ends."""
    earlier = aliased(Event)
    blocked = exists().where(earlier.peer_id == Event.peer_id, earlier.state == EventState.NEW, earlier.id < Event.id)
    return session.scalar(
        select(Event)
        .where(Event.state == EventState.NEW, ~blocked)
        .order_by(Event.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Event)
    )


def claim_deliveries(session: Session, limit: int, lease: timedelta) -> Sequence[Delivery]:
    """Up to `limit` deliveries that are due, at most one of a peer, marked as being sent for the time of `lease`."""
    at = now()
    earlier = aliased(Delivery)
    unfinished = (DeliveryState.PENDING, DeliveryState.SENDING)
    blocked = exists().where(earlier.peer_id == Delivery.peer_id, earlier.state.in_(unfinished), earlier.id < Delivery.id)
    due = (
        select(Delivery.id)
        .where(Delivery.state.in_(unfinished), Delivery.next_try_at <= at, ~blocked)
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
