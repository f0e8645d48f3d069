"""python -m app.web: serve the inbox."""

import os
from pathlib import Path

import structlog

from app import service
from app.settings import Settings
from app.storage.engine import make_engine, readiness
from app.web import callback

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # the container's share: "QUOTA PERIOD" in microseconds, or "max PERIOD"
MOST_WORKERS = 8
THREADS = 4  # while one waits for the database, another works


def cpus(limit: Path = CPU_LIMIT) -> int:
    """How many CPUs this process may use: those it is bound to, or the container's limit where that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit.read_text().split()
    except OSError:
        return bound
    return bound if quota == "max" else max(1, min(bound, round(int(quota) / int(period))))


def main(settings: Settings) -> None:
    """Serve until SIGTERM. What is missing for good ends it at once; for the database it waits while serving."""
    settings.secret("secret_key")
    if settings.reports_url:
        settings.secret("reports_token")
    if settings.vk_transport == "callback":
        callback.blueprint(settings)
    engine = make_engine(settings.database)
    if problem := readiness(engine):
        structlog.get_logger().warning(f"waiting: {problem}")
    engine.dispose()
    service.serve(settings, "app.web:create_app", workers=min(cpus(), MOST_WORKERS), threads=THREADS)


if __name__ == "__main__":
    service.run("web", main)
