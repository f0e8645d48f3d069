"""The projects that come out pass their own checks and tests. The one with the defaults runs all of them, containers too."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run

# what differs from the defaults; together with them every answer that changes code or composition
VARIANTS: list[dict[str, Any]] = [
    {"database": "sqlite", "language": "en"},
    {"bot": False, "language": "en"},
    {"reports": False, "database": "sqlite"},
    {"bot": False, "reports": False},
]
# the packages are installed already; mypy knows them from the first project on
HERE = {"VENV": sys.prefix, "INSTALLED": sys.executable}


def make(project: Path, target: str, **environment: str) -> str | None:
    """Run the project's own command; its output when it fails."""
    done = run("make", target, *(f"{name}={value}" for name, value in HERE.items()), cwd=project, env=environment)
    return f"{done.stdout}\n{done.stderr}" if done.returncode else None


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is known of libraries is looked up once."""
    return {"MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy"))}


@pytest.mark.parametrize("answers", [{}, *VARIANTS], ids=str)
def test_its_checks_are_clean(bake: Callable[..., Path], mypy_cache: dict[str, str], answers: dict[str, Any]) -> None:
    assert make(bake(**answers), "lint", **mypy_cache) is None


@pytest.mark.parametrize("answers", VARIANTS, ids=str)
def test_its_own_tests_pass(bake: Callable[..., Path], answers: dict[str, Any]) -> None:
    """What an answer takes away must be missed nowhere: SQLite shows that; the defaults below run on PostgreSQL too."""
    project = bake(**answers)
    done = run(sys.executable, "-m", "pytest", "--quiet", "--ignore=tests/e2e", "-k", "not postgresql", cwd=project)
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(1800)
def test_the_default_project_runs_its_tests_end_to_end(bake: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    command = ["make", "test", *(f"{name}={value}" for name, value in HERE.items())]
    with capfd.disabled():  # it takes minutes: show how far it is
        print(flush=True)
        done = run(*command, cwd=bake(), capture_output=False)
    assert done.returncode == 0
