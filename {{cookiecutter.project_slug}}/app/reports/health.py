"""The page on which lights and lines show how everything is, and the same figures for Prometheus."""

import hmac
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version

from flask import Blueprint, Response, abort, request
from flask.typing import ResponseReturnValue
from flask_babel import format_datetime, gettext
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.reports.fragment import conditional, fragment
from app.reports.readings import KEPT, Reading, read
from app.reports.work import Works
from app.storage.models import Alert, Sample, now

WIDE, HIGH = 240, 40  # of a line's picture, pixels
SHOWN = 10  # alerts


def blueprint(works: Works) -> Blueprint:
    """The pages under `/health`, and `/metrics`."""
    health = Blueprint("health", __name__)
    engine = works.engine.execution_options(read_only=True)

    @health.get("/health")
    def page() -> ResponseReturnValue:
        """Lights with lines, alerts, versions."""
        with Session(engine) as session:
            readings = read(session, works.settings, now())
            order = (Alert.ended_at.is_not(None), Alert.id.desc())
            alerts = session.scalars(select(Alert).order_by(*order).limit(SHOWN)).all()
            drawn = set(session.scalars(select(Sample.name).distinct()))
        return fragment(
            "health.html",
            gettext("Health"),
            readings=readings,
            alerts=alerts,
            drawn=drawn,
            versions=_versions(works),
            levels={"doubtful": gettext("to be watched"), "bad": gettext("bad")},
            moment=lambda at: format_datetime(at.astimezone(works.settings.zone), "d MMM, HH:mm", rebase=False),
        )

    @health.get("/health/<name>.svg")
    def line(name: str) -> ResponseReturnValue:
        """What the last day was like."""
        with Session(engine) as session:
            points = session.execute(select(Sample.at, Sample.value).where(Sample.name == name).order_by(Sample.at)).all()
        if not points:
            abort(404)
        return conditional(Response(_line([(row.at, row.value) for row in points], now()), mimetype="image/svg+xml"))

    @health.get("/metrics")
    def metrics() -> ResponseReturnValue:
        """For Prometheus, which shows `secrets/metrics_token`."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, works.settings.secret("metrics_token").encode()):
            abort(401)
        registry = CollectorRegistry()
        with Session(engine) as session:
            registry.register(_Metrics(read(session, works.settings, now())))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return health


class _Metrics(Collector):
    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for reading in self._readings:
            yield GaugeMetricFamily(f"desk_{reading.name}", f"{reading.title}.", reading.value)


def _line(points: Sequence[tuple[datetime, float]], at: datetime) -> str:
    """The values of a day from left to right, from nothing to the highest."""
    highest = max(value for _, value in points) or 1
    places = (
        (WIDE * (1 - (at - moment) / KEPT), 2 + (HIGH - 4) * (1 - value / highest))
        for moment, value in points
        if moment > at - KEPT
    )
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}">'
        f'<polyline fill="none" stroke="#2f7fd6" stroke-width="2" stroke-linejoin="round" points="{drawn}"/></svg>'
    )


def _versions(works: Works) -> dict[str, str]:
    dialect = works.engine.dialect
    kind = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[dialect.name]
    number = ".".join(map(str, dialect.server_version_info or ()))
    packages = {name: version(name) for name in ("vl-convert-python", "typst", "xlsxwriter")}
    return {kind: number, "Python": platform.python_version(), **packages}
