"""Fifty operators at work while people write two hundred messages a second.

    make load-web                    five minutes of it; DURATION=60 for a minute

On PostgreSQL in a container. Operators are played by locust over HTTP, as browsers do it: they sign in, their lists and threads
ask for news, they open, answer, take, note, close and search. Messages are received as the bot's answer loop does it, by
`desk.receive`'s ledger a few at a time, without VK and its sandbox, whose work would be measured too. Ends with one line: the
errors, which there must be none of, and how long 99 of 100 requests took at most.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from web import PASSWORD, PROJECT, database, environment, free_address, memory, prepared, running, virtual_environment

sys.path.insert(0, str(PROJECT))

from app.storage import desk
from app.storage.engine import make_engine
from app.storage.migrate import hasher
from app.storage.models import Conversation, Operator
from sqlalchemy import Engine, make_url, select
from sqlalchemy.orm import Session

LOCUST = Path(__file__).parent / "locust_desk"
TEXTS = ["Здравствуйте! Где мой заказ?", "А раньше никак?", "Спасибо!", "Хочу вернуть куртку, не подошёл размер."]
TICK = 0.05  # seconds between two transactions with messages


def main() -> None:
    """Play, and say how it went."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--duration", type=int, default=300, help="seconds")
    arguments.add_argument("--operators", type=int, default=50)
    arguments.add_argument("--messages", type=int, default=200, help="a second")
    arguments.add_argument("--conversations", type=int, default=10_000)
    given = arguments.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = prepared(folder, stack.enter_context(database()), "load", given.conversations)
        engine = make_engine(make_url(url))
        stack.callback(engine.dispose)
        hire(engine, given.operators)
        locust = virtual_environment(folder, LOCUST)
        address = free_address()
        variables = environment(folder, url, LISTEN=address)
        web = [sys.executable, "-m", "app.web"]
        process = stack.enter_context(running(web, folder, variables, f"http://{address}/readyz"))
        people = People(engine, given.messages)
        people.start()
        stack.callback(people.stop)
        options = ["--headless", "--users", str(given.operators), "--spawn-rate", "5", "--run-time", f"{given.duration}s"]
        options += ["--locustfile", LOCUST / "locustfile.py", "--host", f"http://{address}", "--csv", folder / "load"]
        subprocess.run(
            [locust, "-m", "locust", *options, "--only-summary"],
            env={"PATH": os.environ["PATH"], "PASSWORD": PASSWORD},
            cwd=folder,
            check=False,  # it fails when there were errors, which are counted below
        )
        used = memory(process)
        people.stop()
        report(folder / "load_stats.csv", people, used)


def hire(engine: Engine, count: int) -> None:
    """As many operators, all with the same password."""
    password = hasher.hash(PASSWORD)
    with Session(engine) as session, session.begin():
        for number in range(1, count + 1):
            session.add(Operator(login=f"operator{number}", name=f"Оператор {number}", password_hash=password))


class People(threading.Thread):
    """Write so many messages a second, in turns, until they are stopped."""

    def __init__(self, engine: Engine, rate: int) -> None:
        super().__init__(daemon=True)
        self._engine = engine
        self._rate = rate
        self._over = threading.Event()
        self.written = 0
        self.seconds = 0.0
        self.problem: str | None = None

    def run(self) -> None:
        """Catch up with what should have been written by now, every few milliseconds."""
        with Session(self._engine) as session:
            numbers = session.scalars(select(Conversation.id)).all()
        began = time.monotonic()
        try:
            while not self._over.wait(TICK):
                due = int((time.monotonic() - began) * self._rate) - self.written
                self._write(random.sample(numbers, min(due, 100)))
        except Exception as error:
            self.problem = repr(error)
        self.seconds = time.monotonic() - began

    def _write(self, numbers: list[int]) -> None:
        with Session(self._engine) as session, session.begin():
            ledger = desk.Ledger(session)
            query = select(Conversation).where(Conversation.id.in_(numbers)).order_by(Conversation.id)
            for conversation in session.scalars(query.with_for_update()):
                desk.hand_over(conversation)
                ledger.receive(conversation, random.choice(TEXTS))  # noqa: S311
            ledger.write()
        self.written += len(numbers)

    def stop(self) -> None:
        """Write no more."""
        self._over.set()
        self.join()


def report(stats: Path, people: People, megabytes: float) -> None:
    """How each kind of request went, and the line."""
    with stats.open() as file:
        rows = list(csv.DictReader(file))
    print(f"{'':14}{'requests':>10}{'failed':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for row in rows:
        print(f"{row['Name']:14}{row['Request Count']:>10}{row['Failure Count']:>8}{row['50%']:>8}{row['99%']:>8}")
    if people.problem:
        sys.exit(f"no more messages were received: {people.problem}")
    total, rate = rows[-1], people.written / people.seconds
    print(f"{rate:.0f} messages a second were received; the web used {megabytes:.0f} MB")
    print(f"operators errors={total['Failure Count']} p99={total['99%']}ms goal=0 errors")
    sys.exit(total["Failure Count"] != "0")


if __name__ == "__main__":
    main()
