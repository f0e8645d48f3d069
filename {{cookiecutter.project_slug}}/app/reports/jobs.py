"""What takes longer than a page may, or goes to a chat: jobs in a table. Any replica does them, and each is done once.

A job is claimed for the time of a lease, which whoever does it renews. When that process dies, another takes the job over; what
the first brings after all is not wanted any more. The result and the job's end are one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Engine, and_, or_, select, update
from sqlalchemy.orm import Session

from app.storage import desk
from app.storage.models import JobState, ReportJob, now
from app.storage.queues import word

LEASE = timedelta(seconds=90)  # longer than anything takes that says nothing meanwhile
TRIES = 3  # a job that ends its process each time is given up
ENDED_TRIES = "it was begun three times and never finished: the logs of the reports say why"

UNFINISHED = ReportJob.state.in_([word(JobState.NEW), word(JobState.RUNNING)])


class NotWanted(Exception):
    """The job was cancelled, or somebody else has taken it over."""


class Days(NamedTuple):
    """From one day to another, both included."""

    first: date
    last: date


@dataclass(frozen=True)
class Result:
    """What came of a job: a file in the reports' folder, something to be sent, or both. `note` is what the reader has to know."""

    file: str | None = None
    size: int | None = None
    note: str | None = None
    text: str = ""
    upload: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Claim:
    """A job that is ours until its lease is over."""

    engine: Engine
    job: ReportJob
    lease: timedelta

    def advance(self, done: int, total: int | None = None) -> None:
        """Show how far it is, and renew the lease. Raises `NotWanted`."""
        with Session(self.engine) as session, session.begin():
            values: dict[str, Any] = {"done": done, "lease_until": now() + self.lease}
            self._update(session, values if total is None else values | {"total": total})

    def finish(self, result: Result) -> None:
        """The end of the job; what is to be sent goes into the outbox with it. Raises `NotWanted`."""
        with Session(self.engine) as session, session.begin():
            self._update(session, {**self._end(JobState.DONE, result.note), "file": result.file, "size": result.size})
            if self.job.peer_id and (result.text or result.upload):
                delivery = desk.send(session, self.job.peer_id, result.text, result.upload)
                self._update(session, {"delivery_id": delivery.id}, JobState.DONE)

    def fail(self, reason: str, text: str = "") -> None:
        """Give it up; `text` tells the chat that waits for it. Raises `NotWanted`."""
        with Session(self.engine) as session, session.begin():
            self._update(session, self._end(JobState.FAILED, reason))
            if self.job.peer_id and text:
                desk.send(session, self.job.peer_id, text)

    def _end(self, state: JobState, note: str | None) -> dict[str, Any]:
        return {"state": state, "note": note, "finished_at": now(), "lease_until": None}

    def _update(self, session: Session, values: Mapping[str, Any], state: JobState = JobState.RUNNING) -> None:
        ours = (ReportJob.id == self.job.id, ReportJob.state == state, ReportJob.attempts == self.job.attempts)
        changed = update(ReportJob).where(*ours).values(**values).returning(ReportJob.id)
        if session.scalar(changed.execution_options(synchronize_session=False)) is None:
            raise NotWanted


def claim(engine: Engine, at: datetime, lease: timedelta = LEASE) -> Claim | None:
    """The first job that nobody does at the moment `at`, or None."""
    with Session(engine.execution_options(read_only=True)) as session:
        if session.scalar(select(ReportJob.id).where(_free(at)).limit(1)) is None:
            return None  # SQLite's only writer is left alone
    with Session(engine, expire_on_commit=False) as session, session.begin():
        first = select(ReportJob.id).where(_free(at)).order_by(ReportJob.id).limit(1).with_for_update(skip_locked=True).cte()
        job = session.scalar(
            update(ReportJob)
            .where(ReportJob.id.in_(select(first.c.id)))
            .values(state=JobState.RUNNING, attempts=ReportJob.attempts + 1, lease_until=at + lease)
            .returning(ReportJob)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        if job is None:
            return None
        if job.attempts > TRIES:
            job.state, job.note, job.finished_at, job.lease_until = JobState.FAILED, ENDED_TRIES, at, None
            return None
        session.expunge(job)
        return Claim(engine, job, lease)


def cancel(session: Session, job_id: int) -> None:
    """Whoever does it stops at the next piece."""
    gone = {"state": JobState.CANCELLED, "finished_at": now(), "lease_until": None}
    session.execute(update(ReportJob).where(ReportJob.id == job_id, UNFINISHED).values(**gone))


def days_of(job: ReportJob) -> Days:
    """What a job is about."""
    return Days(date.fromisoformat(job.params["first"]), date.fromisoformat(job.params["last"]))


def _free(at: datetime) -> ColumnElement[bool]:
    return or_(
        ReportJob.state == word(JobState.NEW), and_(ReportJob.state == word(JobState.RUNNING), ReportJob.lease_until <= at)
    )
