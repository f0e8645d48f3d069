"""When a report is due, and the jobs that follow from it. A period of a subscription is one row, whoever writes it first.

After a downtime only the newest period is made up for: nobody wants the pictures of ten days at once.
"""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.reports.jobs import Days
from app.storage.engine import insert_new
from app.storage.models import JobState, ReportJob, ReportSubscription, Rhythm
from app.storage.pictures import PICTURE
from app.storage.queues import word


def before(day: date, rhythm: Rhythm) -> Days:
    """The newest period that is over when `day` begins."""
    match rhythm:
        case Rhythm.DAILY:
            end = day
            first = end - timedelta(days=1)
        case Rhythm.WEEKLY:
            end = day - timedelta(days=day.weekday())
            first = end - timedelta(days=7)
        case Rhythm.MONTHLY:
            end = day.replace(day=1)
            first = (end - timedelta(days=1)).replace(day=1)
    return Days(first, end - timedelta(days=1))


def due(subscription: ReportSubscription, at: datetime, zone: ZoneInfo) -> Days | None:
    """The newest period of which the report is due at the moment `at`; None if it was due before there was a subscription."""
    period = before(at.astimezone(zone).date(), subscription.rhythm)
    moment = _moment(period, subscription.hour, zone)
    if moment > at:
        period = before(period.last, subscription.rhythm)
        moment = _moment(period, subscription.hour, zone)
    return period if moment > subscription.created_at else None


def plan(engine: Engine, zone: ZoneInfo, at: datetime) -> None:
    """See that there is a job for what is due at the moment `at`. Older periods that nobody has begun are dropped."""
    with Session(engine.execution_options(read_only=True)) as session:
        subscriptions = session.scalars(select(ReportSubscription)).all()
        newest = select(ReportJob.subscription_id, func.max(ReportJob.period)).where(ReportJob.subscription_id.is_not(None))
        known = {row[0]: row[1] for row in session.execute(newest.group_by(ReportJob.subscription_id))}
    found = ((subscription, due(subscription, at, zone)) for subscription in subscriptions)
    # one after the newest known: a clock that was put back asks for nothing that is older
    _add(engine, [(row, period) for row, period in found if period and period.first > (known.get(row.id) or date.min)], at)


def _add(engine: Engine, fresh: Iterable[tuple[ReportSubscription, Days]], at: datetime) -> None:
    for subscription, period in fresh:
        with Session(engine) as session, session.begin():
            # may be gone since; a job without one would be nobody's
            if session.get(ReportSubscription, subscription.id, with_for_update={"key_share": True}) is None:
                continue
            job = {
                "kind": PICTURE,
                "params": params(period, subscription.language),
                "peer_id": subscription.peer_id,
                "subscription_id": subscription.id,
                "period": period.first,
                "created_at": at,
            }
            insert_new(session, ReportJob, [job])
            older = (
                ReportJob.subscription_id == subscription.id,
                ReportJob.period < period.first,
                ReportJob.state == word(JobState.NEW),
            )
            session.execute(update(ReportJob).where(*older).values(state=JobState.CANCELLED, finished_at=at))


def params(period: Days, language: str) -> dict[str, str]:
    """What a job has to know about the period it is about."""
    return {"first": period.first.isoformat(), "last": period.last.isoformat(), "language": language}


def _moment(period: Days, hour: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(period.last + timedelta(days=1), time(hour), zone)
