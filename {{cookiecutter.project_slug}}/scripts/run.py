"""Runs the Procfile's services without Docker until Ctrl-C. `run.py addresses SERVICE…` only says where they are.

Not with honcho, which was tried: it leaves the services running when the terminal is closed, calls it a success when one of
them ends by itself, kills after five seconds, and reads `APP_NAME=Community Desk` from `.env` as CommunityDesk.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

from init import ROOT, SANDBOX_TOKEN, SECRETS, setting

GRACE = 30  # seconds that a service has to end by itself; in containers they are the same
BOT_ALIVE = Path(tempfile.gettempdir()) / "bot-alive"
PORT = re.compile(r"LISTEN=127\.0\.0\.1:\$\{(\w+):-(\d+)\}")
_speaking = threading.Lock()  # lines of several threads must not run into each other
# a proxy of this machine is not for this machine's own addresses
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def procfile() -> dict[str, str]:
    """The commands of the rooms that this project has, by name."""
    lines = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    commands = dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    return {name: command for name, command in commands.items() if (ROOT / "app" / name / "__main__.py").exists()}


def ports() -> dict[str, tuple[str, int]]:
    """The setting and the port of each service that listens. Raises `ValueError` with one line when a port is none."""
    found = {}
    for name, command in procfile().items():
        if match := PORT.match(command):
            value = setting(match[1]) or match[2]
            if not (value.isdecimal() and 0 < int(value) < 65536):
                raise ValueError(f"{match[1]}={value} is not a port: write a number like {match[2]} in .env")
            found[name] = (match[1], int(value))
    return found


def is_free(port: int) -> bool:
    """True when this user may listen on the port and nobody does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def secret(name: str) -> str:
    """The value of a secret; empty when its file is not there."""
    file = SECRETS / name
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def say(name: str, text: str) -> None:
    """One line, with who says it in front. A terminal that was closed is no reason to leave services behind."""
    with _speaking, suppress(OSError):
        print(f"{name:<8}| {text}", flush=True)


class Service:
    """A running command whose output is shown line by line. It is in a session of its own: Ctrl-C does not reach it."""

    def __init__(self, name: str, command: str, environment: dict[str, str]) -> None:
        self.name = name
        self.last = ""  # what it said last: the reason, when it ends by itself
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec env {command}"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._show, daemon=True)
        self.reader.start()

    def _show(self) -> None:
        for line in self.process.stdout or ():
            self.last = line.rstrip("\n")
            say(self.name, self.last)

    def wait(self, end: float) -> bool:
        """Wait until `end` on the monotonic clock, then kill it and all that it started. True when it ended well."""
        try:
            self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            say("run", f"{self.name} did not stop in {GRACE} s and is killed")
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.reader.join(timeout=1)
        return code in (0, -signal.SIGTERM)


def is_ready(name: str, since: float) -> bool:
    """Whether the service says so itself: by HTTP, or the bot by touching its file after `since`."""
    if name == "bot":
        return BOT_ALIVE.exists() and BOT_ALIVE.stat().st_mtime >= since
    if name in ports():
        try:
            with _http.open(f"http://127.0.0.1:{ports()[name][1]}/readyz", timeout=2):
                return True
        except (OSError, HTTPException):
            return False
    return True


def addresses(services: Sequence[str]) -> None:
    """Print where people find what runs. The password itself goes to a terminal only, not into a file or a CI log."""
    port = {name: f"http://127.0.0.1:{number}" for name, (_, number) in ports().items()}
    password = secret("operator_password") if sys.stdout.isatty() else f"in {SECRETS / 'operator_password'}"
    print(f"\n  Inbox     {port['web']}\n            login admin, password {password}")
    if "reports" in services:
        print(f"  Reports   {port['web']}/reports/")
    if "sandbox" in services:
        print(f"  Sandbox   {port['sandbox']}\n            a VK of your own: write to the bot there")
    print(flush=True)


