"""The web inbox and its API under load, beside the same in FastAPI.

    make bench-web

On PostgreSQL in a container, 2 cores, 16 connections, all servers there at once and measured in turns, a few rounds of each:
the list of 50 conversations as a page and as JSON, among a thousand and among a million of them; the same JSON from FastAPI with
SQLAlchemy's async ORM, response models and uvicorn (benchmarks/fastapi_desk, in a virtual environment of its own); the posting
of an answer by both; and a poll that finds nothing new. Ours is started as the container starts it. The load comes from wrk
(apt install wrk), which needs a fraction of what a server does. Writes a table to the screen and the same figures to
benchmarks/results/web.json. Look at the ratios: the figures are this machine's.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import requests
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
RIVAL = Path(__file__).parent / "fastapi_desk"
CONNECTIONS, CORES = 16, 2
FEW, MANY = 1_000, 1_000_000  # conversations
SLOWER, RATIO, POLL = 1.2, 2.0, 5.0  # the goals
PASSWORD = "a-password"  # noqa: S105
API = "/api/v1/conversations"
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}  # of wrk, in milliseconds
POST = """
math.randomseed(os.time())
local first, last = {first}, {last}
wrk.method = "POST"
wrk.body = '{{"text": "Спасибо, уже отправили!"}}'
wrk.headers["Content-Type"] = "application/json"
request = function() return wrk.format(nil, "{api}/" .. math.random(first, last) .. "/messages") end
"""


@dataclass
class Target:
    """What is asked of a server, and what came out, a value for each round. `says` is the status that it must answer."""

    name: str
    url: str
    headers: dict[str, str]
    process: int
    says: int = 200
    script: str | None = None
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Requests a second."""
        return statistics.median(self.rate)


def main() -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--many", type=int, default=MANY, help="conversations in the large database")
    arguments.add_argument("--seeded", help="address of a database that has them already: a million take ten minutes to make")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=8, help="of each measurement")
    given = arguments.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("The load comes from wrk: apt install wrk, or brew install wrk.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(database())
        small = prepared(folder, server, "few", FEW)
        large = given.seeded or prepared(folder, server, "many", given.many)
        storage(folder, large, "reset-password")  # a database that was there before has another
        targets = [*stack.enter_context(ours(folder, small, "1k")), *stack.enter_context(ours(folder, large, "1M"))]
        targets += stack.enter_context(fastapi(folder, large))
        for number in range(given.rounds):
            print(f"round {number + 1} of {given.rounds} ...", file=sys.stderr)
            for target in targets:
                measure(target, given.seconds)
        report(targets, {target.name: memory(target.process) for target in targets})


@contextmanager
def database() -> Iterator[str]:
    """The address of a server, as it comes but for a cache that a machine of 2 cores would have."""
    command = "postgres -c shared_buffers=512MB -c max_connections=200 -c max_wal_size=8GB"
    testcontainers_config.ryuk_disabled = True
    image = f"{os.environ.get('REGISTRY', '')}postgres:18"
    with PostgresContainer(image, username="owner", dbname="desk", driver=None, command=command) as server:
        yield server.get_connection_url()


def prepared(folder: Path, server: str, name: str, conversations: int) -> str:
    """The address of a migrated database with so many conversations."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = server.rsplit("/", 1)[0] + f"/{name}"
    print(f"inventing {conversations} conversations ...", file=sys.stderr)
    storage(folder, url, "migrate")
    storage(folder, url, "seed", str(conversations))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return url


def storage(folder: Path, url: str, *command: str) -> str:
    """One of the storage's commands; what it printed."""
    made = subprocess.run(
        [sys.executable, "-m", "app.storage", *command],
        cwd=folder,
        env=environment(folder, url),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return made.stdout.strip()


def environment(folder: Path, url: str, **more: str) -> dict[str, str]:
    """Of our services."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    for name in ("secret_key", "operator_password"):
        (secrets / name).write_text(PASSWORD)
    names = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "DATA_DIR": str(folder), "DATABASE_URL": url}
    return {**names, "SECRETS_DIR": str(secrets), "LOG_LEVEL": "warning", "LOG_FORMAT": "json", **more}


@contextmanager
def ours(folder: Path, url: str, size: str) -> Iterator[list[Target]]:
    """Our web as its container starts it, and what to ask of it."""
    address = free_address()
    variables = environment(folder, url, LISTEN=address)
    with running([sys.executable, "-m", "app.web"], folder, variables, f"http://{address}/readyz") as process:
        site = f"http://{address}"
        program = {"Authorization": f"Bearer {storage(folder, url, 'token', 'admin', 'benchmark')}"}
        browser = signed_in(site)
        targets = [
            Target(f"inbox page, {size}", f"{site}/?view=all", browser, process),
            Target(f"API list, {size}", f"{site}{API}", program, process),
        ]
        if size == "1M":
            first, last = rows(url, "SELECT min(id), max(id) FROM (SELECT id FROM conversation ORDER BY id DESC LIMIT 20000) s")
            script = write_script(folder, first, last)
            targets += [
                Target("inbox poll, nothing new", f"{site}/inbox?view=all", dict(browser), process, says=304),
                Target("API post", site, program, process, says=201, script=script),
            ]
        yield targets


@contextmanager
def fastapi(folder: Path, url: str) -> Iterator[list[Target]]:
    """The same in FastAPI."""
    python = virtual_environment(folder, RIVAL)
    address = free_address()
    host, port = address.split(":")
    command = [python, "-m", "uvicorn", "main:app", "--host", host, "--port", port, "--workers", str(CORES)]
    command += ["--no-access-log", "--log-level", "warning"]
    asynchronous = re.sub(r"^postgresql(\+\w+)?://", "postgresql+asyncpg://", url)
    variables = {"PATH": os.environ["PATH"], "DATABASE_URL": asynchronous}
    with running(command, RIVAL, variables, f"http://{address}/docs") as process:
        program = {"Authorization": f"Bearer {storage(folder, url, 'token', 'admin', 'benchmark')}"}
        first, last = rows(url, "SELECT min(id), max(id) FROM (SELECT id FROM conversation ORDER BY id DESC LIMIT 20000) s")
        yield [
            Target("FastAPI list, 1M", f"http://{address}{API}", program, process),
            Target("FastAPI post", f"http://{address}", program, process, says=201, script=write_script(folder, first, last)),
        ]


def virtual_environment(folder: Path, what: Path) -> Path:
    """The Python of a virtual environment with the requirements of `what`."""
    print(f"installing what {what.name} needs ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", what / "requirements.txt"]
    subprocess.run([python, *install], check=True)
    return python


def write_script(folder: Path, first: int, last: int) -> str:
    """wrk's script that posts answers to conversations with these numbers."""
    script = folder / "post.lua"
    script.write_text(POST.format(first=first, last=last, api=API))
    return str(script)


def rows(url: str, query: str) -> tuple:
    """The only row."""
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchone()


def free_address() -> str:
    """Where nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def running(command: list, folder: Path, variables: dict[str, str], address: str) -> Iterator[int]:
    """The number of a process that answers at `address`."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=variables, stderr=said)
        try:
            deadline = time.monotonic() + 60
            while not answers(address):
                if time.monotonic() > deadline or process.poll() is not None:
                    said.seek(0)
                    sys.exit(f"{address} does not answer:\n{said.read().decode()}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def answers(address: str) -> bool:
    """Whether it answers well."""
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        return False


def signed_in(site: str) -> dict[str, str]:
    """The cookie of a signed-in browser."""
    browser = requests.Session()
    form = {"login": "admin", "password": PASSWORD}
    form["csrf_token"] = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(f"{site}/login").text)[1]
    browser.post(f"{site}/login", data=form).raise_for_status()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"Cookie": cookie}


def measure(target: Target, seconds: int) -> None:
    """One round."""
    say(target)
    command = ["wrk", f"-t{CORES}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout=30s", "--latency"]
    command += [f"-H{name}: {value}" for name, value in target.headers.items()]
    command += ["-s", target.script] if target.script else []
    output = subprocess.run([*command, target.url], check=True, capture_output=True, text=True).stdout
    if wrong := re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: .*", output):
        sys.exit(f"{target.name}: {wrong[0]}")
    target.rate.append(float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]))
    for share, values in (("50", target.p50), ("99", target.p99)):
        value, unit = re.search(rf"^\s+{share}%\s+([\d.]+)(\w+)\s*$", output, re.MULTILINE).groups()
        values.append(float(value) * UNITS[unit])


