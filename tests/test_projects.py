"""The projects that come out pass their own checks and tests. The one with the defaults runs all of them, containers too."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN, run

# what differs from the defaults: each answer that changes code or composition is in one of them
VARIANTS: list[dict[str, Any]] = [
    {"bot": False, "language": "en", "database": "sqlite"},
    {"reports": False},
    {"bot": False, "reports": False},
]
# the packages are installed already
HERE = (f"VENV={sys.prefix}", f"INSTALLED={sys.executable}")


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is known of libraries is looked up once."""
    return {"MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy"))}


@pytest.mark.parametrize("answers", [{}, *VARIANTS], ids=str)
def test_its_checks_are_clean(bake: Callable[..., Path], mypy_cache: dict[str, str], answers: dict[str, Any]) -> None:
    done = run("make", "lint", *HERE, cwd=bake(**answers), env=mypy_cache)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("answers", VARIANTS, ids=str)
def test_its_own_tests_pass(bake: Callable[..., Path], answers: dict[str, Any]) -> None:
    """What an answer takes away must be missed nowhere. SQLite shows that without a browser; the defaults below run all."""
    # nor does an answer change what a bot does against faults, which takes minutes
    left_out = [f"--ignore-glob=*{name}" for name in ("/e2e", "_browser.py", "_page.py", "_faults.py", "_loops.py")]
    # several at a time, for they wait a lot
    done = run(BIN / "pytest", "--quiet", "--numprocesses=4", *left_out, "-k", "not postgresql", cwd=bake(**answers))
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(1800)
def test_the_default_project_runs_its_tests_end_to_end(bake: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():  # it takes minutes: show how far it is
        print(flush=True)
        done = run("make", "test", *HERE, cwd=bake(), capture_output=False)
    assert done.returncode == 0