def supervise(
    services: list[Service], commands: dict[str, str], environment: dict[str, str], stop: Callable[[], bool]
) -> Service | None:
    """Migrate, start everything, say when it is ready, and go on until `stop`, or until a service ends by itself: that one."""
    migrate = Service("migrate", "python -m app.storage migrate", environment)
    services.append(migrate)
    while migrate.process.poll() is None:
        if stop():
            return None
        time.sleep(0.1)
    if migrate.process.returncode:
        return migrate
    services.clear()

    since = time.time()
    unstarted, waiting, told = dict(commands), set(commands), time.monotonic()
    while not stop():
        for name in list(unstarted):
            # without the sandbox the bot would begin with a complaint about VK
            if name != "bot" or "sandbox" not in waiting:
                services.append(Service(name, unstarted.pop(name), environment))
        for service in services:
            if service.process.poll() is not None:
                return service
        for name in sorted(waiting):
            if is_ready(name, since):
                waiting.remove(name)
                say("run", f"{name} is ready" + (f"; waiting for {', '.join(sorted(waiting))}" if waiting else ""))
                if not waiting:
                    addresses(list(commands))
                    say("run", "Ctrl-C stops everything")
        if waiting and time.monotonic() - told > 10:
            told = time.monotonic()
            say("run", f"still waiting for {', '.join(sorted(waiting))}")
        time.sleep(0.2)
    return None


def is_closed(terminal: int) -> bool:
    """Whether a terminal is gone. The kernel tells the session's leader alone, and when that is `make`, it only waits."""
    try:
        os.tcgetpgrp(terminal)
    except OSError:
        return True
    return False


@contextmanager
def own_terminal() -> Iterator[None]:
    """Ctrl-C comes to this process alone. Else `make`, which started it, gets it too and calls it an error."""
    group = os.getpgrp()
    if not sys.stdin.isatty() or os.tcgetpgrp(0) != group or group == os.getpid():
        yield
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # sent to who changes the terminal's group from outside it
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # `make` would not see the stop, and nobody could end it
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    try:
        yield
    finally:
        with suppress(OSError):
            os.tcsetpgrp(0, group)


def main() -> int:
    """Run until asked to stop; the exit code."""
    commands, listening = procfile(), ports()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    environment |= {name: str(port) for name, port in listening.values()}
    if "reports" in commands:
        environment["REPORTS_URL"] = f"http://127.0.0.1:{listening['reports'][1]}"
    if "sandbox" in commands:
        sandbox = f"http://127.0.0.1:{listening['sandbox'][1]}"
        vk = setting("VK_API_URL") or (sandbox if secret("vk_token") == SANDBOX_TOKEN else "")
        environment["VK_API_URL"] = vk
        if vk != sandbox:
            del commands["sandbox"]
            say("run", f"VK is {vk or 'the real one'}: no sandbox is started")

    taken = [(name, *listening[name]) for name in commands if name in listening and not is_free(listening[name][1])]
    for name, variable, port in taken:
        say("run", f"port {port} of {name} is taken or not allowed: stop what uses it, or set {variable} in .env")
    if taken:
        return 1

    asked: list[int] = []
    in_terminal = sys.stdin.isatty()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda number, _: asked.append(number))
    services: list[Service] = []
    with own_terminal():
        try:
            ended = supervise(services, commands, environment, lambda: bool(asked) or (in_terminal and is_closed(0)))
        finally:
            if services:
                say("run", "stopping")
            for service in services:
                service.process.terminate()
            end = time.monotonic() + GRACE
            unclean = [service.name for service in services if not service.wait(end)]
    if ended:
        # the reason once more: the others had much to say since
        say("run", f"{ended.name} ended by itself with code {ended.process.returncode}; the last it said: {ended.last}")
        return 1
    if unclean:
        say("run", f"did not stop as they should: {', '.join(unclean)}")
    return len(unclean)


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case []:
                sys.exit(main())
            case ["addresses", *services]:
                addresses(services)
            case _:
                sys.exit(f"usage: {__doc__}")
    except (ValueError, OSError) as error:
        sys.exit(f"run: {error}")