def say(target: Target) -> None:
    """End with a line when the server does not answer as it should: else something else is measured."""
    method = "POST" if target.script else "GET"
    url = f"{target.url}{API}/1/messages" if target.script else target.url
    body = {"text": "Спасибо!"} if target.script else None
    if target.says == 304:  # answers were posted since the last round
        target.headers |= {"If-None-Match": requests.get(url, headers=target.headers, timeout=30).headers["ETag"]}
    response = requests.request(method, url, json=body, headers=target.headers, timeout=30)
    if response.status_code != target.says:
        sys.exit(f"{target.name} answers {response.status_code}: {response.text[:300]}")


def memory(process: int) -> float:
    """Megabytes of a process and its children; what they share is counted once."""
    family, found = [process], 0.0
    for parent in family:
        family += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    for member in family:
        found += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text(), re.MULTILINE)[1]) / 1024
    return found


def report(targets: list[Target], megabytes: dict[str, float]) -> None:
    """The table, the goals, and the file."""
    by_name = {target.name: target for target in targets}
    print(f"{'':28}{'requests/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'MB':>6}")
    for target in targets:
        p50, p99 = statistics.median(target.p50), statistics.median(target.p99)
        print(f"{target.name:28}{target.median:11.0f}{p50:9.1f}{p99:9.1f}{megabytes[target.name]:6.0f}")

    def ratio(of: str, to: str) -> float:
        """In the same round, so that what else the machine does meanwhile meets both."""
        pairs = zip(by_name[of].rate, by_name[to].rate, strict=True)
        return statistics.median(one / other for one, other in pairs)

    found = {
        "page_slower": ratio("inbox page, 1k", "inbox page, 1M"),
        "api_slower": ratio("API list, 1k", "API list, 1M"),
        "poll": ratio("inbox poll, nothing new", "inbox page, 1M"),
        "post": ratio("API post", "FastAPI post"),
        "list": ratio("API list, 1M", "FastAPI list, 1M"),
    }
    print(f"\nwith 1M conversations the page is {found['page_slower']:.2f} times slower than with 1k, goal {SLOWER}")
    print(f"with 1M conversations the API is {found['api_slower']:.2f} times slower than with 1k, goal {SLOWER}")
    print(f"a poll that finds nothing new is {found['poll']:.1f} times faster than the page, goal {POLL:.0f}")
    print(f"an answer is posted {found['post']:.2f} times as fast as by FastAPI")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    figures = {
        target.name: {"rate": target.median, "p50": statistics.median(target.p50), "p99": statistics.median(target.p99)}
        for target in targets
    }
    (results / "web.json").write_text(json.dumps(found | {"targets": figures, "megabytes": megabytes}, indent=1) + "\n")
    print(f"web ratio={found['list']:.2f} goal={RATIO:.0f}")


if __name__ == "__main__":
    main()
