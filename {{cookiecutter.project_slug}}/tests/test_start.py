"""What is wrong at the start is said in one line that tells what to do, and waited for where waiting helps."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.community.postgres import PostgresContainer

from app import log
from app.settings import Settings
from tests.conftest import POSTGRES, need_docker

ROOT = Path(__file__).parents[1]
ROOMS = [room for room in ("web", "reports", "bot", "sandbox") if (ROOT / "app" / room).exists()]


def command(folder: Path, module: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A service as its own process in an empty folder: no `.env`, no secrets, nothing from this machine's environment."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "SECRETS_DIR": str(folder / "secrets"), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which every secret is set."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("secret_key", "reports_token", "operator_password", "vk_token"):
        (secrets / name).write_text(f"{name}-0123456789abcdef0123456789abcdef\n")
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def refusal(process: subprocess.Popen[str]) -> str:
    """The line with which the process refused to start: its last, and no traceback before it."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("DATABASE_URL", "postgres//desk", "write postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("DATABASE_URL", "mysql://a:b@c/d", "write postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        ("APP_TIME_ZONE", "Moscow", "write one like Europe/Moscow"),
        ("APP_TIME_ZONE", "../../etc/passwd", "write one like Europe/Moscow"),
        ("APP_LANGUAGE", "fr", "'ru' or 'en'"),
        ("LISTEN", "8000", "see .env.example"),
        ("DB_PORT", "many", "see .env.example"),
        ("VK_GROUP_ID", "-5", "see .env.example"),
    ],
)
def test_a_wrong_setting_is_named_with_its_cure(folder: Path, name: str, value: str, cure: str) -> None:
    said = refusal(command(folder, "app.storage", "migrate", **{name: value}))
    assert name in said
    assert cure in said


@pytest.mark.parametrize(
    ("room", "secret"), [("web", "secret_key"), ("web", "reports_token"), ("reports", "reports_token"), ("bot", "vk_token")]
)
def test_a_missing_secret_is_named_with_its_cure(folder: Path, room: str, secret: str) -> None:
    if room not in ROOMS:
        pytest.skip(f"this project has no {room}")
    (folder / "secrets" / secret).unlink()
    said = refusal(command(folder, f"app.{room}", REPORTS_URL="http://127.0.0.1:1", LISTEN="127.0.0.1:0"))
    assert f"secret {secret} is missing or empty in {folder / 'secrets'}: run `make init`" in said


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "bot"])
def test_a_taken_port_is_named_with_its_cure(folder: Path, room: str, taken: int) -> None:
    said = refusal(command(folder, f"app.{room}", LISTEN=f"127.0.0.1:{taken}"))
    assert f"port {taken} is taken" in said
    assert ".env" in said


def test_a_database_that_is_not_there_is_waited_for(folder: Path) -> None:
    need_docker()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = command(folder, "app.storage", "migrate", DATABASE_URL=f"postgresql://owner:owner@127.0.0.1:{port}/desk")
    assert process.stderr is not None
    try:
        first = process.stderr.readline()
        assert f"no answer from the database at 127.0.0.1:{port}/desk" in first
        database = PostgresContainer(POSTGRES, username="owner", password="owner", dbname="desk", driver=None)
        with database.with_bind_ports(5432, port):
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert "owner:owner" not in first + said
    finally:
        process.kill()


def test_a_password_that_the_database_refuses_is_told_and_not_shown(folder: Path, postgres_template: str) -> None:
    said = refusal(command(folder, "app.storage", "migrate", DATABASE_URL=postgres_template.replace(":test@", ":wrong-secret@")))
    assert "password authentication failed" in said
    assert "make doctor" in said
    assert "wrong-secret" not in said


def test_the_data_folder_does_not_move_with_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(_env_file=None, data_dir="data").data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    "text",
    [
        "POST /method/users.get?access_token=SECRET&v=5.199",
        "{'key': 'access_token', 'value': 'SECRET'}",
        "HTTPSConnectionPool(host='lp.vk.ru'): /wh1?act=a_check&key=SECRET&ts=4&wait=25",
        '{"secret": "SECRET"}',
        "token vk1.a.SECRET-_x failed",
    ],
)
def test_tokens_and_keys_are_cut_out_of_what_is_logged(text: str) -> None:
    assert "SECRET" not in log.redact(text)
