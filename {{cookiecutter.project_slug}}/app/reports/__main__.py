"""python -m app.reports: the reporting service"""

import signal
import sys

import structlog

from app import service
from app.reports import bundle
from app.settings import Settings, SettingsError


def main(settings: Settings) -> None:
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
