"""The reports' dashboard of a year at 100 thousand, 1 and 5 million messages, beside plain SQL and pandas on the same rows.

    make bench-reports

On PostgreSQL in a container, with messages spread over a year in conversations of ten. In one run, for each size:
(a) SQL over the raw messages: counts by day and author, median and 90th percentile of the response time by day;
(b) pandas, which reads the same rows and counts the same (in an environment of its own, by uv; up to 1 million unless --all);
(c) ours: all of the dashboard's charts and main figures for the year, from ready sums;
and of ours how long it takes to count a thousand new messages, and to count everything anew, and what the sums take on disk.
Then the service itself at the middle size: memory at most, while it answers for all charts and pictures and makes the PDF and a
sheet of 100,000 rows. Writes a table to the screen and the same figures to benchmarks/results/reports.json. Look at the ratios:
the figures are this machine's. The goal: the dashboard takes at most 1.5 times as long at 5 million messages as at 100 thousand.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import requests
from sqlalchemy import Engine, text
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
sys.path.insert(0, str(PROJECT))
SIZES = (100_000, 1_000_000, 5_000_000)
PANDAS_UP_TO = 1_000_000
TIMES = 20
GOAL, MEMORY_GOAL = 1.5, 250
TOKEN = "a-token-for-the-benchmark"  # noqa: S105

FILL = """
SELECT setseed(0.5);
ALTER TABLE message DISABLE TRIGGER USER;
INSERT INTO conversation
  (peer_id, status, topic, unread, form, last_message_at, last_message_text, opened_at, closed_at, created_at)
SELECT n, 'closed', (ARRAY['order', 'return', 'delivery', 'payment', NULL])[1 + n % 5], 0, '{{}}', begun, '', begun,
       begun + random() * interval '2 days', begun
FROM (SELECT n, now() - random() * interval '364 days' AS begun FROM generate_series(1, {conversations}) n) c;
INSERT INTO message (conversation_id, direction, author, operator_id, text, attachments, created_at)
SELECT c.id, CASE WHEN k IN (0, 3, 5, 8) THEN 'in' ELSE 'out' END,
       CASE WHEN k IN (0, 3, 5, 8) THEN 'person' WHEN k IN (1, 6) THEN 'bot' ELSE 'operator' END,
       CASE WHEN k IN (2, 4, 7, 9) THEN 1 + (c.id + k) % 8 END, 'Здравствуйте! Когда придёт мой заказ?', '[]',
       c.created_at + k * (5 + 40 * exp(2 * sin(c.id * 7.7 + k / 10))) * interval '10 seconds'
