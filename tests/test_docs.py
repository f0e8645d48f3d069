"""The guides' examples work: they are put where the guide says, and their tests and the project's own checks pass."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BIN, ROOT, run

DOCS = ROOT / "docs"
PLACES = {"at the end": "end", "в конец": "end", "instead of the same imports": "same", "вместо таких же строк": "same"}


def blocks(guide: Path) -> list[tuple[str, str]]:
    """The Python blocks of a guide: the comment in the first line, which says where it belongs, and the rest."""
    return re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```", guide.read_text(), re.MULTILINE | re.DOTALL)


def put(project: Path, where: str, code: str) -> None:
    """Do with a block what its first line says."""
    name, _, place = where.partition(", ")
    file = project / name
    if not place:
        file.write_text(code)
    elif PLACES[place] == "end":
        file.write_text(file.read_text() + code)
    else:
        for line in code.splitlines():
            same = re.escape(line.partition(" import ")[0])
            changed, count = re.subn(rf"^{same} import .*$", line, file.read_text(), flags=re.MULTILINE)
            assert count == 1, line
            file.write_text(changed)


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("dialog.md", ["tests/test_bot_booking.py", "tests/test_bot_dialog.py"]),
        ("dialog.ru.md", ["tests/test_bot_booking.py", "tests/test_bot_dialog.py"]),
        ("own-report.md", ["tests/test_reports_silence.py"]),
    ],
)
def test_a_guides_example_works(bake: Callable[..., Path], name: str, tests: list[str]) -> None:
    project = bake()
    for where, code in blocks(DOCS / name):
        put(project, where, code)
    done = run(BIN / "pytest", "--quiet", *tests, cwd=project)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    done = run("make", "lint", f"VENV={sys.prefix}", f"INSTALLED={sys.executable}", cwd=project)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_report_is_the_same_in_both_languages() -> None:
    assert blocks(DOCS / "own-report.md") == blocks(DOCS / "own-report.ru.md")


def test_the_guides_say_the_same_in_both_languages() -> None:
    for english in DOCS.glob("*.md"):
        if ".ru." not in english.name:
            russian = english.with_suffix(".ru.md")
            for what in (r"^#+ ", r"^\|", r"^```"):
                counts = [len(re.findall(what, guide.read_text(), re.MULTILINE)) for guide in (english, russian)]
                assert counts[0] == counts[1], f"{english.name}: {what}"


@pytest.mark.parametrize("guide", sorted(DOCS.glob("*.md")), ids=lambda guide: guide.name)
def test_every_link_leads_somewhere(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", guide.read_text()):
        assert target.startswith("https://") or (DOCS / target).is_file(), target
