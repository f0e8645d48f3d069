"""The commands: `make` and its scripts, run as people run them, in a copy of the project."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import need_docker
from tests.e2e.stack import OWN, PROJECT, eventually, free_ports, http

SECRETS = re.findall(r"\./secrets/(\w+)", (PROJECT / "docker-compose.yml").read_text())
ROOMS = sorted(path.parent.name for path in (PROJECT / "app").glob("*/__main__.py") if path.parent.name != "storage")
# the packages are there already: these tests run on them
INSTALLED = (f"VENV={sys.prefix}", f"INSTALLED={sys.executable}")
# a terminal of its own for a command; what comes in by standard input is typed there
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, as a person gets it."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*OWN))
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This machine's environment without its settings and without what an outer `make` was told, on ports that are free."""
    told = {"VENV", "INSTALLED", "PYTHON", *(name.upper() for name in Settings.model_fields)}
    own = {name: value for name, value in os.environ.items() if name not in told and "MAKE" not in name}
    web, reports, sandbox = free_ports(3)
    ports = {"WEB_PORT": str(web), "REPORTS_PORT": str(reports), "SANDBOX_PORT": str(sandbox)}
    return own | ports | {"TMPDIR": str(tmp_path)}


def script(project: Path, name: str, environment: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """What a script says, and its exit code. No traceback ever."""
    command = [sys.executable, f"scripts/{name}.py"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False, **options)
    assert "Traceback" not in done.stderr
    return done


def make(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a command of the Makefile says, and its exit code."""
    return subprocess.run(["make", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False)


def state(project: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of what `init` makes."""
    files = [project / ".env", *(project / "secrets").iterdir()]
    return {path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_init_makes_settings_and_secrets_with_the_right_modes(project: Path, environment: dict[str, str], umask: int) -> None:
    assert script(project, "init", environment, umask=umask).returncode == 0
    assert (project / ".env").read_text() == (project / ".env.example").read_text()
    assert (project / ".env").stat().st_mode & 0o777 == 0o600
    assert (project / "secrets").stat().st_mode & 0o777 == 0o700
    made = {path.name: path.read_text().strip() for path in (project / "secrets").iterdir()}
    assert sorted(made) == sorted(SECRETS)
    assert made.pop("vk_token", "sandbox") == "sandbox"
    assert all(len(value) >= 32 for value in made.values())
    assert len(set(made.values())) == len(made)
    assert {path.stat().st_mode & 0o777 for path in (project / "secrets").iterdir()} == {0o644}


def test_init_again_changes_nothing(project: Path, environment: dict[str, str]) -> None:
    script(project, "init", environment)
    (project / ".env").write_text("APP_NAME=Mine\n")
    (project / "secrets/secret_key").write_text("mine")
    (project / "secrets/operator_password").unlink()
    before = state(project)
    said = script(project, "init", environment).stdout
    assert said.splitlines() == ["created secrets/operator_password"]
    after = state(project)
    assert after.pop("operator_password")
    assert after == before
    assert script(project, "init", environment).stdout == ".env and the secrets are there\n"


def test_init_that_cannot_write_says_so_in_one_line(project: Path, environment: dict[str, str]) -> None:
    (project / "secrets").write_text("not a folder")
    done = script(project, "init", environment)
    assert done.returncode == 1
    assert re.fullmatch(r"init: \S+/secrets/\w+: Not a directory; see `make doctor`\n", done.stderr)


@pytest.fixture
def no_docker(project: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment without Docker, for a project that `init` has prepared."""
    script(project, "init", environment)
    return environment | {"PATH": "/nonexistent"}


def test_doctor_finds_nothing_wrong_without_docker(project: Path, no_docker: dict[str, str]) -> None:
    done = script(project, "doctor", no_docker)
    assert done.returncode == 0
    assert "✗" not in done.stdout
    assert " ! Docker is not installed: get it from https://docs.docker.com/get-docker/ (`make run` needs none)" in done.stdout


def _crooked(project: Path) -> None:
    makefile = project / "Makefile"
    makefile.write_bytes(makefile.read_bytes().replace(b"\n", b"\r\n"))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no settings": (lambda p: (p / ".env").unlink(), " ✗ .env is missing: run `make init`"),
    "an unknown name": (
        lambda p: (p / ".env").write_text("WEB_PROT=1\n"),
        " ! .env has names that nothing reads: WEB_PROT: look for the right name in .env.example",
    ),
    "a line that is no setting": (
        lambda p: (p / ".env").write_text("# remark\n\nthis is nonsense\n"),
        " ✗ .env cannot be read in line 3: write NAME=value, or # before a remark",
    ),
    "settings open to others": (
        lambda p: (p / ".env").chmod(0o644),
        " ! others on this machine can read .env: run `chmod 600 .env`",
    ),
    "no secret": (lambda p: (p / "secrets/secret_key").unlink(), " ✗ missing in secrets/: secret_key: run `make init`"),
    "an empty secret": (
        lambda p: (p / "secrets/secret_key").write_text("\n"),
        " ✗ empty in secrets/: secret_key: write the value into the file, or remove it and run `make init`",
    ),
    "a secret closed to containers": (
        lambda p: (p / "secrets/secret_key").chmod(0o600),
        " ✗ the containers' users cannot read secrets/secret_key: run `chmod 644 secrets/secret_key`",
    ),
    "secrets open to others": (
        lambda p: (p / "secrets").chmod(0o755),
        " ! others on this machine can read secrets/: run `chmod 700 secrets`",
    ),
    "Windows line ends": (_crooked, " ✗ Windows line ends in Makefile: run `perl -pi -e 's/\\r$//' Makefile`"),
    "no port": (
        lambda p: (p / "Procfile").write_text("web: LISTEN=127.0.0.1:${NO_SUCH_PORT:-0} python -m app.web\n"),
        " ✗ NO_SUCH_PORT=0 is not a port: write a number like 0 in .env: see .env.example",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_doctor_finds_a_fault_and_says_its_cure(project: Path, no_docker: dict[str, str], fault: str) -> None:
    make, line = FAULTS[fault]
    make(project)
    done = script(project, "doctor", no_docker)
    assert line in done.stdout.splitlines()
    assert done.returncode == ("✗" in line)
    cure = re.search(r"`(chmod|perl) .*`", line)
    if cure:
        subprocess.run(cure[0].strip("`"), shell=True, cwd=project, check=True)  # noqa: S602 - a cure is for the shell
        assert line not in script(project, "doctor", no_docker).stdout.splitlines()


def test_doctor_finds_a_taken_port(project: Path, no_docker: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(no_docker["WEB_PORT"]))):
        done = script(project, "doctor", no_docker)
    assert done.returncode == 1
    port = no_docker["WEB_PORT"]
    cure = "stop what uses it (`make run` in another terminal?), or set WEB_PORT in .env"
    assert f" ✗ port {port} for web is taken or not allowed: {cure}" in done.stdout.splitlines()


@pytest.mark.skipif("vk_token" not in SECRETS, reason="a project without the bot has no token")
def test_doctor_says_what_is_missing_to_go_live(project: Path, no_docker: dict[str, str]) -> None:
    assert " ✓ VK: the sandbox (the real one needs a token in secrets/vk_token)" in script(project, "doctor", no_docker).stdout
    done = script(project, "doctor", no_docker | {"COMPOSE_FILE": "docker-compose.yml"})
    assert (done.returncode, "✗ production without a VK token: write" in done.stdout) == (1, True)
    (project / "secrets/vk_token").write_text("vk1.a.xyz\n")
    done = script(project, "doctor", no_docker)
    assert (done.returncode, "✗ there is a VK token, but no community: set VK_GROUP_ID in .env" in done.stdout) == (1, True)
    done = script(project, "doctor", no_docker | {"VK_GROUP_ID": "77"})
    assert (done.returncode, "✓ VK: a token for the community 77" in done.stdout) == (0, True)


def test_doctor_finds_what_another_user_made(project: Path, environment: dict[str, str]) -> None:
    script(project, "init", environment)
    (project / ".env").chmod(0o444)
    command, somebody = [sys.executable, "scripts/doctor.py"], {}
    with tempfile.TemporaryDirectory() as open_folder:
        if os.geteuid() == 0:
            # root may write everything: become somebody else, in a folder and with a Python that are everybody's
            python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
            if not python:
                pytest.skip("no Python that another user could start")
            command[0], somebody = python, {"user": 65534, "group": 65534, "extra_groups": []}
            Path(open_folder).chmod(0o755)
            project = project.rename(Path(open_folder) / "project")
            (project / "secrets").chmod(0o755)
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False, **somebody)
    assert done.returncode == 1, done.stderr
    assert re.search(r" ✗ uid \d+ may not write .*\.env.*: run `sudo chown -R \$\(id -u\):\$\(id -g\) .*\.env", done.stdout)


ENGINE = {
    "ServerVersion": "28.5.2",
    "MemoryLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "DockerRootDir": "/nonexistent",
}


@pytest.mark.parametrize(
    ("engine", "compose", "line"),
    [
        ({"ServerVersion": "24.0.7"}, "2.40.3", " ✗ Docker Engine 24.0.7 is too old: install 25 or newer: "),
        ({}, "v2.20.1", " ✗ Docker Compose version v2.20.1 is too old: install 2.24 or newer: docker-compose-plugin"),
        ({}, None, " ✗ Docker's plugin compose is missing: install docker-compose-plugin (Debian: docker-compose)"),
        (
            {"CpuCfsQuota": False, "PidsLimit": False},
            "2.40.3",
            " ✗ the engine cannot limit what containers take (CpuCfsQuota, PidsLimit): a rootless engine needs cgroup delegation",
        ),
        (None, "2.40.3", " ✗ the Docker engine does not answer: start Docker Desktop, or `sudo systemctl start docker`"),
    ],
)
def test_doctor_judges_the_engine(
    project: Path, no_docker: dict[str, str], engine: dict[str, Any] | None, compose: str | None, line: str
) -> None:
    # other people's Docker cannot be had here: a program of its name says what theirs would
    program = project / "bin/docker"
    program.parent.mkdir()
    info = f"echo '{json.dumps(ENGINE | engine)}'" if engine is not None else "echo 'Cannot connect' >&2; exit 1"
    version = f"echo Docker Compose version {compose}" if compose else "exit 1"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in\n"info "*) {info};;\n"compose version"*) {version};;\nbuildx*) ;;\n*) exit 1;;\nesac\n'
    )
    program.chmod(0o755)
    done = script(project, "doctor", no_docker | {"PATH": str(program.parent)})
    assert done.returncode == 1
    assert line in done.stdout
    assert done.stdout.count("✗") == 1


@pytest.mark.skipif("{%" in (PROJECT / "docker-compose.yml").read_text(), reason="a template is not a project yet")
@pytest.mark.skipif("db_password_owner" not in SECRETS, reason="a project on SQLite has no database container")
def test_doctor_finds_a_volume_with_another_password(project: Path, environment: dict[str, str]) -> None:
    need_docker()
    script(project, "init", environment)
    environment = environment | {"COMPOSE_PROJECT_NAME": f"desk-doctor-{environment['WEB_PORT']}"}
    volume = f"{environment['COMPOSE_PROJECT_NAME']}_database"
    password = project / "secrets/db_password_owner"
    good, cure = password.read_text(), f"or lose the data: `make down && docker volume rm {volume}`"

    def compose(*arguments: str) -> None:
        subprocess.run(["docker", "compose", *arguments], cwd=project, env=environment, check=True, capture_output=True)

    try:
        compose("up", "--detach", "--wait", "db")
        assert " ✓ the database takes the password" in script(project, "doctor", environment).stdout
        password.write_text("0123456789abcdef0123456789abcdef\n")
        done = script(project, "doctor", environment)
        assert done.returncode == 1
        assert " ✗ the database has another password than secrets/db_password_owner: put the old password back" in done.stdout
        assert cure in done.stdout
        # without a running database only the times can say it
        compose("down")
        os.utime(password, (time.time() - 3600, time.time() - 3600))
        assert "volume" not in script(project, "doctor", environment).stdout
        os.utime(password, (time.time() + 3600, time.time() + 3600))
        done = script(project, "doctor", environment)
        assert done.returncode == 0
        assert " ! the database's volume is older than its password, and may have another: put" in done.stdout
        assert cure in done.stdout
        password.write_text(good)
    finally:
        compose("down", "--volumes")


def test_make_lists_every_command(project: Path, environment: dict[str, str]) -> None:
    makefile = (PROJECT / "Makefile").read_text()
    described = dict(re.findall(r"^([\w-]+):.*?## (.+)$", makefile, re.MULTILINE))
    listed = make(project, environment).stdout
    assert dict(re.findall(r"^  make ([\w-]+) +(.+)$", listed, re.MULTILINE)) == described
    wanted = "init vk-check doctor run up watch down logs ps migrate seed rebuild-reports password migration shell-db"
    wanted += " test lint format messages lock upgrade"
    assert sorted(described) == sorted(wanted.split())


def test_make_needs_a_new_python_and_says_so(project: Path, environment: dict[str, str]) -> None:
    old = project / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(project, environment, "init", f"PYTHON={old}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "This needs Python 3.11 or newer. Install it, or say which one to use: make PYTHON=python3.13 ..."
    )
    assert not (project / ".env").exists()


def test_make_installs_what_is_pinned_once(project: Path, environment: dict[str, str]) -> None:
    pins = project / "requirements/all.txt"
    shutil.rmtree(pins.parent)
    pins.parent.mkdir()
    pins.write_text("")  # nothing to download
    # it is the port that ends `make run` here, which comes after the installation
    with socket.create_server(("127.0.0.1", int(environment["WEB_PORT"]))):
        said = [make(project, environment, "run").stdout]
        said.append(make(project, environment, "run").stdout)
        pins.write_text("# another list\n")
        said.append(make(project, environment, "run").stdout)
    installing = "Installing the packages into .venv: once, about a minute ..."
    assert [installing in text for text in said] == [True, False, True]
    assert all("is taken" in text for text in said)


def test_make_migration_wants_to_know_what_changes(project: Path, environment: dict[str, str]) -> None:
    done = make(project, environment, "migration")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, 'Say what changes: make migration m="what changes"')


def test_make_migration_writes_what_the_models_have_more(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("")
    with (project / "app/storage/models.py").open("a") as models:
        models.write(
            "\n\nclass Extra(Base):\n    __tablename__ = 'extra'\n    id: Mapped[int] = mapped_column(primary_key=True)\n"
        )
    done = make(project, environment, "migration", *INSTALLED, 'm=what\'s "quoted" for $$HOME')
    assert done.returncode == 0, done.stderr
    written = [path.read_text() for path in (project / "app/storage/migrations/versions").glob("*quoted*.py")]
    assert len(written) == 1
    assert 'what\'s "quoted" for $HOME' in written[0]
    assert re.findall(r"^    op\.(\w+)\(", written[0], re.MULTILINE) == ["create_table", "drop_table"]
    assert "revision" in make(project, environment, "migrate-here", *INSTALLED).stderr


def test_make_messages_collects_a_new_text_and_keeps_the_translations(project: Path, environment: dict[str, str]) -> None:
    catalogue = project / "app/web/translations/ru/LC_MESSAGES/messages.po"
    (project / "app/web/new.py").write_text('from flask_babel import lazy_gettext\n\nNEW = lazy_gettext("Something new")\n')
    translated = catalogue.with_suffix(".mo").read_bytes()
    catalogue.with_suffix(".mo").unlink()
    done = make(project, environment, "messages", *INSTALLED)
    assert done.returncode == 0, done.stderr
    assert '#: app/web/new.py\nmsgid "Something new"\nmsgstr ""\n' in catalogue.read_text()
    assert catalogue.with_suffix(".mo").read_bytes() == translated


def test_the_manual_of_settings_is_complete_and_holds_nothing_else() -> None:
    documented = {
        name.lower() for name in re.findall(r"^(?:# )?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    }
    # set for each service by the Procfile, by scripts/run.py and by docker-compose.yml
    internal = {"listen", "reports_url"}
    concerns = {"bot": "vk_ operators_ quiet_", "reports": "reports_ response_ resolution_ alert_ quiet_ backup_"}
    for prefixes in (concerns[room].split() for room in concerns.keys() - set(ROOMS)):
        internal |= {name for name in Settings.model_fields if name.startswith(tuple(prefixes))}
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert set(Settings.model_fields) - internal - secret <= documented
    readers = "".join((PROJECT / name).read_text() for name in ("Procfile", "docker-compose.yml", "docker-compose.override.yml"))
    used = {name.lower() for name in re.findall(r"\$\{(\w+)", readers)} | {"compose_file"}
    assert documented <= set(Settings.model_fields) - secret | used


def left(project: Path) -> list[str]:
    """Processes that still work in the project's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


class Run:
    """`make run` in a terminal of its own."""

    def __init__(self, project: Path, environment: dict[str, str]) -> None:
        self.project = project
        self.log = project / "run.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", TERMINAL, "make", "run", *INSTALLED],
                cwd=project,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self, text: str) -> bool:
        """Whether it has said so by now."""
        return text in self.log.read_text()

    def ctrl_c(self) -> None:
        """As a person types it."""
        assert self.process.stdin
        self.process.stdin.write(b"\x03")
        self.process.stdin.flush()

    def end(self) -> int:
        """Its exit code. Nothing is left of it."""
        code = self.process.wait(timeout=60)
        eventually(lambda: not left(self.project), f"nothing is left, but there is {left(self.project)}", 20)
        return code


@pytest.fixture
def run(project: Path, environment: dict[str, str]) -> Iterator[Run]:
    """`make run`, at the moment when everything is ready."""
    (project / ".env").write_text("")  # in the template itself the example holds no values yet
    run = Run(project, environment)
    try:
        eventually(lambda: run.said("Ctrl-C stops everything") or run.process.poll() is not None, "everything is ready", 120)
        assert run.process.poll() is None, run.log.read_text()
        yield run
    finally:
        run.process.kill()
        run.end()


def test_run_says_where_everything_is_and_ctrl_c_ends_it_all(run: Run, environment: dict[str, str]) -> None:
    said = run.log.read_text()
    web = f"http://127.0.0.1:{environment['WEB_PORT']}"
    assert f"  Inbox     {web}\n" in said
    assert f"login admin, password {(run.project / 'secrets/operator_password').read_text()}" in said
    assert http(f"{web}/readyz") == "ok"
    for room in ROOMS:
        assert f"{room} is ready" in said
    if "sandbox" in ROOMS:
        assert f"  Sandbox   http://127.0.0.1:{environment['SANDBOX_PORT']}\n" in said
    run.ctrl_c()
    assert run.end() == 0, run.log.read_text()


def test_run_ends_when_its_terminal_is_closed(run: Run) -> None:
    run.process.kill()
    run.end()


def test_run_ends_when_a_service_does(run: Run) -> None:
    web = re.search(r"web +\|.*main PID: (\d+)", run.log.read_text())
    assert web
    os.kill(int(web[1]), signal.SIGKILL)
    assert run.end() == 2  # make's own code for a command that failed
    assert run.said("web ended by itself with code -9; the last it said: ")


@pytest.mark.skipif("bot" not in ROOMS, reason="the texts are the bot's")
def test_run_says_at_its_end_what_the_reason_was(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("APP_LANGUAGE=ru\n")
    texts = project / "app/bot/texts/ru.toml"
    texts.write_text(texts.read_text().replace("\nmenu = ", "\nmeno = "))
    run = Run(project, environment)
    assert run.end() == 2
    last = [line for line in run.log.read_text().splitlines() if line.startswith("run ")][-1]
    assert "bot ended by itself with code 2; the last it said: bot: " in last
    assert "ru.toml" in last
    assert "menu" in last


def test_a_lost_password_is_made_anew(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("")
    assert make(project, environment, "migrate", *INSTALLED).returncode == 0
    (project / "secrets/operator_password").unlink()
    assert make(project, environment, "init").returncode == 0
    assert make(project, environment, "password", *INSTALLED).returncode == 0
    code = """
from sqlalchemy import create_engine, text
from app.storage.migrate import hasher
with create_engine("sqlite:///data/desk.db").connect() as connection:
    (found, version), = connection.execute(text("SELECT password_hash, session_version FROM operator"))
print(hasher.verify(found, open("secrets/operator_password").read().strip()), version)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True 2\n"


def test_run_waits_for_a_database_and_can_be_stopped_meanwhile(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("DATABASE_URL=postgresql://owner:word@127.0.0.1:1/desk\n")
    run = Run(project, environment)
    eventually(lambda: run.said("waiting: no answer from the database at 127.0.0.1:1/desk"), "it says what it waits for")
    run.ctrl_c()
    assert run.end() == 0, run.log.read_text()


def test_run_refuses_a_taken_port_before_anything_starts(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("")
    script(project, "init", environment)
    with socket.create_server(("127.0.0.1", int(environment["WEB_PORT"]))):
        done = script(project, "run", environment)
    assert done.returncode == 1
    assert done.stdout == (
        f"run     | port {environment['WEB_PORT']} of web is taken or not allowed: stop what uses it, or set WEB_PORT in .env\n"
    )
    assert not (project / "data").exists()


def test_run_refuses_a_port_that_is_none(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("WEB_PORT=80a\n")
    del environment["WEB_PORT"]
    done = script(project, "run", environment)
    assert (done.returncode, done.stderr) == (1, "run: WEB_PORT=80a is not a port: write a number like 8000 in .env\n")


@pytest.mark.skipif("bot" not in ROOMS, reason="a project without the bot does not talk to VK")
def test_run_starts_no_sandbox_for_the_real_vk(project: Path, environment: dict[str, str]) -> None:
    (project / ".env").write_text("")
    script(project, "init", environment)
    (project / "secrets/vk_token").write_text("vk1.a.xyz\n")
    # a taken port shows the decision without a call to the real VK
    with socket.create_server(("127.0.0.1", int(environment["WEB_PORT"]))):
        assert "VK is the real one: no sandbox is started" in script(project, "run", environment).stdout
        sandbox = f"http://127.0.0.1:{environment['SANDBOX_PORT']}"
        assert "VK is" not in script(project, "run", environment | {"VK_API_URL": sandbox}).stdout
