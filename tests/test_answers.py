"""A wrong answer ends in one line, and leaves nothing on disk, whichever way it comes in."""

import json
import sys
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import pytest

from hooks.pre_gen_project import problem
from tests.conftest import BIN, run, tree

WRONG = [
    ("project_slug", "Community", "a-z"),
    ("project_slug", "0/0", "a-z"),
    ("project_slug", "a/b", "a-z"),
    ("project_slug", "..", "a-z"),
    ("project_slug", "", "a-z"),
    ("project_slug", "/tmp/absolute", "a-z"),  # noqa: S108 - nothing is written there: that is the point
    ("project_slug", "desk-", "a-z"),
    ("project_slug", "сообщество", "a-z"),
    ("project_slug", "a" * 51, "1 to 50"),
    ("project_slug", "desk\n", "a-z"),
    ("project_slug", "app", "too common"),
    ("project_slug", "tests", "too common"),
    ("project_slug", "docker", "too common"),
    ("project_slug", "aux", "Windows"),
    ("project_name", "", "empty"),
    ("project_name", "   ", "empty"),
    ("project_name", " Desk", "space"),
    ("project_name", "Desk" * 50, "too long"),
    ("project_name", "two\nlines", "line end"),
    ("project_name", "bell\a", "invisible"),
    ("project_name", "\u202eksed", "invisible"),
    ("project_name", "desk $HOME", "a $"),
    ("project_name", "desk\\n", "a backslash"),
    ("project_name", "\N{CHRISTMAS TREE}", "project_slug ''"),  # a name that gives no slug
    ("description", "", "empty"),
    ("author", "A\rB", "line end"),
    ("email", "nobody", "not an address"),
    ("email", "a@b", "not an address"),
    ("email", "a@b.ru, c@d.ru", "not an address"),
    ("time_zone", "Mars/Base", "Europe/Moscow"),
    ("time_zone", "", "Europe/Moscow"),
    ("time_zone", "../../etc/passwd", "Europe/Moscow"),
    ("time_zone", "Europe", "Europe/Moscow"),
]
# one for each question
ONE_EACH = list({name: (name, value, why) for name, value, why in reversed(WRONG)}.values())


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_wrong_answer_is_refused_in_one_line(template: Path, tmp_path: Path, name: str, value: str, why: str) -> None:
    done = run(BIN / "cookiecutter", template, "--no-input", f"{name}={value}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith(name) or why.startswith("project_slug")
    assert why in line
    assert len(line) < 200
    assert not list(tmp_path.iterdir())


def test_a_wrong_answer_is_refused_at_the_prompt(template: Path, tmp_path: Path) -> None:
    answers = ["Desk {{ 7 * 7 }}", *[""] * 12]
    done = run(BIN / "cookiecutter", template, cwd=tmp_path, input="\n".join(answers) + "\n")
    assert done.returncode == 1
    assert done.stderr == ""
    # the last prompt and what is said after it share a line when nobody presses Enter
    assert done.stdout.rpartition("(1): ")[2].startswith("project_name 'Desk {{ 7 * 7 }}' holds")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value", "why"), ONE_EACH)
def test_cruft_refuses_it_too(template: Path, tmp_path: Path, name: str, value: str, why: str) -> None:
    done = run(BIN / "cruft", "create", template, "--no-input", "--extra-context", json.dumps({name: value}), cwd=tmp_path)
    assert done.returncode == 1
    assert why in " ".join(done.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value", "why"), ONE_EACH)
def test_a_replay_file_is_checked(
    template: Path, bake: Callable[..., Path], replays: Path, tmp_path: Path, name: str, value: str, why: str
) -> None:
    bake()
    kept = json.loads((replays / f"{template.name}.json").read_text())
    kept["cookiecutter"][name] = value
    replay, output = tmp_path / "answers.json", tmp_path / "output"
    replay.write_text(json.dumps(kept))
    output.mkdir()
    done = run(BIN / "cookiecutter", template, "--replay-file", replay, "--output-dir", output, cwd=tmp_path)
    assert done.returncode == 1
    assert why in done.stderr  # in one line of ours; cookiecutter prints a traceback of its own when a hook refuses
    assert len(done.stderr.splitlines()) == 1
    assert not list(output.iterdir())


def test_a_folder_that_is_there_is_left_alone(template: Path, tmp_path: Path) -> None:
    (tmp_path / "community-desk").mkdir()
    (tmp_path / "community-desk/mine").write_text("mine")
    done = run(BIN / "cookiecutter", template, "--no-input", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 1
    assert "already exists" in done.stdout
    assert tree(tmp_path) == {"community-desk/mine": b"mine"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project_name", 'Кружок "Ёлка" & O\'Neil \N{CHRISTMAS TREE}: 100% #1 <b>{x}</b> `ls`; rm -rf'),
        ("author", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}"),
        ("email", "иван@пример.рф"),
        ("email", "a.b+c@d-e.example.org"),
        ("project_slug", "a"),
        ("project_slug", "d" * 50),
        ("time_zone", "UTC"),
        ("time_zone", "America/Argentina/Buenos_Aires"),
        ("time_zone", "Etc/GMT-3"),
    ],
)
def test_an_unusual_answer_is_taken(name: str, value: str) -> None:
    assert problem({name: value}) is None


def test_a_python_without_time_zones_leaves_the_name_to_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    try:
        assert problem({"time_zone": "Europe/Moscow"}) is None
        assert problem({"time_zone": "../../etc/passwd"}) is not None
    finally:
        zoneinfo.reset_tzpath()
        zoneinfo.ZoneInfo.clear_cache()
