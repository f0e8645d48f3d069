"""The page on which somebody exports messages, conversations or the whole report of a period, and fetches the file."""

from datetime import date, timedelta
from typing import Any

from flask import Blueprint, abort, request, send_file
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.reports import jobs, schedule, summary, work
from app.reports.fragment import fragment, is_manager, operator_id, to
from app.reports.jobs import Days
from app.storage.models import JobState, ReportJob, now
from app.storage.wake import Channel, wake

AT_ONCE = 3  # jobs of one operator that wait or are being done
LONGEST = 3660  # days: ten years
SHOWN = 30
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pdf": "application/pdf",
    "png": "image/png",
}


def blueprint(works: work.Works) -> Blueprint:
    """The pages under `/exports`."""
    orders = Blueprint("orders", __name__)

    @orders.get("/exports")
    def page() -> ResponseReturnValue:
        """What may be ordered, and what was. Its first day and last day stand in the address when another page leads here."""
        today = now().astimezone(works.settings.zone).date()
        with Session(works.engine.execution_options(read_only=True)) as session:
            mine = select(ReportJob).where(ReportJob.operator_id == operator_id()).order_by(ReportJob.id.desc()).limit(SHOWN)
            found = session.scalars(mine).all()
        return fragment(
            "exports.html",
            gettext("Export"),
            jobs=found,
            periods={job.id: summary.interval(jobs.days_of(job)) for job in found},
            under_way=any(job.state in (JobState.NEW, JobState.RUNNING) for job in found),
            first=request.args.get("first", (today - timedelta(days=29)).isoformat()),
            last=request.args.get("last", today.isoformat()),
            titles=titles(),
            days=works.settings.reports_keep_days,
        )

    @orders.post("/exports")
    def order() -> ResponseReturnValue:
        """Put a job into the queue."""
        kind = request.form.get("kind", "")
        if kind not in titles():
            abort(400, gettext("There is no such export."))
        days = _days()
        with Session(works.engine) as session, session.begin():
            unfinished = select(func.count()).where(ReportJob.operator_id == operator_id(), jobs.UNFINISHED)
            if (session.scalar(unfinished) or 0) >= AT_ONCE:
                abort(409, gettext("Wait until what you have ordered is done, or cancel it."))
            params: dict[str, Any] = schedule.params(days, str(get_locale())) | {"manager": is_manager()}
            session.add(ReportJob(kind=kind, params=params, operator_id=operator_id()))
            wake(session, Channel.REPORTS)
        return to("exports")

    @orders.post("/exports/<int:number>/cancel")
    def cancel(number: int) -> ResponseReturnValue:
        """Stop it."""
        with Session(works.engine) as session, session.begin():
            jobs.cancel(session, _mine(session, number).id)
        return to("exports")

    @orders.get("/exports/<int:number>/file")
    def file(number: int) -> ResponseReturnValue:
        """The file of one's own job."""
        with Session(works.engine.execution_options(read_only=True)) as session:
            return sent(works, _mine(session, number))

    return orders


def titles() -> dict[str, str]:
    """What may be ordered, by the kind of its job."""
    return {
        "messages.xlsx": gettext("Messages (XLSX)"),
        "messages.csv": gettext("Messages (CSV)"),
        "conversations.xlsx": gettext("Conversations (XLSX)"),
        "conversations.csv": gettext("Conversations (CSV)"),
        "report.pdf": gettext("The report (PDF)"),
    }


def sent(works: work.Works, job: ReportJob) -> ResponseReturnValue:
    """The file that came of a job, as a download."""
    path = works.folder / job.file if job.file else None
    if path is None or not path.is_file():
        abort(404, gettext("The file is not there any more. Order it again."))
    return send_file(path, TYPES[path.suffix[1:]], as_attachment=path.suffix != ".png", download_name=path.name, max_age=0)


def _days() -> Days:
    try:
        first, last = (date.fromisoformat(request.form.get(end, "")) for end in ("first", "last"))
    except ValueError:
        abort(400, gettext("Write both days like 2026-11-24."))
    if not timedelta(0) <= last - first < timedelta(days=LONGEST):
        abort(400, gettext("The last day is before the first, or more than ten years after it."))
    return Days(first, last)


def _mine(session: Session, number: int) -> ReportJob:
    job = session.get(ReportJob, number)
    if job is None or job.operator_id != operator_id():
        abort(404)
    return job