FROM conversation c, generate_series(0, 9) k ORDER BY c.id, k;
ALTER TABLE message ENABLE TRIGGER USER;
ANALYZE;
"""
COUNTS = """
SELECT date_trunc('day', created_at) AS day, author, count(*) FROM message
WHERE created_at >= now() - interval '365 days' GROUP BY 1, 2
"""
WAITS = """
WITH lines AS (
  SELECT conversation_id, author, created_at,
         lead(author) OVER w AS next_author,
         count(*) FILTER (WHERE author = 'operator') OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS turn
  FROM message WHERE created_at >= now() - interval '365 days' WINDOW w AS (PARTITION BY conversation_id ORDER BY id)
), waits AS (
  SELECT max(created_at) FILTER (WHERE author = 'operator') AS answered,
         coalesce(max(created_at) FILTER (WHERE author = 'person' AND next_author = 'bot'),
                  min(created_at) FILTER (WHERE author = 'person')) AS asked
  FROM lines GROUP BY conversation_id, turn
)
SELECT date_trunc('day', answered), percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM answered - asked))
FROM waits WHERE asked IS NOT NULL AND answered IS NOT NULL GROUP BY 1
"""
NEW = """
INSERT INTO message (conversation_id, direction, author, operator_id, text, attachments, created_at)
SELECT id, 'out', 'operator', 1, '', '[]', now() FROM conversation ORDER BY random() LIMIT 1000
"""
PANDAS = """
import resource, sys, time
import pandas, sqlalchemy
began = time.perf_counter()
engine = sqlalchemy.create_engine(sys.argv[1].replace("postgresql://", "postgresql+psycopg://"))
frame = pandas.read_sql("SELECT id, conversation_id, author, created_at FROM message", engine)
frame = frame.sort_values(["conversation_id", "id"])
frame["day"] = frame.created_at.dt.floor("D")
counts = frame.groupby(["day", "author"]).size()
by = frame.groupby("conversation_id")
frame["next_author"] = by.author.shift(-1)
operator = frame.author.eq("operator")
frame["turn"] = operator.groupby(frame.conversation_id).cumsum() - operator
keys = [frame.conversation_id, frame.turn]
person = frame.created_at.where(frame.author.eq("person"))
handed = person.where(frame.next_author.eq("bot")).groupby(keys).max()
asked = handed.fillna(person.groupby(keys).min())
answered = frame.created_at.where(operator).groupby(keys).max()
waits = pandas.DataFrame({"answered": answered, "wait": (answered - asked).dt.total_seconds()}).dropna()
quantiles = waits.groupby(waits.answered.dt.floor("D")).wait.quantile([0.5, 0.9])
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    """Measure, and report."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of messages, from small to large")
    arguments.add_argument("--all", action="store_true", help="pandas with the largest, too: gigabytes and minutes")
    given = arguments.parse_args()
    testcontainers_config.ryuk_disabled = True
    results: dict[int, dict[str, float]] = {}
    service: dict[str, float] = {}
    command = "postgres -c shared_buffers=512MB -c max_wal_size=8GB -c work_mem=64MB"
    image = f"{os.environ.get('REGISTRY', '')}postgres:18"
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresContainer(image, username="owner", dbname="desk", driver=None, command=command) as server,
    ):
        for size in given.sizes:
            url = prepared(server.get_connection_url(), size)
            results[size] = measured(url, with_pandas=given.all or size <= PANDAS_UP_TO)
            if size == given.sizes[len(given.sizes) // 2]:
                service = in_service(Path(folder), url)
    report(results, service)


def prepared(server: str, size: int) -> str:
    """The address of a migrated database with so many messages of a year."""
    from app.settings import Settings  # noqa: PLC0415
    from app.storage.migrate import migrate  # noqa: PLC0415

    name = f"desk_{size}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = server.rsplit("/", 1)[0] + f"/{name}"
    say(f"writing {size:,} messages")
    migrate(Settings(_env_file=None, database_url=url, operator_password=TOKEN))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO operator (login, name, password_hash, role, active, session_version, created_at)"
            " SELECT 'o' || n, 'Operator ' || n, '', 'operator', true, 1, now() FROM generate_series(1, 8) n"
        )
        connection.execute(FILL.format(conversations=size // 10))
        connection.execute("VACUUM")
    return url


def measured(url: str, *, with_pandas: bool) -> dict[str, float]:
    """All three ways on one database; seconds and megabytes."""
    from app.reports import rollup  # noqa: PLC0415
    from app.storage.engine import make_engine  # noqa: PLC0415
    from sqlalchemy import make_url  # noqa: PLC0415

    engine, zone = make_engine(make_url(url)), ZoneInfo("UTC")
    found: dict[str, float] = {}
    say("counting everything anew")
    found["rebuild"] = once(lambda: rollup.rebuild(engine, zone))
    with engine.begin() as connection:
        connection.execute(text("ANALYZE figure"))
    say("the dashboard")
    seconds = sorted(once(lambda: dashboard(engine)) for _ in range(TIMES))
    found["ours_p50"], found["ours_p90"] = statistics.median(seconds), seconds[int(0.9 * TIMES)]
    with psycopg.connect(url) as connection:
        say("plain SQL")
        raw = [once(lambda: [connection.execute(query).fetchall() for query in (COUNTS, WAITS)]) for _ in range(3)]
        found["sql_p50"] = statistics.median(raw)
        sizes = {
            name: connection.execute("SELECT pg_total_relation_size(%s)", [name]).fetchone() for name in ("message", "figure")
        }
        found |= {f"{name}_mb": row[0] / 1e6 for name, row in sizes.items() if row}
    if with_pandas:
        say("pandas")
        words = ["run", "--no-project", "--quiet", "--python", sys.executable]
        words += ["--with", "pandas", "--with", "sqlalchemy", "--with", "psycopg[binary]", "python", "-c", PANDAS, url]
        done = subprocess.run([Path(sys.executable).with_name("uv"), *words], capture_output=True, text=True, check=True)
        found["pandas"], found["pandas_mb"] = map(float, done.stdout.split())
    say("a thousand new messages")
    catching_up = []
    for _ in range(5):
        with psycopg.connect(url) as connection:
            connection.execute(NEW)
        catching_up.append(once(lambda: rollup.catch_up(engine, zone)))
    found["catch_up"] = statistics.median(catching_up)
    engine.dispose()
    return found


def dashboard(engine: Engine) -> None:
    """What the page and all of its charts read and compute for a year, as a manager sees it, compared with the year before."""
    from app.reports import board, headline  # noqa: PLC0415
    from app.reports.state import State  # noqa: PLC0415
    from app.settings import Settings  # noqa: PLC0415
    from app.storage.models import now  # noqa: PLC0415
    from flask import Flask  # noqa: PLC0415
    from flask_babel import Babel  # noqa: PLC0415

    app = Flask("bench")
    Babel(app)
    state = State.until(now(), 365, Settings(_env_file=None), manager=True)
    with app.app_context(), engine.connect() as connection:
        headline.tiles(connection, state)
        for chart in board.charts(state):
            chart.draw(board.table(chart, connection, state))


def in_service(folder: Path, url: str) -> dict[str, float]:
    """The reporting service as its container runs it: what it takes for the page, and memory at most with files and pictures."""
    say("the service")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "secrets").mkdir()
    (folder / "secrets" / "reports_token").write_text(TOKEN)
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "DATABASE_URL": url, "LISTEN": address}
    variables |= {"DATA_DIR": str(folder / "data"), "SECRETS_DIR": str(folder / "secrets"), "LOG_LEVEL": "warning"}
    site = requests.Session()
    site.headers.update({"Authorization": f"Bearer {TOKEN}", "X-Role": "manager", "X-Operator": "1", "X-Language": "ru"})
    with watched([sys.executable, "-m", "app.reports"], folder, variables) as memory:
        wait(lambda: ready(f"http://{address}/readyz"))
        page = statistics.median(once(lambda: get(site, f"http://{address}/?days=365")) for _ in range(TIMES))
        for name in ("messages", "heat", "response", "resolution", "requests", "backlog", "topics", "operators", "people"):
            for kind in ("json", "png"):
                get(site, f"http://{address}/charts/{name}.{kind}?days=365")
        last = date.today()
        # a conversation has ten messages: so many days hold about a hundred thousand
        days = {"report.pdf": 364, "messages.xlsx": 36}
        for kind, length in days.items():
            order = {"kind": kind, "first": (last - timedelta(days=length)).isoformat(), "last": last.isoformat()}
            site.post(f"http://{address}/exports", data=order, allow_redirects=False, timeout=60).raise_for_status()
        wait(lambda: get(site, f"http://{address}/exports").text.count("/file") == len(days), 600)
        return {"page": page, "memory_mb": memory()}


def get(site: requests.Session, url: str) -> requests.Response:
    """What is there; raises when it is not."""
    answer = site.get(url, timeout=120)
    answer.raise_for_status()
    return answer


def ready(url: str) -> bool:
    """Whether it is."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def wait(condition: Callable[[], bool], limit: float = 120) -> None:
    """Return when it is so; raises `TimeoutError` after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.5)


@contextmanager
def watched(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator[Callable[[], float]]:
    """A process with its children; what it gives says how many megabytes they had at most, shared ones counted once."""
    process = subprocess.Popen(command, cwd=folder, env=variables, start_new_session=True)
    most, over = 0.0, threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.1):
            most = max(most, sum(proportional(pid) for pid in of_session(process.pid)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most
    finally:
        over.set()
        looking.join()
        process.terminate()
        process.wait(30)


def of_session(leader: int) -> list[int]:
    """The processes that belong to it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(stat.parent.name))
    return found


