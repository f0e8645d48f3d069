"""What comes out for every answer: whole, tidy, the same each time, and without a trace of what was not chosen."""

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from allpairspy import AllPairs
from cookiecutter.main import cookiecutter
from dotenv import dotenv_values

from tests.conftest import BIN, ROOT, git, run, tree

Bake = Callable[..., Path]

CHOICES = {
    name: answer if isinstance(answer, list) else [answer, not answer]
    for name, answer in json.loads((ROOT / "cookiecutter.json").read_text()).items()
    if not name.startswith("_") and isinstance(answer, list | bool)
}
# every two answers meet in at least one project
COMBINATIONS = [dict(zip(CHOICES, answers, strict=True)) for answers in AllPairs(list(CHOICES.values()))]
EVERY = pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: "-".join(map(str, answers.values())))

# quotes of every kind, a colon, a comment sign, braces, markup, two scripts and a picture
NAME = 'Кружок "Ёлка" & Co: 100% #1 <b>{x}</b> `ls` \N{CHRISTMAS TREE}'

# where a part that was not chosen must not be mentioned; Procfile and the import rules name rooms that may be missing
PLAIN = ("*.yml", ".env.example", "README*")
TRACES = {"bot": r"\bbot\b|sandbox|vk_token", "reports": r"\breports?\b"}


def texts(project: Path) -> dict[str, str]:
    """The files that are text."""
    return {name: content.decode() for name, content in tree(project).items() if b"\0" not in content}


@EVERY
def test_nothing_is_left_of_the_template(bake: Bake, answers: dict[str, object]) -> None:
    for name, text in texts(bake(**answers)).items():
        assert not re.search(r"\{[{%] *-? *\w* *cookiecutter\b|\bcookiecutter\.\w", text), name
        if "/" not in name or name.startswith(".github/"):  # the pages and the tests have Jinja of their own
            assert "{%" not in text, name


@EVERY
def test_the_texts_are_tidy(bake: Bake, answers: dict[str, object]) -> None:
    for name, text in texts(bake(**answers)).items():
        if "/vendor/" in name or name.endswith(".po") or not text:
            continue  # as their makers write them
        assert "\r" not in text, name
        assert re.search(r"[^\n]\n\Z", text), f"{name} must end with one line end"
        assert "\n\n\n\n" not in text, name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), name
        if not name.endswith((".py", ".mako", ".env.example")):
            assert "\n\n\n" not in text, name


@EVERY
def test_what_was_not_chosen_is_gone_and_all_else_is_there(template: Path, bake: Bake, answers: dict[str, object]) -> None:
    project = bake(**answers)
    inside = "{{cookiecutter.project_slug}}/"
    gone = {
        "bot": r"app/(bot|sandbox)/|requirements/(bot|sandbox)\.|tests/(test_)?(bot|sandbox)",
        "reports": r"app/reports/|prometheus/|requirements/reports\.|tests/(test_)?reports",
    }
    patterns = [pattern for part, pattern in gone.items() if not answers[part]]
    patterns += [
        {"github": r"\.github/", "gitlab": r"\.gitlab-ci\.yml"}[ci] for ci in ("github", "gitlab") if ci != answers["ci"]
    ]
    expected = [name.removeprefix(inside) for name in git(template, "ls-files", "-z").split("\0") if name.startswith(inside)]
    expected = [name for name in expected if not any(re.match(pattern, name) for pattern in patterns)]
    assert sorted(tree(project)) == sorted(expected)
    assert not [folder for folder in project.rglob("*") if folder.is_dir() and not any(folder.iterdir())]


@pytest.mark.parametrize("part", TRACES)
def test_no_text_speaks_of_a_part_that_is_not_there(bake: Bake, part: str) -> None:
    project = bake(**{part: False})
    for path in [path for pattern in PLAIN for path in project.glob(pattern)]:
        assert not re.search(TRACES[part], path.read_text(), re.IGNORECASE), path.name


@EVERY
def test_the_files_are_what_their_names_say(bake: Bake, answers: dict[str, object]) -> None:
    project = bake(**answers)
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert about["name"] == "community-desk"
    assert None not in dotenv_values(project / ".env.example").values()
    for path in [*project.glob("*.yml"), *project.glob(".*.yml"), *project.glob(".github/**/*.yml")]:
        assert yaml.safe_load(path.read_text()), path.name
    composition = yaml.safe_load((project / "docker-compose.yml").read_text())
    assert composition["name"] == "community-desk"
    assert {"web", "migrate"} <= set(composition["services"])
    for part in TRACES:
        assert (part in composition["services"]) == answers[part]
    assert ("db" in composition["services"]) == (answers["database"] == "postgresql")


