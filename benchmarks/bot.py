"""How fast the bot answers within VK's limits, beside the loop that VK's bots are usually made of.

    make bench-bot

Against the sandbox with 20 requests a second and 50 ms a call; the bot works on PostgreSQL in a container. In one run: the loop
`for event in longpoll.listen(): messages.send`, then ours, first with many messages at one moment, then with one a second.
Writes a table to the screen, and the same figures to benchmarks/results/bot.json. All times are those at which the sandbox's
file changed, so what the sandbox itself needs counts against the bot.
"""

import argparse
import itertools
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import requests
from sqlalchemy.orm import Session
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config
from vk_api import VkApiGroup
from vk_api.bot_longpoll import VkBotLongPoll

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "{{cookiecutter.project_slug}}"
sys.path.insert(0, str(PROJECT))

from app.bot.texts import load_texts  # noqa: E402
from app.bot.vk import API_HOST, API_VERSION, Elsewhere  # noqa: E402
from app.sandbox import store  # noqa: E402
from app.settings import Settings  # noqa: E402

CEILING = 500  # messages a second that VK lets a community send: 20 requests of 25
LATENCY = 50  # milliseconds that the sandbox adds to each call, as a network would
GOAL = 0.95
GROUP = 1
QUESTION = load_texts("ru").questions[0].words[0]  # whoever asks it is answered, and not handed over
TOKEN = "a-token"  # noqa: S105 - the sandbox takes any


def main() -> None:
    """Measure both, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=10_000, help="of which a long poll remembers no more than so many")
    arguments.add_argument("--people", type=int, default=500)
    arguments.add_argument("--plain", type=int, default=200, help="messages for the plain loop")
    arguments.add_argument("--idle", type=int, default=60, help="seconds with one message each")
    given = arguments.parse_args()
    testcontainers_config.ryuk_disabled = True
    with tempfile.TemporaryDirectory() as folder:
        with Sandbox(Path(folder) / "plain") as sandbox:
            plain = {"messages": given.plain, "messages_per_second": plain_loop(sandbox, given.plain), **sandbox.counted()}
        with Sandbox(Path(folder) / "ours") as sandbox, database(sandbox.folder) as url, bot(sandbox, url) as process:
            ours = many_at_once(sandbox, given.messages, given.people, process.pid)
            ours |= checked(sandbox, url)
            ours |= one_a_second(sandbox, given.idle)
            ours["memory_mb"] = memory(process.pid)
    report(plain, ours)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a service that keeps everything in `folder`."""
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    (secrets / "vk_token").write_text(TOKEN)
    (secrets / "operator_password").write_text("a-password")
    names = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "DATA_DIR": str(folder), "TMPDIR": str(folder)}
    return {**names, "SECRETS_DIR": str(secrets), "VK_GROUP_ID": str(GROUP), "LOG_LEVEL": "warning", **more}


class Sandbox:
    """A sandbox in a process of its own; what happens in it is seen in its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> "Sandbox":
        variables = environment(self.folder, LISTEN=self.address)
        with (self.folder / "sandbox.log").open("w") as output:
            self.process = subprocess.Popen([sys.executable, "-m", "app.sandbox"], cwd=self.folder, env=variables, stderr=output)
        wait_for(self._ready)
        self.post("settings", requests_per_second=20, latency_ms=LATENCY)
        self.file = sqlite3.connect(f"file:{self.folder}/sandbox.db?mode=ro", uri=True, isolation_level=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.process.terminate()
        self.process.wait(20)

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=1).ok
        except requests.RequestException:
            return False

    def post(self, what: str, **body: object) -> None:
        """One request to the control API."""
        requests.post(f"{self.url}/control/{what}", json=body, timeout=30).raise_for_status()

    def fill(self, messages: int, people: int) -> float:
        """Let `people` write `messages` in turns, available all at one moment, which is returned."""
        engine = store.open_store(Settings(_env_file=None, data_dir=self.folder))
        with Session(engine) as session, session.begin():
            writers = [store.add_person(session, f"Имя{number}", "Фамилия") for number in range(people)]
            last = writers[(messages - 1) % people].id
            for number, person in zip(range(messages - 1), itertools.cycle(writers), strict=False):
                person.allowed = True
                message = store.add_message(session, person, person.id, f"{QUESTION} {number}")
                shape = store.message_object(session, message, f"{self.url}/")
                store.add_event(session, "message_new", store.new_message_object(shape, "ru"))
        available = time.monotonic()
        engine.dispose()
        # the last one comes through the API, which wakes the poll
        self.post("messages", from_id=last, text=f"{QUESTION} {messages - 1}")
        return available

    def dialogs(self) -> dict[int, list[tuple[bool, int]]]:
        """By person: whether a message is the community's, and its `random_id`, in order."""
        dialogs = defaultdict(list)
        for peer, sender, random_id in self.file.execute(
            "SELECT peer_id, from_id, random_id FROM message ORDER BY peer_id, cmid"
        ):
            dialogs[peer].append((sender < 0, random_id))
        return dialogs

    def counted(self) -> dict[str, int]:
        """How many answers are missing and how many too many, and how often somebody called too often."""
        dialogs = self.dialogs().values()
        asked = [sum(not ours for ours, _ in dialog) for dialog in dialogs]
        answers = [[random_id for ours, random_id in dialog if ours] for dialog in dialogs]
        return {
            "lost": sum(max(0, number - len(set(given))) for number, given in zip(asked, answers, strict=True)),
            "doubled": sum(max(0, len(given) - number) for number, given in zip(asked, answers, strict=True)),
            "refused": (self.folder / "sandbox.log").read_text().count("refused: more than"),
        }

    def written(self) -> int:
        """How many messages there are, of people and of the community: their numbers have no gaps."""
        return self.file.execute("SELECT max(id) FROM message").fetchone()[0]