def proportional(pid: int) -> float:
    """A process's memory in megabytes, its part of what it shares."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def once(work: Callable[[], Any]) -> float:
    """How many seconds it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def say(what: str) -> None:
    """What is being done."""
    print(f"{what} ...", file=sys.stderr)


def report(results: dict[int, dict[str, float]], service: dict[str, float]) -> None:
    """The table, the file, and the line that a machine reads."""
    rows = (
        ("ours: the dashboard of a year, median, s", "ours_p50"),
        ("ours: the same, 90th percentile, s", "ours_p90"),
        ("plain SQL: two of its charts, s", "sql_p50"),
        ("pandas: the same two, s", "pandas"),
        ("pandas: memory, MB", "pandas_mb"),
        ("ours: 1,000 new messages are counted, s", "catch_up"),
        ("ours: everything counted anew, s", "rebuild"),
        ("messages on disk, MB", "message_mb"),
        ("ready sums on disk, MB", "figure_mb"),
    )
    print(f"{'':44}" + "".join(f"{size:>12,}" for size in results))
    for title, name in rows:
        print(f"{title:44}" + "".join(f"{found[name]:>12.3f}" if name in found else f"{'–':>12}" for found in results.values()))
    print(
        f"the service: page of a year {service['page']:.3f} s; memory at most {service['memory_mb']:.0f} MB (goal {MEMORY_GOAL})"
    )
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")
    first, *_, last = results.values()
    ratio = last["ours_p50"] / first["ours_p50"]
    file = ROOT / "benchmarks" / "results" / "reports.json"
    file.write_text(json.dumps({"sizes": results, "service": service, "ratio": ratio}, indent=2) + "\n")
    print(f"reports ratio={ratio:.2f} goal={GOAL}")


if __name__ == "__main__":
    main()
