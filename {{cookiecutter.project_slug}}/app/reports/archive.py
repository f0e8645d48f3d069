"""The pages on which managers say who gets which report and when, and on which everybody sees what was sent."""

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.reports import summary, work
from app.reports.fragment import fragment, need_manager, to
from app.reports.jobs import days_of
from app.reports.orders import sent
from app.storage.models import GROUP_CHATS, Delivery, JobState, ReportJob, ReportSubscription, Rhythm
from app.storage.pictures import PICTURE

MOST = 100  # subscriptions
SHOWN = 100


def blueprint(works: work.Works) -> Blueprint:
    """The pages under `/schedule` and `/archive`."""
    archive = Blueprint("archive", __name__)

    @archive.get("/schedule")
    def subscriptions() -> ResponseReturnValue:
        """Who gets what; managers may change it."""
        with Session(works.engine.execution_options(read_only=True)) as session:
            rows = session.scalars(select(ReportSubscription).order_by(ReportSubscription.id)).all()
        return fragment(
            "schedule.html",
            gettext("Schedule"),
            subscriptions=rows,
            rhythms=rhythms(),
            operators_peer_id=works.settings.operators_peer_id,
            group_chats=GROUP_CHATS,
            zone=works.settings.app_time_zone,
        )

    @archive.post("/schedule")
    def subscribe() -> ResponseReturnValue:
        """Send a report to somebody from now on."""
        need_manager()
        rhythm, peer, hour = (request.form.get(name, "").strip() for name in ("rhythm", "peer_id", "hour"))
        if rhythm not in list(Rhythm) or not (hour.isdecimal() and int(hour) < 24):
            abort(400, gettext("Say how often, and at which hour from 0 to 23."))
        if not (peer.isdecimal() and 0 < int(peer) < 2**53):
            abort(
                400,
                gettext(
                    "The person or chat is a number, such as 2000000001. Write /operators in a chat, and the bot says its number."
                ),
            )
        with Session(works.engine) as session, session.begin():
            if len(session.scalars(select(ReportSubscription.id).limit(MOST)).all()) == MOST:
                abort(409, gettext("There are too many subscriptions. Remove one first."))
            language = str(get_locale())
            session.add(ReportSubscription(peer_id=int(peer), rhythm=Rhythm(rhythm), hour=int(hour), language=language))
        return to("schedule")

    @archive.post("/schedule/<int:number>/remove")
    def remove(number: int) -> ResponseReturnValue:
        """Send it no more; what was sent stays in the archive."""
        need_manager()
        with Session(works.engine) as session, session.begin():
            session.execute(delete(ReportSubscription).where(ReportSubscription.id == number))
        return to("schedule")

    @archive.get("/archive")
    def page() -> ResponseReturnValue:
        """What was sent to chats, the newest first."""
        with Session(works.engine.execution_options(read_only=True)) as session:
            pictures = select(ReportJob, Delivery.state).outerjoin(Delivery, Delivery.id == ReportJob.delivery_id)
            ended = ReportJob.state.in_([JobState.DONE, JobState.FAILED])
            rows = session.execute(
                pictures.where(ReportJob.kind == PICTURE, ended).order_by(ReportJob.id.desc()).limit(SHOWN)
            ).all()
            shown = [(job, state, summary.interval(days_of(job))) for job, state in rows]
        return fragment("archive.html", gettext("Archive"), rows=shown, group_chats=GROUP_CHATS)

    @archive.get("/archive/<int:number>.png")
    def picture(number: int) -> ResponseReturnValue:
        """One of them."""
        with Session(works.engine.execution_options(read_only=True)) as session:
            job = session.get(ReportJob, number)
            if job is None or job.kind != PICTURE:
                abort(404)
            return sent(works, job)

    return archive


def rhythms() -> dict[Rhythm, str]:
    """How often, in words."""
    return {
        Rhythm.DAILY: gettext("Every day, about the day before"),
        Rhythm.WEEKLY: gettext("On Mondays, about the week before"),
        Rhythm.MONTHLY: gettext("On the first, about the month before"),
    }