def plain_loop(sandbox: Sandbox, messages: int) -> float:
    """Messages a second of vk_api's own loop, untouched but for the address."""
    vk = VkApiGroup(token=TOKEN, api_version=API_VERSION)
    vk.http.mount(f"{API_HOST}/", Elsewhere(sandbox.url))
    vk.http.trust_env = False
    longpoll = VkBotLongPoll(vk, GROUP)
    longpoll.session.trust_env = False
    began = sandbox.fill(messages, 50)
    for number, event in enumerate(longpoll.listen(), 1):
        message = event.message
        vk.method("messages.send", {"peer_id": message["peer_id"], "random_id": number, "message": message["text"]})
        if number == messages:
            return messages / (time.monotonic() - began)
    raise AssertionError("the loop has ended")


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The address of a migrated PostgreSQL."""
    with PostgresContainer(
        f"{os.environ.get('REGISTRY', '')}postgres:18", username="owner", dbname="desk", driver=None
    ) as server:
        url = server.get_connection_url()
        command = [sys.executable, "-m", "app.storage", "migrate"]
        subprocess.run(command, cwd=folder, env=environment(folder, DATABASE_URL=url), check=True)
        yield url


@contextmanager
def bot(sandbox: Sandbox, url: str) -> Iterator[subprocess.Popen]:
    """The bot, one process, once it polls."""
    variables = environment(sandbox.folder, DATABASE_URL=url, VK_API_URL=sandbox.url)
    process = subprocess.Popen([sys.executable, "-m", "app.bot"], cwd=sandbox.folder, env=variables)
    try:
        wait_for(lambda: rows(url, "SELECT 1 FROM cursor WHERE value <> ''"))
        time.sleep(3)  # the first poll is a short one; now it waits in the second
        yield process
    finally:
        process.terminate()
        process.wait(20)


def many_at_once(sandbox: Sandbox, messages: int, people: int, pid: int) -> dict[str, float]:
    """From the first event that is available to the last answer that is accepted."""
    before = processor_seconds(pid), processor_seconds(sandbox.process.pid)
    print(f"{people} people write {messages} messages ...", file=sys.stderr)
    began = sandbox.fill(messages, people)
    wait_for(lambda: sandbox.written() >= 2 * messages, messages / 20 + 60, every=0.02)
    seconds = time.monotonic() - began
    return {
        "messages": messages,
        "messages_per_second": messages / seconds,
        "ratio": messages / seconds / CEILING,
        "bot_ms_per_message": (processor_seconds(pid) - before[0]) * 1000 / messages,
        "sandbox_ms_per_message": (processor_seconds(sandbox.process.pid) - before[1]) * 1000 / messages,
    }


def checked(sandbox: Sandbox, url: str) -> dict[str, int]:
    """What was lost, doubled, out of order or repeated. Answers are known by their `random_id`, messages by their number."""
    wait_for(lambda: not rows(url, "SELECT 1 FROM delivery WHERE state IN ('pending', 'sending')"))
    written = """
        SELECT conversation.peer_id, direction, random_id, message.cmid
        FROM conversation JOIN message ON conversation_id = conversation.id LEFT JOIN delivery ON message_id = message.id
        ORDER BY message.id, delivery.id
    """
    meant, received = defaultdict(list), defaultdict(list)
    for peer, direction, random_id, cmid in rows(url, written):
        if direction == "out":
            meant[peer].append(random_id)
        else:
            received[peer].append(cmid)
    dialogs = sandbox.dialogs()
    answers = {peer: [random_id for ours, random_id in dialog if ours] for peer, dialog in dialogs.items()}
    return {
        **sandbox.counted(),
        "out_of_order": sum(answers[peer] != meant[peer] or received[peer] != sorted(received[peer]) for peer in dialogs),
        "repeats": rows(url, "SELECT coalesce(sum(attempts - 1), 0) FROM delivery")[0][0],
    }


def one_a_second(sandbox: Sandbox, seconds: int) -> dict[str, float]:
    """Milliseconds from event to answer, without the network's own: the answer's one call. Answers come in the events' order."""
    print(f"one message a second for {seconds} s ...", file=sys.stderr)
    person = sandbox.file.execute("SELECT min(peer_id) FROM message").fetchone()[0]
    seen: list[tuple[int, float]] = []
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(sandbox.folder / "sandbox.db", seen, done))
    watcher.start()
    for number in range(seconds):
        sandbox.post("messages", from_id=person, text=f"{QUESTION} {number}")
        time.sleep(1)
    wait_for(lambda: len(seen) >= 2 * seconds)
    done.set()
    watcher.join()
    asked, answered = ([at for sender, at in seen if (sender > 0) is by_person] for by_person in (True, False))
    delays = sorted((answer - event) * 1000 - LATENCY for event, answer in zip(asked, answered, strict=True))
    return {"p50_ms": statistics.median(delays), "p99_ms": delays[-1 - len(delays) // 100]}


def watch(file: Path, seen: list[tuple[int, float]], done: threading.Event) -> None:
    """Note each new message of the sandbox's `file`: its sender and when it was there, to a millisecond."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)
    newest, version = connection.execute("SELECT max(id) FROM message").fetchone()[0], None
    while not done.is_set():
        if (now := connection.execute("PRAGMA data_version").fetchone()) != version:
            version, at = now, time.monotonic()
            found = connection.execute("SELECT id, from_id FROM message WHERE id > ? ORDER BY id", [newest]).fetchall()
            seen.extend((sender, at) for _, sender in found)
            newest = found[-1][0] if found else newest
        time.sleep(0.001)
    connection.close()


def rows(url: str, query: str) -> list[tuple]:
    """What the bot's database answers."""
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def wait_for(happened: Callable[[], object], seconds: float = 60, every: float = 0.2) -> None:
    """Return when it has; give up after so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            sys.exit(f"nothing happened within {seconds:.0f} s")
        time.sleep(every)


def processor_seconds(pid: int) -> float:
    """Of a process and of those that it started, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") + sum(processor_seconds(int(child)) for child in children)


def memory(pid: int) -> float:
    """Megabytes that the process held at most."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000


def report(plain: dict, ours: dict) -> None:
    """Print the table, write the file."""
    print(f"{'':46} {'plain loop':>12} {'this bot':>12}")
    for what, before, now in (
        ("messages", plain["messages"], ours["messages"]),
        ("messages/s, event to accepted answer", f"{plain['messages_per_second']:.1f}", f"{ours['messages_per_second']:.1f}"),
        ("share of VK's 500/s", f"{plain['messages_per_second'] / CEILING:.1%}", f"{ours['ratio']:.1%}"),
        ("p50 at 1 message/s, ms above the network's own", "", f"{ours['p50_ms']:.0f}"),
        ("p99", "", f"{ours['p99_ms']:.0f}"),
        ("lost", plain["lost"], ours["lost"]),
        ("doubled", plain["doubled"], ours["doubled"]),
        ("dialogs out of order", "", ours["out_of_order"]),
        ("tries beyond the first", "", ours["repeats"]),
        ("calls refused as too many", plain["refused"], ours["refused"]),
        ("memory at most, MB", "", f"{ours['memory_mb']:.0f}"),
        ("processor, ms a message: the bot", "", f"{ours['bot_ms_per_message']:.2f}"),
        ("processor, ms a message: the sandbox", "", f"{ours['sandbox_ms_per_message']:.2f}"),
    ):
        print(f"{what:46} {before:>12} {now:>12}")
    results = ROOT / "benchmarks/results"
    results.mkdir(exist_ok=True)
    (results / "bot.json").write_text(json.dumps({"plain": plain, "ours": ours}, indent=2) + "\n")
    print(f"bot ratio={ours['ratio']:.3f} goal={GOAL}")


if __name__ == "__main__":
    main()
