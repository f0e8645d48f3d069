"""python -m app.sandbox"""

import gc
import signal
import socket
import sys
import threading

from flask import Flask

from app import sandbox, service
from app.settings import Settings

# each waiting long poll holds a thread
THREADS = 64


def create_served_app() -> Flask:
    """The application inside the server: when that is told to end, the long polls answer at once.

    The server waits for requests in flight, and it sets its own handler after this; so the signal is read where Python
    announces every signal, whoever handles it.
    """
    app = sandbox.create_app()
    gc.freeze()  # it stays, and need not be looked through for garbage
    sys.setswitchinterval(0.0005)  # a request is counted when it comes: it must not wait until the others have calculated
    announced, announce = socket.socketpair()
    announce.setblocking(False)
    signal.set_wakeup_fd(announce.detach())

    def stop_waiting() -> None:
        while heard := announced.recv(64):
            if signal.SIGTERM in heard or signal.SIGINT in heard:
                app.extensions["sandbox"].stop()

    threading.Thread(target=stop_waiting, daemon=True).start()
    return app


def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    sandbox.check(settings)
    service.serve(settings, "app.sandbox.__main__:create_served_app", threads=THREADS)


if __name__ == "__main__":
    service.run("sandbox", main)
