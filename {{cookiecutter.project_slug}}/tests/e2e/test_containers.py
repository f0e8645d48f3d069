"""What only containers can show: crashes, stops, data that stays, and networks that let nothing else through."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.stack import HAS_BOT, SERVICES, Containers, eventually, http

OUTSIDE = "203.0.113.2"  # TEST-NET-3: no such address is anybody's
OURS = [service for service in SERVICES if service != "db"]
NEEDS_BOT = pytest.mark.skipif(not HAS_BOT, reason="this project has no bot to write to")


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


def stored(stack: Containers, person: int | None = None) -> dict[str, int]:
    """How many messages of a person, or of all, came in and went out: asked of the database by the web container."""
    code = f"""
import json
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from app.settings import load
from app.storage.engine import make_engine
from app.storage.models import Conversation, Message
counts = select(Message.direction, func.count()).join(Message.conversation).group_by(Message.direction)
if {person}:
    counts = counts.where(Conversation.peer_id == {person})
with Session(make_engine(load().database)) as session:
    print(json.dumps(dict(session.execute(counts).all())))
"""  # noqa: S608 - a program, no SQL
    return dict(json.loads(stack.python("web", code)))


@pytest.mark.skipif("db" not in SERVICES, reason="this project's database is a file")
def test_the_database_is_reachable_from_the_backend_alone(containers: Containers) -> None:
    assert {service: connects(containers, service, "db:5432") for service in OURS} == {
        service: service != "sandbox" for service in OURS
    }


def test_nobody_but_the_bot_reaches_the_internet(containers: Containers, internet: str) -> None:
    if HAS_BOT:
        eventually(lambda: connects(containers, "bot", internet), "the stand-in for the internet answers the bot", 20)
    assert [service for service in OURS if connects(containers, service, internet)] == ["bot"] * HAS_BOT
    if "db" in SERVICES:
        routes = containers.compose.exec_in_container(["cat", "/proc/net/route"], "db")[0].splitlines()[1:]
        assert all(line.split()[1] != "00000000" for line in routes), "the database has a default route"


def test_only_the_web_and_the_sandbox_are_published_and_only_to_this_machine(containers: Containers) -> None:
    for service in SERVICES:
        ports = containers.inspect(service)["NetworkSettings"]["Ports"].values()
        published = [place["HostIp"] for places in ports for place in places or []]
        assert published == (["127.0.0.1"] if service in ("web", "sandbox") else []), service


def test_every_service_is_locked_in(containers: Containers) -> None:
    for service in SERVICES:
        container = containers.inspect(service)
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert not host["Privileged"], service
        assert host["Memory"], service
        assert host["PidsLimit"], service
        assert container["Config"]["User"] not in ("", "0", "root"), service


@NEEDS_BOT
@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_nothing_is_lost(containers: Containers, service: str) -> None:
    calm, *people = [containers.new_person(f"{service}-{number}") for number in range(4)]
    greeting = containers.write(calm, "Привет!")
    eventually(lambda: containers.answers(calm, after=greeting), "the bot answers")
    before = containers.inspect(service)["RestartCount"]
    for person in people:
        containers.write(person, "Привет!")
    containers.signal(service, "KILL")
    eventually(lambda: containers.inspect(service)["RestartCount"] > before, f"{service} is restarted")
    eventually(lambda: containers.healthy(service), f"{service} is healthy again", 90)
    for person in (calm, *people):
        last = containers.write(person, "Ещё тут?")
        eventually(lambda person=person, last=last: containers.answers(person, after=last), "an answer after the crash", 90)
    # those who wrote when it happened have what the other one has: every answer, and none twice
    expected = stored(containers, calm)
    assert expected["in"] == 2
    for person in people:
        assert len(containers.answers(person)) == len(containers.answers(calm))
        assert stored(containers, person) == expected


@pytest.mark.skipif(HAS_BOT, reason="the test above says more")
@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back(containers: Containers, service: str) -> None:
    before = containers.inspect(service)["RestartCount"]
    containers.signal(service, "KILL")
    eventually(lambda: containers.inspect(service)["RestartCount"] > before, f"{service} is restarted")
    eventually(lambda: containers.healthy(service), f"{service} is healthy again", 90)


@NEEDS_BOT
def test_the_bots_health_check_fails_when_it_hangs(containers: Containers) -> None:
    containers.signal("bot", "STOP")
    try:
        eventually(lambda: not containers.check_health("bot"), "the bot is seen to hang", 90)
    finally:
        containers.signal("bot", "CONT")
    eventually(lambda: containers.check_health("bot"), "the bot is healthy again")


@pytest.mark.skipif("db" not in SERVICES, reason="this project's database is a file")
def test_health_checks_fail_without_the_database_and_recover_with_it(containers: Containers) -> None:
    asking = [service for service in ("web", "reports") if service in SERVICES]
    containers.run("stop", "db")
    assert [service for service in asking if containers.check_health(service)] == []
    containers.run("start", "db")
    for service in asking:
        eventually(lambda service=service: containers.check_health(service), f"{service} is healthy again")


def test_up_ends_with_the_reason_when_a_setting_is_wrong(containers: Containers) -> None:
    settings = containers.folder / ".env"
    right = settings.read_text()
    settings.write_text(f"{right}APP_TIME_ZONE=Moscow\n")
    try:
        environment = containers.environment | {"COMPOSE_PROJECT_NAME": containers.compose.name}
        done = subprocess.run(
            ["make", "up"], cwd=containers.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
    finally:
        settings.write_text(right)
    assert done.returncode == 2
    assert "APP_TIME_ZONE is not a time zone; write one like Europe/Moscow" in done.stderr
    containers.start()


def test_every_container_stops_by_itself_with_exit_code_0(containers: Containers) -> None:
    containers.run("stop")
    codes = {service: containers.inspect(service)["State"]["ExitCode"] for service in SERVICES}
    assert codes == dict.fromkeys(SERVICES, 0)
    containers.start()


@NEEDS_BOT
def test_vk_is_asked_from_a_container_while_the_stack_runs_there(containers: Containers) -> None:
    environment = containers.environment | {"COMPOSE_PROJECT_NAME": containers.compose.name}
    done = subprocess.run(
        ["make", "vk-check"], check=False, cwd=containers.folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "http://sandbox:8000" in done.stdout
    assert "✗" not in done.stdout


@NEEDS_BOT
def test_down_keeps_the_data_until_the_volumes_go_too(containers: Containers) -> None:
    person = containers.new_person("Галина")
    first = containers.write(person, "Привет!")
    eventually(lambda: containers.answers(person, after=first), "the bot answers")
    dialog = http(f"{containers.sandbox}/control/messages?peer_id={person}&after=0")["items"]
    before = stored(containers, person)
    containers.run("down")
    containers.start()
    assert http(f"{containers.sandbox}/control/messages?peer_id={person}&after=0")["items"] == dialog
    assert stored(containers, person) == before
    containers.run("down", "--volumes")
    assert not containers.engine.volumes.list(filters={"label": f"com.docker.compose.project={containers.compose.name}"})
    containers.start()
    assert stored(containers) == {}
