"""How every service starts: settings, logs, one line and an exit code when something is wrong, and the web server."""

import errno
import logging
import multiprocessing
import socket
import sys
from collections.abc import Callable

import structlog

from app import log
from app.settings import Settings, SettingsError, load

WRONG_SETTING = 2


def run(name: str, main: Callable[[Settings], None]) -> None:
    """Run `main` as the service `name`. A wrong setting ends the process with one line and exit code 2."""
    try:
        settings = load()
        log.setup(settings, name)
        main(settings)
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(WRONG_SETTING)


def serve(settings: Settings, factory: str, *, workers: int = 1, threads: int = 4) -> None:
    """Serve the WSGI application that `factory` ("app.web:create_app") makes, until SIGTERM or SIGINT.

    Requests in flight are finished. `threads` is how many requests one worker answers at a time.
    """
    # imported here: the bot, which serves nothing, does not carry the server in its image
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.server import Server  # noqa: PLC0415

    # a forked worker would have the handlers of this process until it is ready, and hear of no SIGTERM before
    multiprocessing.set_start_method("spawn", force=True)
    host, port = settings.address
    _refuse_taken_port(host, port)
    # threads that wait in a long poll cost nothing: their number is no reason for a warning at every start
    logging.getLogger("_granian").addFilter(lambda record: "Python threads" not in record.getMessage())
    Server(
        factory,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        factory=True,
        workers=workers,
        blocking_threads=threads,
        respawn_failed_workers=True,
        workers_kill_timeout=20,
        websockets=False,
        log_dictconfig={"handlers": {}, "loggers": {}},  # its lines go where all others go: `log.setup`
    ).serve()
    structlog.get_logger().info("stopped")


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise SettingsError(f"port {port} is taken or not allowed: stop what uses it, or set another in .env") from None
            raise
