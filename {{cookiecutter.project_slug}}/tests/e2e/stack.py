"""A running stack, in containers or as plain processes, in a copy of the project: nothing of one's own is touched."""

import fcntl
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from zlib import crc32

import docker
import yaml
from testcontainers.compose import DockerCompose

PROJECT = Path(__file__).parents[2]
OWN = (".env", "secrets", "data", ".venv", "demo", ".git", "__pycache__", ".*_cache", ".hypothesis", "artifacts", "node_modules")
HAS_BOT = (PROJECT / "app/bot").exists()
T = TypeVar("T")


def _services() -> list[str]:
    """The services of this project that go on running: all but `migrate`, and those that are asked for by their profile."""
    files = [yaml.safe_load(file.read_text()) for file in PROJECT.glob("docker-compose*.yml")]
    optional = {name for file in files for name, service in file["services"].items() if "profiles" in service}
    return sorted({service for file in files for service in file["services"]} - {"migrate"} - optional)


SERVICES = _services()


def eventually(ask: Callable[[], T], what: str, timeout: float = 60) -> T:
    """The first true answer of `ask`; fails after `timeout` seconds. A server that is away counts as no."""
    end, answer = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            answer = ask()
        except (URLError, ConnectionError, TimeoutError):
            answer = None
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"not within {timeout} s: {what}")


def http(url: str, data: dict[str, Any] | None = None) -> Any:
    """The JSON (or text) that `url` answers to a GET, or to a POST of `data`."""
    body = json.dumps(data).encode() if data is not None else None
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
    with urllib.request.urlopen(request, timeout=20) as response:
        text = response.read().decode()
        return json.loads(text) if "json" in response.headers["Content-Type"] else text


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Stack:
    """What the tests know of a stack: its addresses, and how to talk to it as a person in the sandbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*OWN))
        # an outer make's flags are not for this copy
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        self.environment["VENV"] = sys.prefix
        subprocess.run(["make", "init"], cwd=folder, env=self.environment, check=True, capture_output=True)
        web, reports, sandbox = free_ports(3)
        with (folder / ".env").open("a") as file:
            file.write(f"\nWEB_PORT={web}\nREPORTS_PORT={reports}\nSANDBOX_PORT={sandbox}\n")
        self.web, self.sandbox = f"http://127.0.0.1:{web}", f"http://127.0.0.1:{sandbox}"
        self.password = (folder / "secrets/operator_password").read_text().strip()

    def new_person(self, first_name: str, last_name: str = "Тестова") -> int:
        """Somebody new in the sandbox: the VK id, which is the peer id of the dialog too."""
        return int(http(f"{self.sandbox}/control/people", {"first_name": first_name, "last_name": last_name})["id"])

    def write(self, person: int, text: str) -> int:
        """The person writes to the community: the message's number in the dialog."""
        message = http(f"{self.sandbox}/control/messages", {"from_id": person, "text": text})
        return int(message["conversation_message_id"])

    def answers(self, person: int, after: int = 0) -> list[dict[str, Any]]:
        """What the community wrote to the person after message number `after`."""
        items = http(f"{self.sandbox}/control/messages?peer_id={person}&after={after}")["items"]
        return [item for item in items if item["from_id"] < 0]


class Processes(Stack):
    """The Procfile's processes on SQLite, as `make run` starts them."""

    def start(self) -> None:
        """Start, and wait until every service is ready."""
        self.terminal, inside = pty.openpty()
        with (self.folder / "run.log").open("w") as log:
            self.run = subprocess.Popen(
                ["make", "run"],
                cwd=self.folder,
                env=self.environment,
                stdin=inside,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread of ours runs yet
            )
        os.close(inside)
        for url in (self.web, self.sandbox):
            eventually(lambda url=url: self.alive() and http(f"{url}/readyz") == "ok", f"{url} is ready\n{self.log()}", 120)

    def alive(self) -> bool:
        """Fails with the log when the processes ended by themselves."""
        assert self.run.poll() is None, self.log()
        return True

    def stop(self) -> int:
        """Ctrl-C, as a person types it into the terminal; the exit code."""
        os.write(self.terminal, b"\x03")
        try:
            return self.run.wait(timeout=60)
        finally:
            os.close(self.terminal)

    def log(self) -> str:
        """What the processes said."""
        return (self.folder / "run.log").read_text()


class Containers(Stack):
    """The compose stack, under a name of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # the same name at every run of this checkout: a run that was killed is cleared away by the next
        self.compose = _Compose(f"desk-e2e-{crc32(str(PROJECT).encode()):08x}", context=folder, build=True)
        self.engine = docker.from_env()

    def start(self) -> None:
        """Build, start, and wait until every service is healthy."""
        try:
            self.compose.start()
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{error.stderr.decode()}\n{self.log()}") from None

    def stop(self) -> None:
        """Remove everything: containers, networks, volumes, and the images that were built."""
        self.run("down", "--volumes", "--remove-orphans", "--rmi", "local")

    def run(self, *arguments: str) -> str:
        """The output of a docker compose command on this stack."""
        command = [*self.compose.docker_compose_command(), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        """What the services are, and what they said."""
        command = self.compose.docker_compose_command()
        parts = (
            subprocess.run([*command, *what], cwd=self.folder, capture_output=True, text=True, check=False).stdout
            for what in (["ps", "--all"], ["logs", "--no-color", "--tail", "60"])
        )
        return "\n".join(parts)

    def inspect(self, service: str) -> dict[str, Any]:
        """What `docker inspect` says of the service's container."""
        container = self.compose.get_container(service, include_all=True)
        return dict(self.engine.containers.get(str(container.ID)).attrs)

    def healthy(self, service: str) -> bool:
        """True while the service runs and its health check says so."""
        state = self.inspect(service)["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def signal(self, service: str, name: str) -> None:
        """A signal ("KILL", "STOP") to the service's first process, from outside: `docker kill` switches the restart policy off.

        A helper container that sees the engine's processes does it, so that neither root nor a local engine is needed.
        """
        container = self.inspect(service)
        self.engine.containers.run(
            container["Image"],
            ["-c", f"kill -{name} {container['State']['Pid']}"],
            entrypoint="sh",
            pid_mode="host",
            user="0",
            network_mode="none",
            remove=True,
        )

    def check_health(self, service: str) -> bool:
        """Run the service's own health check now, instead of waiting for its turn."""
        container = self.inspect(service)
        kind, *command = container["Config"]["Healthcheck"]["Test"]
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *command]
        return bool(self.engine.containers.get(container["Id"]).exec_run(command).exit_code == 0)

    def python(self, service: str, code: str) -> str:
        """What `code` prints inside the service's container."""
        return self.compose.exec_in_container(["python", "-c", code], service)[0].strip()


class _Compose(DockerCompose):
    """testcontainers' compose with a project name, so that it cannot meet a stack of one's own."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        super().__init__(**options)

    @cached_property
    def compose_command_property(self) -> list[str]:
        """Used by every method of testcontainers' class."""
        return ["docker", "compose", "--project-name", self.name, "--progress", "plain"]
