"""Figures for Prometheus, all from the database: so any worker gives the same. How long requests take stands in the log."""

from collections.abc import Iterator
from hmac import compare_digest

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.settings import Settings
from app.storage.engine import readiness
from app.storage.models import now
from app.web import status
from app.web.database import engine


def blueprint(settings: Settings) -> Blueprint:
    """The address for Prometheus, which shows `secrets/metrics_token`: the site is open to the world, the figures are not."""
    figures = Blueprint("metrics", __name__)
    token = settings.secret("metrics_token").encode()

    @figures.get("/metrics")
    def page() -> ResponseReturnValue:
        """All figures, in Prometheus' text format; 401 without the token."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not compare_digest(given.encode("utf-8", "replace"), token):
            return "the token is in secrets/metrics_token\n", 401, {"WWW-Authenticate": "Bearer", "Content-Type": "text/plain"}
        registry = CollectorRegistry()
        registry.register(_Figures())
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return figures


class _Figures(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        ready = readiness(engine()) is None
        yield GaugeMetricFamily("desk_ready", "Whether the database answers with the schema that this version needs.", int(ready))
        if ready:
            yield from _from_database()


def _from_database() -> Iterator[GaugeMetricFamily]:
    beats, facts = status.look()
    at = now()
    length = GaugeMetricFamily("desk_queue_length", f"What waits, counted up to {status.COUNT_LIMIT}.", labels=["queue"])
    age = GaugeMetricFamily("desk_queue_oldest_seconds", "How long the first in the queue has waited.", labels=["queue"])
    for queue, count, oldest in (("events", facts.new, facts.oldest_new), ("outbox", facts.unsent, facts.oldest_unsent)):
        length.add_metric([queue], count)
        age.add_metric([queue], max((at - oldest).total_seconds(), 0) if oldest else 0)
    yield from (length, age)
    yield GaugeMetricFamily("desk_events_set_aside", "Events that the bot could not deal with.", facts.set_aside)
    yield GaugeMetricFamily("desk_deliveries_held", "Answers of which nobody knows whether they have arrived.", facts.held)
    yield GaugeMetricFamily("desk_deliveries_refused", "Messages that VK refused within a day.", facts.refused)
    seen = GaugeMetricFamily("desk_loop_seen_seconds", "How long ago a loop of the bot was last heard of.", labels=["loop"])
    works = GaugeMetricFamily("desk_loop_works", "Whether a loop of the bot does its work.", labels=["loop"])
    for name, beat in beats.items():
        seen.add_metric([name], (at - beat.at).total_seconds())
        works.add_metric([name], int(beat.problem is None and at - beat.at < status.LOST))
    yield from (seen, works)
