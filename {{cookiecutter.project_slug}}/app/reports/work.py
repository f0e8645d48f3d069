"""What the reports do by themselves: jobs as they come, and every so often the schedule, alerts, old files, a sign of life."""

import base64
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from flask import Flask
from flask_babel import force_locale, gettext
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.log import one_line
from app.reports import alerts, documents, exports, jobs, readings, rollup, schedule, summary
from app.reports.state import State, Step
from app.settings import Settings
from app.storage.engine import insert_new, readiness
from app.storage.models import Alert, Heartbeat, ReportJob, now
from app.storage.pictures import PICTURE, REPORTS
from app.storage.wake import Channel, Waiter

log = structlog.get_logger()

TICK, ROUND = 10.0, 60.0  # seconds between two signs of life, and between two looks at everything else
PAUSE = 5.0  # seconds after an error
SHOW = 1.0  # seconds between two times that progress is shown
ARCHIVE = timedelta(days=400)  # pictures that were sent, and alerts: a year and a month, to compare with


@dataclass(frozen=True)
class Works:
    """What all of it needs. `engine` may write."""

    app: Flask
    settings: Settings
    engine: Engine

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return files(self.settings)

    @contextmanager
    def speaking(self, language: str) -> Iterator[None]:
        """Texts are in `language` meanwhile."""
        with self.app.app_context(), force_locale(language):
            yield


def files(settings: Settings) -> Path:
    """The folder with what jobs have made."""
    return settings.data_dir / "reports" / "files"


def start(works: Works) -> None:
    """Begin, in threads that end with the process: what they leave undone another takes over."""
    for work in (do_jobs, look_round, keep_figures):
        threading.Thread(target=_for_ever, args=(work, works), name=f"{REPORTS}.{work.__name__}", daemon=True).start()


def _for_ever(work: Callable[[Works], None], works: Works) -> None:
    said = ""
    while True:
        try:
            problem = readiness(works.engine)
            if problem is None:
                work(works)
        except Exception as error:
            problem = one_line(error)
        if problem and problem != said:
            log.warning(f"{work.__name__} waits: {problem}")
        said = problem or ""
        time.sleep(PAUSE)


def do_jobs(works: Works) -> None:
    """Jobs as they come, until something is wrong with the database."""
    with Waiter(works.engine, Channel.REPORTS) as waiter:
        while True:
            if not do_next(works):
                waiter.wait(TICK)


def look_round(works: Works) -> None:
    """Everything that comes round by the clock."""
    next_round = 0.0
    while True:
        sign_of_life(works)
        if time.monotonic() >= next_round:
            next_round = time.monotonic() + ROUND
            with works.speaking(works.settings.app_language):
                schedule.plan(works.engine, works.settings.zone, now())
                alerts.check(works.engine, works.settings, now())
                readings.sample(works.engine, works.settings, now())
            clean(works, now())
        time.sleep(TICK)


def keep_figures(works: Works) -> None:
    """The sums that all figures are read from, as things change."""
    rollup.keep(works.engine, works.settings.zone)


def sign_of_life(works: Works) -> None:
    """So that others know that somebody is there who draws."""
    with Session(works.engine) as session, session.begin():
        insert_new(session, Heartbeat, [{"name": REPORTS}])
        session.execute(update(Heartbeat).where(Heartbeat.name == REPORTS).values(at=now(), problem=None))


def do_next(works: Works, lease: timedelta = jobs.LEASE) -> bool:
    """Do the first job that nobody does; False when there is none."""
    claim = jobs.claim(works.engine, now(), lease)
    if claim is None:
        return False
    language = str(claim.job.params.get("language", works.settings.app_language))
    with works.speaking(language):
        try:
            claim.finish(KINDS[claim.job.kind](works, claim))
        except jobs.NotWanted:
            shutil.rmtree(_folder(works, claim), ignore_errors=True)
        except SQLAlchemyError:
            shutil.rmtree(_folder(works, claim), ignore_errors=True)
            raise  # the database is at fault, not the job: it comes again
        except Exception as error:
            shutil.rmtree(_folder(works, claim), ignore_errors=True)
            with suppress(jobs.NotWanted):
                _give_up(works, claim, error)
    return True


def _give_up(works: Works, claim: jobs.Claim, error: Exception) -> None:
    limit = works.settings.reports_keep_megabytes
    if isinstance(error, exports.TooLarge):
        reason = gettext("The file would be larger than %(limit)s MB. Choose a shorter period.", limit=limit)
    else:
        log.error(f"job {claim.job.id} failed: {one_line(error)}")
        reason = gettext("It could not be made; the log of the reports says why.")
    claim.fail(reason, gettext("The report could not be made; the log of the reports says why."))


