"""Reports that are sent by themselves: when they are due, that each is sent once, and what arrives."""

import base64
import multiprocessing
import random
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from app.reports import jobs, schedule, work
from app.settings import Settings
from app.storage.models import Delivery, JobState, ReportJob, ReportSubscription, Rhythm, now
from app.storage.pictures import PICTURE, order_picture
from tests.conftest import on_sqlite
from tests.histories import believable
from tests.reports import Works, bare, clock, do_all, line, replica, works

MOSCOW = ZoneInfo("Europe/Moscow")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=MOSCOW)


def subscribe(engine: Engine, rhythm: Rhythm = Rhythm.DAILY, created_at: datetime = LONG_AGO) -> int:
    with Session(engine) as session, session.begin():
        row = ReportSubscription(peer_id=2000000001, rhythm=rhythm, hour=9, language="ru", created_at=created_at)
        session.add(row)
        session.flush()
        return row.id


def slots(engine: Engine) -> list[tuple[str, JobState]]:
    with Session(engine) as session:
        return [(str(row.period), row.state) for row in session.scalars(select(ReportJob).order_by(ReportJob.id))]


@pytest.mark.parametrize(
    ("rhythm", "moment", "first", "last"),
    [
        (Rhythm.DAILY, "2026-11-24 09:00", "2026-11-23", "2026-11-23"),
        (Rhythm.DAILY, "2026-11-24 08:59", "2026-11-22", "2026-11-22"),
        (Rhythm.WEEKLY, "2026-11-23 09:00", "2026-11-16", "2026-11-22"),
        (Rhythm.WEEKLY, "2026-11-23 08:59", "2026-11-09", "2026-11-15"),
        (Rhythm.WEEKLY, "2026-11-29 23:00", "2026-11-16", "2026-11-22"),
        (Rhythm.MONTHLY, "2026-03-01 09:00", "2026-02-01", "2026-02-28"),
        (Rhythm.MONTHLY, "2026-01-01 08:00", "2025-11-01", "2025-11-30"),
    ],
)
def test_the_newest_period_that_is_due(rhythm: Rhythm, moment: str, first: str, last: str) -> None:
    subscription = ReportSubscription(rhythm=rhythm, hour=9, created_at=LONG_AGO)
    period = schedule.due(subscription, at(moment), MOSCOW)
    assert period
    assert (period.first, period.last) == (date.fromisoformat(first), date.fromisoformat(last))
    # what was due before somebody subscribed is not sent
    assert schedule.due(ReportSubscription(rhythm=rhythm, hour=9, created_at=at(moment)), at(moment), MOSCOW) is None


@on_sqlite
def test_after_a_downtime_the_newest_is_made_up_for_and_a_clock_put_back_asks_for_nothing(engine: Engine) -> None:
    subscribe(engine)
    schedule.plan(engine, MOSCOW, at("2026-11-20 10:00"))
    schedule.plan(engine, MOSCOW, at("2026-11-20 11:00"))
    assert slots(engine) == [("2026-11-19", JobState.NEW)]
    schedule.plan(engine, MOSCOW, at("2026-11-23 08:00"))  # nobody has begun the older one
    assert slots(engine) == [("2026-11-19", JobState.CANCELLED), ("2026-11-21", JobState.NEW)]
    schedule.plan(engine, MOSCOW, at("2026-11-21 10:00"))
    schedule.plan(engine, MOSCOW, at("2026-11-22 10:00"))
    assert len(slots(engine)) == 2


@on_sqlite
def test_who_died_is_taken_over_from_and_cannot_finish_any_more(engine: Engine) -> None:
    subscribe(engine)
    schedule.plan(engine, MOSCOW, at("2026-11-20 10:00"))
    first = jobs.claim(engine, now())
    assert first
    assert jobs.claim(engine, now()) is None
    second = jobs.claim(engine, now() + jobs.LEASE * 2)
    assert second
    for late in (lambda: first.advance(1), lambda: first.finish(jobs.Result(text="x")), lambda: first.fail("why", "x")):
        with pytest.raises(jobs.NotWanted):
            late()
    second.finish(jobs.Result(text="once"))
    with Session(engine) as session:
        assert session.scalars(select(Delivery.text)).all() == ["once"]
        session.execute(update(ReportJob).values(state=JobState.RUNNING, lease_until=LONG_AGO, attempts=jobs.TRIES))
        session.commit()
    assert jobs.claim(engine, now()) is None  # it ended its process three times
    assert slots(engine) == [("2026-11-19", JobState.FAILED)]


