"""The commands of this repository: what a newcomer types first."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, on_a_terminal, run

# a name that no demo of a person has
DEMO = "community-desk-demo-test"
HERE = (f"VENV={sys.prefix}", f"INSTALLED={sys.executable}", f"DEMO={DEMO}")


@pytest.fixture(scope="module")
def checkout(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which a demo may be made."""
    return Path(shutil.copytree(template, tmp_path_factory.mktemp("checkout") / "template"))


def test_make_alone_lists_every_command() -> None:
    done = run("make", cwd=ROOT)
    assert done.returncode == 0
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == set(phony.split()) - {"help", "python", "demo-project"}


@pytest.mark.parametrize("target", ["demo", "test", "bench-scaffold"])
def test_an_old_python_is_told_in_one_line(tmp_path: Path, target: str) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run("make", target, f"PYTHON={old}", f"VENV={tmp_path}/venv", cwd=ROOT)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(ours) == 1
    assert "Python 3.11" in ours[0]
    assert done.stdout == ""
    assert not (tmp_path / "venv").exists()


def test_the_demo_starts_and_stops_and_starts_again(checkout: Path, ports: dict[str, str]) -> None:
    command = ["make", "demo", *HERE]
    first, code = on_a_terminal(command, checkout, ports, "Ctrl-C stops everything")
    assert code == 0, first
    assert f"Making a project with the default answers in demo/{DEMO}" in first
    for address in (f"http://127.0.0.1:{ports['WEB_PORT']}", f"http://127.0.0.1:{ports['SANDBOX_PORT']}", "admin"):
        assert address in first
    kept = {path: path.read_text() for path in (checkout / "demo" / DEMO / "secrets").iterdir()}
    assert kept

    second, code = on_a_terminal(command, checkout, ports, "Ctrl-C stops everything")
    assert code == 0, second
    assert "with its data" in second
    assert {path: path.read_text() for path in kept} == kept


@pytest.fixture
def _no_containers_left(checkout: Path) -> Iterator[None]:
    """Take the demo's containers, volumes and images away again."""
    yield
    if (checkout / "demo" / DEMO).exists():
        run("docker", "compose", "down", "--volumes", "--rmi", "local", cwd=checkout / "demo" / DEMO)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("_no_containers_left")
def test_the_demo_runs_in_containers(checkout: Path, ports: dict[str, str]) -> None:
    if run("docker", "info", cwd=checkout).returncode:
        assert os.environ.get("REQUIRE_DOCKER") != "1", "no Docker engine answers"
        pytest.skip("no Docker engine answers")
    up = run("make", "demo-docker", *HERE, cwd=checkout, env=ports)
    assert up.returncode == 0, up.stdout + up.stderr
    assert f"http://127.0.0.1:{ports['WEB_PORT']}" in up.stdout
    assert "make demo-docker-down" in up.stdout
    running = ("docker", "ps", "--quiet", "--filter", f"label=com.docker.compose.project={DEMO}")
    assert len(run(*running, cwd=checkout).stdout.split()) == 5
    down = run("make", "demo-docker-down", *HERE, cwd=checkout, env=ports)
    assert down.returncode == 0, down.stderr
    assert run(*running, cwd=checkout).stdout == ""
