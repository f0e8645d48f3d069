"""The template as it would be published, and projects made from it."""

import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program; nothing that an outer `make` says to its children reaches it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment |= options.pop("env", {})
    return subprocess.run(command, cwd=cwd, env=environment, text=True, check=False, **{"capture_output": True, **options})


def on_a_terminal(command: list[str], cwd: Path, environment: dict[str, str], until: str) -> tuple[str, int]:
    """Run a command on a terminal of its own, press Ctrl-C when it has said `until`: what it said, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.execvpe(command[0], command, {name: value for name, value in os.environ.items() if "MAKE" not in name} | environment)
    said, pressed, end = "", False, time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                said += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other side is closed
                break
        if until in said and not pressed:
            pressed = True
            os.write(terminal, b"\x03")
    else:
        os.close(terminal)  # hang up
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert pressed, said
    return said, code


def git(folder: Path, *arguments: str | Path) -> str:
    """What a git command says; it must succeed."""
    done = run("git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path) -> None:
    """Commit all that is there."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "everything")


def tree(folder: Path) -> dict[str, bytes]:
    """The files under a folder and what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session", autouse=True)
def replays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where cookiecutter keeps the answers: not where it does for the person who runs the tests."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    config = folder / "config.yml"
    config.write_text(f"replay_dir: {folder}/replays\ncookiecutters_dir: {folder}/templates\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        yield folder / "replays"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of what git sees here: with changes that are not committed, without what tools left in the folders."""
    folder = tmp_path_factory.mktemp("template")
    for name in filter(None, git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


@pytest.fixture(scope="session")
def bake(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a project with these answers, and the defaults for the rest."""

    def bake(**answers: Any) -> Path:
        output = tmp_path_factory.mktemp("output")
        return Path(cookiecutter(str(template), no_input=True, extra_context=answers, output_dir=str(output)))

    return bake


@pytest.fixture
def ports() -> dict[str, str]:
    """Ports that nobody listens on at this moment."""
    probes = {name: socket.socket() for name in ("WEB_PORT", "REPORTS_PORT", "SANDBOX_PORT")}
    for probe in probes.values():
        probe.bind(("127.0.0.1", 0))
    found = {name: str(probe.getsockname()[1]) for name, probe in probes.items()}
    for probe in probes.values():
        probe.close()
    return found
