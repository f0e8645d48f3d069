"""The bot while everything around it fails: what is lost, doubled or overtaken, and how soon it answers again.

    make chaos-bot                                  ten minutes
    python benchmarks/chaos.py --minutes 1 --seed 7

Two bots (processes), a PostgreSQL (container) and the sandbox, with lines between them that can be cut. Many people write all the
time; a random sequence of faults, which the seed repeats, strikes one after the other. After each: the time from its end to the
first answer, and whether everybody has every answer, once, in order. The exit code is 1 when something was lost, doubled or
overtaken, a bot ended by itself, or an answer took longer than the goal.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import docker
import psycopg
import requests

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
GOAL = 15.0  # seconds from a fault's end to the first answer
PATIENCE = 90.0  # seconds after which what has not come is lost
PEOPLE = 40
CHATS = 4  # group chats, where the bot has to be called by its name
NAME = "@club1 "
RATE = 10.0  # messages a second, of all people together


# ---- lines that can be cut


class Line:
    """A way to a port of this machine, over a port of its own, that can be cut and stopped. At most a few dozen connections."""

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._is_up, self._flows = True, threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        with self._lock:
            self._is_up = False
            pairs = list(self._pairs)
        for pair in pairs:
            _reset(*pair)

    def stop(self) -> None:
        """Let nothing through, and tell nobody."""
        self._flows.clear()

    def mend(self) -> None:
        """Work as before."""
        self._is_up = True
        self._flows.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                if not self._is_up:
                    raise ConnectionError  # as if there were nobody
                far = socket.create_connection(("127.0.0.1", self._target()), 5)
            except OSError:
                _reset(near)
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(pair, source, sink), daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                self._flows.wait()
                sink.sendall(content)
        with self._lock:
            self._pairs.discard(pair)
        for each in pair:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _reset(*connections: socket.socket) -> None:
    for each in connections:
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 60, pause: float = 0.05) -> bool:
    """Whether `what` became true; a server that does not answer says no."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(requests.RequestException, psycopg.Error):
            if what():
                return True
        time.sleep(pause)
    return False


# ---- what can fail


class Database:
    """PostgreSQL in a container of its own."""

    def __init__(self) -> None:
        self._password = secrets.token_hex(8)
        self._container = docker.from_env().containers.run(
            f"{os.environ.get('REGISTRY', '')}postgres:18",
            name=f"chaos-{secrets.token_hex(4)}",
            detach=True,
            environment={"POSTGRES_USER": "owner", "POSTGRES_PASSWORD": self._password, "POSTGRES_DB": "desk"},
            ports={"5432/tcp": ("127.0.0.1", 0)},
        )

    @property
    def port(self) -> int:
        """Where it listens; another one after each start."""
        self._container.reload()
        ports = self._container.ports.get("5432/tcp")
        return int(ports[0]["HostPort"]) if ports else 1

    def url(self, port: int) -> str:
        """Its address over a line."""
        return f"postgresql://owner:{self._password}@127.0.0.1:{port}/desk"

    def run(self, query: str) -> list[Any]:
        """The rows of a query, past all lines."""
        with psycopg.connect(self.url(self.port), autocommit=True, connect_timeout=5) as connection:
            return connection.execute(query).fetchall()

    def kill(self) -> None:
        """SIGKILL."""
        self._container.kill()

    def start(self) -> None:
        """Start, and come back when it answers."""
        self._container.start()
        if not wait_for(lambda: self.run("SELECT 1")):
            raise RuntimeError("PostgreSQL does not start again")

    def remove(self) -> None:
        """With all it holds."""
        self._container.remove(force=True, v=True)