@EVERY
def test_every_setting_in_the_manual_is_one(bake: Bake, answers: dict[str, object]) -> None:
    """A setting that nobody reads, or the wrong value for this answer."""
    project = bake(**answers)
    manual = (project / ".env.example").read_text()
    assert f"\nAPP_LANGUAGE={answers['language']}\n" in manual
    readers = "".join(text for name, text in texts(project).items() if name != ".env.example").lower()
    for name in re.findall(r"^(?:# )?([A-Z_]+)=", manual, re.MULTILINE):
        assert re.search(rf"\b{name.lower()}\b", readers) or name == "COMPOSE_FILE", name


@pytest.mark.skipif(not shutil.which("docker"), reason="needs Docker's command line")
@EVERY
def test_compose_takes_it(bake: Bake, answers: dict[str, object]) -> None:
    project = bake(**answers)
    for files in (["docker-compose.yml"], ["docker-compose.yml", "docker-compose.override.yml"]):
        done = run("docker", "compose", *(f"--file={file}" for file in files), "config", "--format=json", cwd=project)
        assert (done.returncode, done.stderr) == (0, "")
        for service in json.loads(done.stdout)["services"].values():
            for port in service.get("ports", ()):
                assert port["host_ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("ci", "file", "schema"),
    [("github", ".github/workflows/ci.yml", "vendor.github-workflows"), ("gitlab", ".gitlab-ci.yml", "vendor.gitlab-ci")],
)
def test_the_ci_is_one_that_its_server_takes(bake: Bake, ci: str, file: str, schema: str) -> None:
    project = bake(ci=ci, python_version="3.13")
    done = run(BIN / "check-jsonschema", "--builtin-schema", schema, file, cwd=project)
    assert done.returncode == 0, done.stdout
    assert "3.13" in (project / file).read_text()


@pytest.mark.parametrize(("license", "first"), [("MIT", "MIT License"), ("BSD-3-Clause", "BSD 3"), ("Proprietary", "All rights")])
def test_the_license_is_the_one_that_was_chosen(bake: Bake, license: str, first: str) -> None:
    project = bake(license=license, author="О'Нил")
    text = (project / "LICENSE").read_text()
    assert text.startswith(first)
    assert "Copyright (c) О'Нил\n" in text
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert about["license"].endswith(license)


def test_any_name_comes_out_as_it_was_written(bake: Bake) -> None:
    project = bake(project_name=NAME, description=NAME, author=NAME)
    assert project.name == "kruzhok-elka-co-100-1-b-x-b-ls"
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert about["description"] == NAME
    assert about["authors"] == [{"name": NAME, "email": "team@example.com"}]

    assert run("make", "init", cwd=project).returncode == 0
    said = run(BIN / "python", "-c", "from app.settings import load; print(load().app_name)", cwd=project)
    assert said.stdout.removesuffix("\n") == NAME
    if shutil.which("docker"):
        config = json.loads(run("docker", "compose", "config", "--format=json", cwd=project).stdout)
        assert config["services"]["web"]["environment"]["APP_NAME"] == NAME


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Сообщество друзей", "soobshchestvo-druzei"),
        ("Ы" * 100, "y" * 50),
        ("O'Neil & Sons", "o-neil-sons"),
        ("null", "null"),
        ("On", "on"),
    ],
)
def test_the_short_name_follows_from_the_name(bake: Bake, name: str, slug: str) -> None:
    project = bake(project_name=name)
    assert project.name == slug
    # words that YAML takes for something else among them
    assert yaml.safe_load((project / "docker-compose.yml").read_text())["name"] == slug


def test_the_same_answers_give_the_same_bytes(bake: Bake) -> None:
    assert tree(bake(author="A")) == tree(bake(author="A"))


def test_what_tools_left_in_the_template_is_not_handed_on(template: Path, bake: Bake, tmp_path: Path) -> None:
    used = Path(shutil.copytree(template, tmp_path / "used"))
    inside = used / "{{cookiecutter.project_slug}}"
    for cache in (
        ".mypy_cache/3.11",
        ".ruff_cache",
        ".hypothesis",
        "app/__pycache__",
        "tests/artifacts",
        "tests/e2e/__pycache__",
    ):
        (inside / cache).mkdir(parents=True)
        # neither text nor, to cookiecutter's eye, binary
        (inside / cache / "left").write_bytes(b"a" * 900 + b"\x8c{{ cookiecutter.nothing }}")
    project = Path(cookiecutter(str(used), no_input=True, output_dir=str(tmp_path / "made")))
    assert tree(project) == tree(bake())


def test_scripts_can_be_run(bake: Bake) -> None:
    for name, content in tree(bake()).items():
        if content.startswith(b"#!"):
            assert (ROOT / "{{cookiecutter.project_slug}}" / name).stat().st_mode & 0o111, name
