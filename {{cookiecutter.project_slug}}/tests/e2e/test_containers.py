"""What only containers can show: crashes, stops, data that stays, and networks that let nothing else through."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.stack import Containers, eventually, http

OUTSIDE = "203.0.113.2"  # TEST-NET-3: no such address is anybody's
KILLED = ("db", "web", "reports", "bot", "sandbox")


@pytest.fixture
def internet() -> Iterator[str]:
    """A stand-in for the internet: beyond this machine, and without a way back to addresses that were not translated."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]

    def ip(arguments: str) -> None:
        subprocess.run([*as_root, "ip", *arguments.split()], check=True, capture_output=True)

    try:
        ip("netns add desk-outside")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"a stand-in for the internet needs root and `ip netns`: {error}")
    try:
        ip("link add desk-inside type veth peer name desk-outside netns desk-outside")
        ip("addr add 203.0.113.1/30 dev desk-inside")
        ip("link set desk-inside up")
        ip(f"-n desk-outside addr add {OUTSIDE}/30 dev desk-outside")
        ip("-n desk-outside link set desk-outside up")
        server = subprocess.Popen(
            [*as_root, "ip", "netns", "exec", "desk-outside", "python3", "-m", "http.server", "--bind", OUTSIDE, "8080"]
        )
        yield f"{OUTSIDE}:8080"
        server.terminate()
        server.wait(timeout=10)
    finally:
        ip("netns delete desk-outside")


def connects(stack: Containers, service: str, address: str) -> bool:
    """Whether a TCP connection from inside the service's container succeeds."""
    host, port = address.split(":")
    code = f"""
import socket
try:
    socket.create_connection(({host!r}, {port}), timeout=3)
    print("yes")
except OSError as error:
    print("no", error)
"""
    return stack.python(service, code).startswith("yes")


def messages(stack: Containers) -> int:
    """How many messages are stored, asked by the web container."""
    code = """
from sqlalchemy import text
from app.settings import load
from app.storage.engine import make_engine
with make_engine(load().database).connect() as connection:
    print(connection.scalar(text("SELECT count(*) FROM message")))
"""
    return int(stack.python("web", code))


def test_the_database_is_reachable_from_the_backend_alone(containers: Containers) -> None:
    reach = {service: connects(containers, service, "db:5432") for service in containers.services() if service != "db"}
    assert reach == {"web": True, "reports": True, "bot": True, "sandbox": False}


def test_nobody_but_the_bot_reaches_the_internet(containers: Containers, internet: str) -> None:
    eventually(lambda: connects(containers, "bot", internet), "the stand-in for the internet answers the bot", 20)
    assert [service for service in containers.services() if service != "db" and connects(containers, service, internet)] == [
        "bot"
    ]
    routes = containers.compose.exec_in_container(["cat", "/proc/net/route"], "db")[0].splitlines()[1:]
    assert all(line.split()[1] != "00000000" for line in routes), "the database has a default route"


def test_only_the_web_and_the_sandbox_are_published_and_only_to_this_machine(containers: Containers) -> None:
    published = {
        service: [
            place["HostIp"]
            for places in containers.inspect(service)["NetworkSettings"]["Ports"].values()
            for place in places or []
        ]
        for service in containers.services()
    }
    assert published == {"db": [], "web": ["127.0.0.1"], "reports": [], "bot": [], "sandbox": ["127.0.0.1"]}


@pytest.mark.parametrize("service", KILLED)
def test_a_killed_service_comes_back_and_nothing_is_lost(containers: Containers, service: str) -> None:
    people = [containers.new_person(f"{service}-{number}") for number in range(3)]
    for person in people:
        containers.write(person, "Привет!")
    before = containers.inspect(service)["RestartCount"]
    containers.kill(service)
    eventually(lambda: containers.inspect(service)["RestartCount"] > before, f"{service} is restarted")
    eventually(lambda: containers.healthy(service), f"{service} is healthy again", 90)
    written = [
        eventually(lambda person=person: containers.write(person, "Ещё тут?"), "VK takes the message") for person in people
    ]  # type: ignore[misc]
    for person, last in zip(people, written, strict=True):
        eventually(lambda person=person, last=last: containers.answers(person, after=last), "an answer after the crash", 90)  # type: ignore[misc]
    # every greeting has its answer, none has two
    for person in people:
        greetings = [answer["random_id"] for answer in containers.answers(person)]
        assert len(greetings) == len(set(greetings))
        assert len(greetings) >= 2


def test_every_container_stops_by_itself_with_exit_code_0_and_down_keeps_the_data(containers: Containers) -> None:
    person = containers.new_person("Галина")
    first = containers.write(person, "Привет!")
    eventually(lambda: containers.answers(person, after=first), "the bot answers")
    dialog = http(f"{containers.sandbox}/control/messages?peer_id={person}&after=0")
    containers.run("stop")
    codes = {service: containers.inspect(service)["State"]["ExitCode"] for service in containers.services()}
    assert codes == dict.fromkeys(containers.services(), 0)
    containers.run("down")
    containers.start()
    assert http(f"{containers.sandbox}/control/messages?peer_id={person}&after=0") == dialog
    assert messages(containers) > 0
    containers.run("down", "--volumes")
    assert not containers.engine.volumes.list(filters={"label": f"com.docker.compose.project={containers.compose.name}"})
    containers.start()
    assert messages(containers) == 0