class Process:
    """One of the project's services."""

    def __init__(self, name: str, folder: Path, *arguments: str, **environment: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._command = [sys.executable, "-m", f"app.{name.rstrip('0123456789')}", *arguments]
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",  # what is left in the project's folder would be copied into every new project
            "TMPDIR": str(self._folder),
            "DATA_DIR": str(self._folder),
            "SECRETS_DIR": str(folder / "secrets"),
            **environment,
        }
        self.log = self._folder / "log"
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stderr=log, stdout=log, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        """To it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> int:
        """The exit code, at its end."""
        return self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None


class Stack:
    """All of it."""

    def __init__(self, exits: ExitStack, folder: Path) -> None:
        self.database = Database()
        exits.callback(self.database.remove)
        (folder / "secrets").mkdir()
        for name in ("vk_token", "operator_password"):
            (folder / "secrets" / name).write_text(secrets.token_hex(16))  # any token is good for the sandbox
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.sandbox = Process("sandbox", folder, LISTEN=f"127.0.0.1:{port}", APP_ENV="development")
        exits.callback(self.sandbox.kill)
        self.to_database, self.to_vk = Line(lambda: self.database.port), Line(lambda: port)
        if not wait_for(lambda: self.database.run("SELECT 1")) or not wait_for(self.is_ready):
            sys.exit(f"the database or the sandbox does not start; see {folder}")
        address = self.database.url(self.to_database.port)
        if Process("storage", folder, "migrate", DATABASE_URL=address).wait():
            sys.exit(f"the database cannot be migrated; see {folder}/storage/log")
        self.bots = [
            Process(f"bot{number}", folder, DATABASE_URL=address, VK_API_URL=f"http://127.0.0.1:{self.to_vk.port}")
            for number in (1, 2)
        ]
        for bot in self.bots:
            exits.callback(bot.kill)

    def is_ready(self) -> bool:
        """Whether the sandbox answers."""
        return requests.get(f"{self.url}/readyz", timeout=2).ok

    def control(self, what: str, **body: Any) -> Any:
        """The sandbox's control API. Raises `requests.RequestException` while it is down."""
        answer = requests.post(f"{self.url}/control/{what}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def clear(self) -> None:
        """End all faults of the sandbox."""
        requests.delete(f"{self.url}/control/faults", timeout=10).raise_for_status()


# ---- people


class People:
    """Who writes, what they must be answered, and what they have been."""

    def __init__(self, stack: Stack, chance: random.Random) -> None:
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(PROJECT))
        from app.bot.texts import load_texts  # noqa: PLC0415 - of the project, which is not on the path before

        questions = load_texts("ru").questions
        self._answers = {question.words[0]: question.answer for question in questions}
        self._stack, self._chance = stack, chance
        self._ids = [int(stack.control("people", first_name=f"Человек {n}")["id"]) for n in range(PEOPLE)]
        self._members = {int(stack.control("chats", title=f"Чат {n}", members=[n])["id"]): n for n in self._ids[:CHATS]}
        self._ids += self._members
        self.refusing = int(stack.control("people", first_name="Отказ")["id"])
        self._dialogs: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self._writing = threading.Event()
        threading.Thread(target=self._write_for_ever, daemon=True).start()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """People write, at random times, as long as this lasts."""
        self._writing.set()
        try:
            yield
        finally:
            self._writing.clear()
            time.sleep(0.2)  # for the message that is under way

    def _write_for_ever(self) -> None:
        chance = random.Random(self._chance.random())  # noqa: S311 - it must be repeatable, not secret
        while True:
            self._writing.wait()
            with contextlib.suppress(requests.RequestException):
                self.write(chance.choice(self._ids), chance)
            time.sleep(chance.expovariate(RATE))

    def write(self, peer: int, chance: random.Random | None = None) -> int:
        """One message; its number in the dialog. What the sandbox did not confirm may be there all the same."""
        text = (chance or self._chance).choice(list(self._answers))
        member = self._members.get(peer)
        message = {"from_id": peer, "text": text} if member is None else {"from_id": member, "peer_id": peer, "text": NAME + text}
        return int(self._stack.control("messages", **message)["conversation_message_id"])

    def first_answer(self) -> float | None:
        """Seconds from now to the answer to a message that is written now; None when there is none."""
        started, person = time.monotonic(), self._ids[0]
        written: list[int] = []

        def is_answered() -> bool:
            if not written:
                written.append(self.write(person))
            items = self._read(person, written[0])
            return any(item["out"] for item in items)

        return time.monotonic() - started if wait_for(is_answered, PATIENCE) else None

    def _read(self, person: int, after: int) -> list[dict[str, Any]]:
        answer = requests.get(f"{self._stack.url}/control/messages", params={"peer_id": person, "after": after}, timeout=10)
        return list(answer.json()["items"])

    def audit(self, forgiven: int) -> dict[str, int]:
        """Wait until everybody is answered, then count, over all that was ever written: messages, lost, doubled, overtaken.

        `forgiven` is how many answers to the refusing person could not be delivered.
        """
        waiting = {*self._ids, self.refusing}

        def all_answered() -> bool:
            for person in sorted(waiting):
                dialog = self._dialogs[person]
                dialog.extend(self._read(person, dialog[-1]["conversation_message_id"] if dialog else 0))
                written = len(self._due(dialog)) - (forgiven if person == self.refusing else 0)
                if sum(item["out"] for item in dialog) >= written:
                    waiting.discard(person)
            return not waiting

        wait_for(all_answered, PATIENCE, 0.2)
        time.sleep(1)  # for what comes twice
        waiting = {*self._ids, self.refusing}
        all_answered()
        found = Counter(messages=0, lost=-forgiven, doubled=0, overtaken=0)
        for person, dialog in self._dialogs.items():
            due = self._due(dialog)
            given = [item["text"] for item in dialog if item["out"]]
            found["messages"] += len(due)
            found["lost"] += (Counter(due) - Counter(given)).total()
            found["doubled"] += (Counter(given) - Counter(due)).total()
            same_order = person == self.refusing or due == given
            found["overtaken"] += not same_order and Counter(due) == Counter(given)
        return dict(found)

    def _due(self, dialog: list[dict[str, Any]]) -> list[str]:
        """The answers to what was written; the invitation into a group chat says nothing."""
        return [self._answers[item["text"].removeprefix(NAME)] for item in dialog if item["text"] and not item["out"]]


