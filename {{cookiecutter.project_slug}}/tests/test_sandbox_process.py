"""The sandbox as a process of its own: what it remembers when it is killed, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.stack import eventually, free_ports


class Process:
    """`python -m app.sandbox` on a free port."""

    def __init__(self, folder: Path) -> None:
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {**os.environ, "DATA_DIR": str(folder), "LISTEN": f"127.0.0.1:{port}", "APP_ENV": "development"}

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "app.sandbox"], env=self.environment, start_new_session=True)
        eventually(self.is_ready, "the sandbox is ready")

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        """End it and its worker as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, **params: Any) -> Any:
        params = {"v": "5.199", "access_token": "any", **params}
        return requests.post(f"{self.url}/method/{method}", data=params, timeout=10).json()["response"]

    def say(self, text: str) -> None:
        body = {"from_id": 101, "text": text}
        assert requests.post(f"{self.url}/control/messages", json=body, timeout=10).status_code == 201

    def poll(self, server: Any, wait: int) -> Any:
        params = {"act": "a_check", "key": server["key"], "ts": server["ts"], "wait": wait}
        return requests.get(server["server"], params=params, timeout=60).json()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    process.start()
    yield process
    if process.process.poll() is None:
        process.kill()


def test_a_kill_loses_nothing(process: Process) -> None:
    server = process.call("groups.getLongPollServer", group_id=1)
    process.say("до")
    sent = process.call("messages.send", peer_id=101, message="ответ", random_id=5)
    requests.post(f"{process.url}/control/settings", json={"latency_ms": 1}, timeout=10).raise_for_status()
    before = process.poll(server, wait=0)
    process.kill()
    process.start()
    process.say("после")
    after = process.poll(server, wait=0)
    assert after["updates"][0] == before["updates"][0]
    assert [update["object"]["message"]["text"] for update in after["updates"]] == ["до", "после"]
    assert process.call("messages.send", peer_id=101, message="ответ", random_id=5) == sent
    assert requests.get(f"{process.url}/control/settings", timeout=10).json()["latency_ms"] == 1


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_though_long_polls_wait(process: Process, asked: signal.Signals) -> None:
    server = process.call("groups.getLongPollServer", group_id=1)
    answers: list[Any] = []
    polls = [threading.Thread(target=lambda: answers.append(process.poll(server, wait=50))) for _ in range(3)]
    for poll in polls:
        poll.start()
    heard = f"{process.url}/control/messages?peer_id=101"
    eventually(lambda: requests.get(heard, timeout=10).json()["heard"], "the polls wait")
    process.process.send_signal(asked)
    assert process.process.wait(timeout=20) == 0
    for poll in polls:
        poll.join()
    assert answers == [{"ts": server["ts"], "updates": []}] * 3


def test_it_refuses_production_in_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "APP_ENV": "production"}
    ended = subprocess.run(
        [sys.executable, "-m", "app.sandbox"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("sandbox: ")
    assert "production" in line
