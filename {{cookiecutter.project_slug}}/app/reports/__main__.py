"""python -m app.reports: the reporting service

python -m app.reports rebuild: count all figures anew from what is there, and show how far that is
"""

import signal
import sys

import structlog

from app import service
from app.reports import bundle
from app.settings import Settings, SettingsError


def main(settings: Settings) -> None:
    """Do what the command line asks for."""
    match sys.argv[1:]:
        case []:
            serve(settings)
        case ["rebuild"]:
            rebuild(settings)
        case _:
            sys.exit(f"usage: {__doc__}")


def rebuild(settings: Settings) -> None:
    """Count everything anew; the service may run meanwhile, and helps."""
    # imported here: the process that only looks after the server is smaller by 25 MB without it
    from app.reports import rollup  # noqa: PLC0415
    from app.storage.engine import wait_for_database  # noqa: PLC0415

    engine = wait_for_database(settings).execution_options(postgresql_readonly=False)
    rollup.rebuild(engine, settings.zone, lambda left, total: print(f"{total - left} of {total} hours", file=sys.stderr))
    structlog.get_logger().info("all figures are counted anew")
    engine.dispose()


def serve(settings: Settings) -> None:
    """Make what the pages need, then serve them. One worker: charts are few, and each worker is 100 MB."""
    settings.secret("reports_token")
    # until the server has its own handler; as a container's first process one would not hear it at all
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        file = bundle.prepare(settings.data_dir / "reports")
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be written: make DATA_DIR writable, or run `make doctor`") from error
    structlog.get_logger().info(f"charts are drawn by {file}")
    service.serve(settings, "app.reports.serve:create_service", workers=1, threads=4)


if __name__ == "__main__":
    service.run("reports", main)