# ---- faults


class Chaos:
    """What can be done to the stack: each is a context in which it is struck. All randomness comes from the seed."""

    def __init__(self, stack: Stack, people: People, chance: random.Random) -> None:
        self._stack, self._people, self._chance = stack, people, chance
        self.forgiven = 0  # answers that could not be delivered, as the person refuses them
        self.missed = 0  # faults that were there to be met, and were not
        self.essential: dict[str, Callable[[], None]] = {
            "kill a bot": self._kill_a_bot,
            "kill both bots": self._kill_both_bots,
            "kill the database": self._kill_database,
            "kill the sandbox": self._kill_sandbox,
            "cut bot - database": lambda: self._line(stack.to_database.cut, stack.to_database),
            "cut bot - VK": lambda: self._line(stack.to_vk.cut, stack.to_vk),
            "another leader": self._depose,
            "answer lost (execute)": lambda: self._fault(fault="lost", method="execute"),
        }
        self.further: dict[str, Callable[[], None]] = {
            "silence bot - database": lambda: self._line(stack.to_database.stop, stack.to_database),
            "silence bot - VK": lambda: self._line(stack.to_vk.stop, stack.to_vk),
            "freeze the leader": self._freeze,
            "history forgotten": self._forget,
            "901, then allowed": self._refuse,
        }
        for kind in ("http", "html", "reset", "hang", "lost"):
            for method in ("execute", "longpoll", None):
                if (kind, method) != ("lost", "execute"):
                    self._add(f"{kind} ({method or 'every method'})", fault=kind, method=method)
        for code in (1, 5, 6, 9, 10, 14, 29):
            self._add(f"error {code} (execute)", fault="error", code=code, method="execute")
        for code in (1, 6, 10):
            self._add(f"error {code} inside execute", fault="error", code=code, method="messages.send", times=15)
        self._add("unexplained false inside execute", fault="unexplained", method="messages.send", times=15)
        for code in (1, 2, 3, 9):
            self._add(f"failed {code}", fault="failed", code=code)
        for kind in ("repeat", "malformed"):
            self._add(kind, fault=kind, times=20)

    def sequence(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """First each of the essential ones, then the rest, then any of them again and again; each time in another order."""
        first, rest = list(self.essential.items()), list(self.further.items())
        self._chance.shuffle(first)
        self._chance.shuffle(rest)
        yield from chain(first, rest)
        while True:
            yield self._chance.choice(first + rest)

    def _add(self, name: str, **fault: Any) -> None:
        self.further[name] = lambda: self._fault(**fault)

    def _last(self) -> None:
        time.sleep(self._chance.uniform(1, 5))

    def _kill_a_bot(self) -> None:
        bot = self._chance.choice(self._stack.bots)
        bot.kill()
        self._last()
        bot.start()

    def _kill_both_bots(self) -> None:
        for bot in self._stack.bots:
            bot.kill()
        self._last()
        for bot in self._stack.bots:
            bot.start()

    def _kill_database(self) -> None:
        self._stack.database.kill()
        self._last()
        self._stack.database.start()

    def _kill_sandbox(self) -> None:
        self._stack.sandbox.kill()
        self._last()
        self._stack.sandbox.start()
        wait_for(self._stack.is_ready)

    def _line(self, strike: Callable[[], None], line: Line) -> None:
        strike()
        self._last()
        line.mend()

    def _depose(self) -> None:
        """Take the leader its lock, as when its connection to the database ends."""
        self._stack.database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
        )
        self._last()

    def _freeze(self) -> None:
        """A leader that is as if dead, loses its lock, and wakes up when another has it."""
        bot = self._chance.choice(self._stack.bots)
        bot.signal(signal.SIGSTOP)
        self._depose()
        self._last()
        bot.signal(signal.SIGCONT)

    def _fault(self, **fault: Any) -> None:
        self._stack.control("faults", **fault)
        self._last()
        self.missed += not wait_for(self._has_struck, GOAL)
        self._stack.clear()

    def _has_struck(self) -> bool:
        faults = requests.get(f"{self._stack.url}/control/faults", timeout=10).json()["items"]
        return any(fault["hits"] for fault in faults)

    def _forget(self) -> None:
        """Nobody polls while VK forgets."""
        self._stack.to_vk.cut()
        self._last()
        self._stack.control("faults", fault="forget")
        self._stack.to_vk.mend()

    def _refuse(self) -> None:
        refusing = self._people.refusing
        self._stack.control("faults", fault="error", code=901, peer_id=refusing)
        self._people.write(refusing)
        self.forgiven += 1
        self.missed += not wait_for(self._has_struck, GOAL)
        self._stack.clear()
        self._stack.control(f"people/{refusing}", allowed=False)
        self._stack.control(f"people/{refusing}", allowed=True)
        self._people.write(refusing)


