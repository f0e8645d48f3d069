"""The way from the bot to the reports, which know nothing of each other: a picture is ordered in the database."""

from datetime import date, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.storage.models import Heartbeat, ReportJob, now
from app.storage.wake import Channel, wake

REPORTS = "reports"  # who draws, in `Heartbeat`
PICTURE = "picture"  # the kind of the job
FRESH = timedelta(minutes=1)  # of a sign of life, of which there is one every 10 seconds


def order_picture(session: Session, peer_id: int, first: date, last: date) -> bool:
    """Have the report of these days sent to the peer; False while nobody is there who draws."""
    seen = session.scalar(select(Heartbeat.at).where(Heartbeat.name == REPORTS))
    if seen is None or now() - seen > FRESH:
        return False
    session.add(ReportJob(kind=PICTURE, params={"first": first.isoformat(), "last": last.isoformat()}, peer_id=peer_id))
    wake(session, Channel.REPORTS)
    return True
