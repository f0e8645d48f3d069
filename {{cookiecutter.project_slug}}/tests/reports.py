"""What the tests of the reports' work share: the service's own parts, and replicas of it that can be killed."""

import random
import time
from datetime import UTC, datetime, timedelta

from flask import Flask
from flask_babel import Babel

from app.reports import bundle, schedule, work
from app.reports.jobs import Claim, Result
from app.reports.pages import create_app
from app.reports.work import Works
from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.pictures import PICTURE

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def works(settings: Settings) -> Works:
    """The parts of a service that does nothing by itself."""
    made: Works = service(settings).extensions["works"]
    return made


def service(settings: Settings) -> Flask:
    """The pages, without the script for charts in browsers, which takes its time to make."""
    script = settings.data_dir / "reports" / bundle.name()
    script.parent.mkdir(parents=True, exist_ok=True)
    script.touch()
    return create_app(settings)


def bare(settings: Settings) -> Works:
    """The same without pages and charts."""
    app = Flask(__name__)
    Babel(app)
    return Works(app, settings, make_engine(settings.database))


def do_all(these: Works, lease: timedelta = timedelta(seconds=90)) -> None:
    """Every job that there is to do."""
    while work.do_next(these, lease):
        pass


def clock(started: float) -> datetime:
    """A day takes a tenth of a second, and the clock jumps by up to two days forward and back."""
    return BEGIN + timedelta(days=10 * (time.time() - started) + random.uniform(-2, 2))  # noqa: S311


def line(_works: Works, claim: Claim) -> Result:
    """A line of text instead of a picture; it takes a moment."""
    time.sleep(random.uniform(0, 0.05))  # noqa: S311
    return Result(text=f"{claim.job.subscription_id} {claim.job.period}")


def replica(settings: Settings, started: float, lease: timedelta) -> None:
    """Plan and do for ever. What is drawn is a line of text, and takes a moment."""
    work.KINDS[PICTURE] = line
    these = bare(settings)
    while True:
        schedule.plan(these.engine, settings.zone, clock(started))
        if not work.do_next(these, lease):
            time.sleep(0.05)