@on_sqlite
def test_who_has_to_count_first_goes_on_saying_so_and_hears_that_it_is_not_wanted(settings: Settings, engine: Engine) -> None:
    believable(engine, now(), 3)
    these = bare(settings)
    with Session(engine) as session, session.begin():
        assert order_for(session, 2000000001) == 1
    claim = jobs.claim(engine, now())
    assert claim
    with Session(engine) as session, session.begin():
        jobs.cancel(session, 1)
    with these.speaking("ru"), pytest.raises(jobs.NotWanted):
        work._document(these, claim)


@on_sqlite
def test_what_fails_after_it_was_cancelled_stops_nobody(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_works: Works, claim: jobs.Claim) -> jobs.Result:
        with Session(engine) as session, session.begin():
            jobs.cancel(session, claim.job.id)
        raise ValueError

    monkeypatch.setitem(work.KINDS, PICTURE, fail)
    with Session(engine) as session, session.begin():
        order_for(session, 2000000001)
    assert work.do_next(bare(settings))
    with Session(engine) as session:
        assert session.scalars(select(ReportJob.state)).all() == [JobState.CANCELLED]
        assert session.scalars(select(Delivery.text)).all() == []


def order_for(session: Session, peer_id: int) -> int:
    """The number of a job for a picture of today."""
    day = now().date().isoformat()
    job = ReportJob(kind=PICTURE, params={"first": day, "last": day}, peer_id=peer_id)
    session.add(job)
    session.flush()
    return job.id


def test_three_replicas_that_are_killed_send_each_slot_once(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, lease, dice = time.time(), timedelta(seconds=1), random.Random(5)  # noqa: S311 - nothing secret
    subscriptions = [subscribe(engine, rhythm) for rhythm in (*Rhythm, *[Rhythm.DAILY] * 5)]
    context = multiprocessing.get_context("fork")  # they have all of it in memory already; none of them ends by itself

    def start() -> multiprocessing.process.BaseProcess:
        process = context.Process(target=replica, args=(settings, started, lease), daemon=True)
        process.start()
        return process

    replicas = [start() for _ in range(3)]
    try:
        for _ in range(6):
            wanted, limit = deliveries(engine) + 8, time.monotonic() + 60
            while deliveries(engine) < wanted:
                assert time.monotonic() < limit
                time.sleep(dice.uniform(0, 0.1))
            number = dice.randrange(3)
            replicas[number].kill()
            replicas[number].join()
            replicas[number] = start()
    finally:
        for process in replicas:
            process.kill()
            process.join()
    back = clock(started) + timedelta(days=6)  # at least two days of downtime; then one comes back
    schedule.plan(engine, settings.zone, back)
    time.sleep(lease.total_seconds())
    with monkeypatch.context() as patch:
        patch.setitem(work.KINDS, PICTURE, line)
        do_all(bare(settings), lease)
    with Session(engine) as session:
        rows = session.scalars(select(ReportJob).order_by(ReportJob.period)).all()
        texts = Counter(session.scalars(select(Delivery.text)))
        due = [schedule.due(row, back, settings.zone) for row in session.scalars(select(ReportSubscription))]
    done = [row for row in rows if row.state == JobState.DONE]
    assert {row.state for row in rows} <= {JobState.DONE, JobState.CANCELLED}
    assert len({row.delivery_id for row in done}) == len(done) == texts.total() >= 48
    newest = {row.subscription_id: row.period for row in done}
    assert newest == {number: period.first for number, period in zip(subscriptions, due, strict=True) if period}


def deliveries(engine: Engine) -> int:
    with Session(engine.execution_options(read_only=True)) as session:
        return session.scalar(select(func.count()).select_from(Delivery)) or 0


@on_sqlite
def test_a_picture_with_a_line_of_text_arrives_and_is_kept(settings: Settings, engine: Engine) -> None:
    believable(engine, now(), 10)
    subscribe(engine, Rhythm.WEEKLY)
    these = works(settings)
    schedule.plan(engine, MOSCOW, now())
    with Session(engine) as session, session.begin():
        assert not order_picture(session, 2000000002, now().date(), now().date())  # nobody is there who draws
    work.sign_of_life(these)
    with Session(engine) as session, session.begin():
        assert order_picture(session, 2000000002, now().date(), now().date())
    do_all(these)
    with Session(engine) as session:
        rows = session.scalars(select(Delivery).order_by(Delivery.id)).all()
        assert [row.peer_id for row in rows] == [2000000001, 2000000002]
        for row in rows:
            assert row.upload
            picture = base64.b64decode(row.upload["data"])
            assert (row.upload["kind"], picture[:4]) == ("photo", b"\x89PNG")
            assert settings.app_name in row.text
            assert "часовой пояс UTC" in row.text
        files = [row.file for row in session.scalars(select(ReportJob).order_by(ReportJob.id))]
    assert all((these.folder / str(file)).read_bytes()[:4] == b"\x89PNG" for file in files)