# ---- the run


def main() -> int:
    """Run and report; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10, help="how long faults strike (10)")
    options.add_argument("--seed", type=int, default=None, help="repeat the faults of another run")
    given = options.parse_args()
    seed = secrets.randbelow(10_000) if given.seed is None else given.seed
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"chaos seed={seed} minutes={given.minutes:g} commit={commit.stdout.strip()}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with ExitStack() as exits:
        rounds, problems, found = run(Stack(exits, folder), random.Random(seed), given.minutes * 60)  # noqa: S311 - as above
    report(rounds, found)
    for problem in problems:
        print(problem)
    bad = found["lost"] or found["doubled"] or found["overtaken"] or problems
    worst = max((seconds for times in rounds.values() for seconds in times), default=0.0)
    if bad or worst > GOAL:
        print(f"what the services said: {folder}")
    else:
        print("nothing was lost, doubled or overtaken")
        shutil.rmtree(folder)
    print(f"chaos worst={worst:.1f} goal={GOAL:g} lost={found['lost']} doubled={found['doubled']} overtaken={found['overtaken']}")
    return 1 if bad or worst > GOAL else 0


def run(stack: Stack, chance: random.Random, seconds: float) -> tuple[dict[str, list[float]], list[str], dict[str, int]]:
    """Let faults strike for so long: the seconds to the first answer after each, what went wrong, and what was counted."""
    people = People(stack, chance)
    chaos = Chaos(stack, people, chance)
    rounds: dict[str, list[float]] = defaultdict(list)
    problems: list[str] = []
    before = people.audit(0)
    if people.first_answer() is None:
        sys.exit("the bot does not answer even when nothing fails")
    end = time.monotonic() + seconds
    for name, strike in chaos.sequence():
        with people.writing():
            time.sleep(chance.uniform(0.5, 1.5))
            strike()
            answered = people.first_answer()
        rounds[name].append(PATIENCE if answered is None else answered)
        found = people.audit(chaos.forgiven)
        new = {kind: found[kind] - before[kind] for kind in ("lost", "doubled", "overtaken") if found[kind] != before[kind]}
        print(f"{name:32} first answer {rounds[name][-1]:5.1f} s, {found['messages']} messages {new or ''}", flush=True)
        problems += [f"{name}: {new}"] if new else []
        before = found
        if chaos.missed:
            problems.append(f"{name}: it has not struck anything")
            chaos.missed = 0
        for bot in stack.bots:
            if not bot.is_running:
                problems.append(f"{name}: a bot has ended by itself; see {bot.log}")
                bot.start()
        if time.monotonic() > end:
            break
    return rounds, problems, before


def report(rounds: dict[str, list[float]], found: dict[str, int]) -> None:
    """The table."""
    print(f"\n{'fault':32} {'times':>5} {'median, s':>10} {'worst, s':>9}   from its end to the first answer")
    for name, times in sorted(rounds.items(), key=lambda item: -max(item[1])):
        print(
            f"{name:32} {len(times):5} {median(times):10.1f} {max(times):9.1f}{'' if max(times) <= GOAL else '   over the goal'}"
        )
    print(", ".join(f"{kind} {number}" for kind, number in found.items()))


if __name__ == "__main__":
    sys.exit(main())