def _sheet(works: Works, claim: jobs.Claim) -> jobs.Result:
    what, form = claim.job.kind.split(".")
    shown = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() >= shown + SHOW:
            claim.advance(done, total)
            shown = time.monotonic()

    file = _file(works, claim)
    limit = works.settings.reports_keep_megabytes * 2**20
    with works.engine.connect().execution_options(read_only=True) as connection:
        sheet = exports.SHEETS[what](connection, _state(works, claim, Step.DAY))
        progress(0, sheet.total)
        written = exports.WRITERS[form](file, sheet, connection, progress, limit)
    left_out = written < sheet.total and form == "xlsx"
    note = gettext("Only the first rows are in it: a sheet holds no more. Choose a shorter period, or CSV.") if left_out else None
    claim.advance(written, written)
    return jobs.Result(_name(file), file.stat().st_size, note)


def _pdf(works: Works, claim: jobs.Claim) -> jobs.Result:
    file = _file(works, claim)
    file.write_bytes(documents.pdf(_document(works, claim)))
    return jobs.Result(_name(file), file.stat().st_size)


def _picture(works: Works, claim: jobs.Claim) -> jobs.Result:
    document = _document(works, claim, summary.IN_A_PICTURE)
    picture = documents.picture(document)
    file = _file(works, claim)
    file.write_bytes(picture)
    upload = {"kind": "photo", "name": "report.png", "data": base64.b64encode(picture).decode()}
    return jobs.Result(_name(file), len(picture), text=f"{document.title}. {document.subtitle}", upload=upload)


KINDS: dict[str, Callable[[Works, jobs.Claim], jobs.Result]] = {
    **{f"{what}.{form}": _sheet for what in exports.SHEETS for form in exports.WRITERS},
    "report.pdf": _pdf,
    PICTURE: _picture,
}


def _document(works: Works, claim: jobs.Claim, names: Collection[str] = ()) -> documents.Document:
    rollup.catch_up(works.engine, works.settings.zone, lambda *_: claim.advance(0))  # which may take longer than the lease
    with works.engine.connect().execution_options(read_only=True) as connection:
        return summary.document(connection, works.settings, _state(works, claim), names)


def _state(works: Works, claim: jobs.Claim, step: Step | None = None) -> State:
    """What the job is about, as pages have it; sheets take no more and no less than its days."""
    manager = bool(claim.job.params.get("manager"))
    return State.over(*jobs.days_of(claim.job), works.settings, step=step, manager=manager)


def _name(file: Path) -> str:
    return str(Path(file.parent.name) / file.name)


def _file(works: Works, claim: jobs.Claim) -> Path:
    """The file of this try, in a folder of its own: two that do the same job never write into the same."""
    folder = _folder(works, claim)
    folder.mkdir(parents=True, exist_ok=True)
    what, _, form = claim.job.kind.partition(".")
    return folder / f"{what}-{claim.job.params['first']}-{claim.job.params['last']}.{form or 'png'}"


def _folder(works: Works, claim: jobs.Claim) -> Path:
    return works.folder / f"{claim.job.id}-{claim.job.attempts}"


def clean(works: Works, at: datetime) -> None:
    """Forget what is too old, and the oldest files while they take too much room; remove what belongs to no job."""
    settings = works.settings
    with Session(works.engine.execution_options(read_only=True)) as session:
        # those first: one that ends meanwhile is in one list or in both
        busy = {str(number) for number in session.scalars(select(ReportJob.id).where(jobs.UNFINISHED))}
        ended = select(ReportJob.id, ReportJob.file, ReportJob.size, ReportJob.finished_at, ReportJob.operator_id)
        rows = session.execute(ended.where(ReportJob.finished_at.is_not(None)).order_by(ReportJob.finished_at.desc())).all()
    room, old, heavy, kept = settings.reports_keep_megabytes * 2**20, [], [], set[str]()
    for row in rows:
        room -= (row.size or 0) if row.file else 0
        if row.finished_at < at - (timedelta(days=settings.reports_keep_days) if row.operator_id else ARCHIVE):
            old.append(row.id)
        elif row.file and room < 0:
            heavy.append(row.id)
        elif row.file:
            kept.add(Path(row.file).parent.name)
    if old or heavy:
        with Session(works.engine) as session, session.begin():
            session.execute(delete(ReportJob).where(ReportJob.id.in_(old)))
            session.execute(update(ReportJob).where(ReportJob.id.in_(heavy)).values(file=None))
    with Session(works.engine) as session, session.begin():
        session.execute(delete(Alert).where(Alert.ended_at < at - ARCHIVE))
    for folder in works.folder.glob("*"):
        fresh = folder.stat().st_mtime > time.time() - jobs.LEASE.total_seconds()  # its job may be newer than what was read
        if folder.name not in kept and folder.name.partition("-")[0] not in busy and not fresh:
            shutil.rmtree(folder, ignore_errors=True)
