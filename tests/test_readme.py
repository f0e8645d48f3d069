"""What the READMEs tell people to type does what they say: the commands are read from them, and run in their order."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN, ROOT, on_a_terminal, run

NAME = "readme-test"  # of the containers: one that no project of a person has
PROJECT = "{{cookiecutter.project_slug}}"
REPOSITORY = "https://github.com/OWNER/cookiecutter-flask-vk"
# by whom the others are run
ELSEWHERE = {
    "make demo": "test_setup.py: test_the_demo_starts_and_stops_and_starts_again",
    "make demo-docker": "test_setup.py: test_the_demo_runs_in_containers",
    "make demo-docker-down": "test_setup.py: test_the_demo_runs_in_containers",
    "make test": "the command that runs this, and test_projects.py: test_the_default_project_runs_its_tests_end_to_end",
    "make lint": "the command that runs this, and test_projects.py: test_its_checks_are_clean",
}
# those that go on until Ctrl-C, and what they have said by then
ENDLESS = {"make run": "Ctrl-C stops everything", "make logs": "started: bot.receive"}
NEED_DOCKER = ("make up", "make ps", "make logs", "make down")


def commands(readme: Path) -> list[str]:
    """The lines of its shell blocks."""
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


@pytest.mark.parametrize("folder", [ROOT, ROOT / PROJECT])
def test_both_languages_say_the_same(folder: Path) -> None:
    english, russian = ((folder / name).read_text() for name in ("README.md", "README.ru.md"))
    assert commands(folder / "README.md") == commands(folder / "README.ru.md")
    for what in (r"^#+ ", r"^\|", r"^\d\. ", r"!\["):
        assert len(re.findall(what, english, re.MULTILINE)) == len(re.findall(what, russian, re.MULTILINE)), what


@pytest.mark.parametrize("readme", ["README.md", "README.ru.md"])
def test_every_link_and_picture_is_there(readme: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text()):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; the containers that were started from it are taken away."""
    yield tmp_path
    project = tmp_path / "cookiecutter-flask-vk/community-desk"
    if project.exists() and shutil.which("docker"):
        run("docker", "compose", "--project-name", NAME, "down", "--volumes", "--rmi", "local", cwd=project)


@pytest.mark.timeout(900)
def test_the_commands_do_what_they_say(template: Path, folder: Path, ports: dict[str, str]) -> None:
    docker = run("docker", "info", cwd=folder).returncode == 0
    assert docker or os.environ.get("REQUIRE_DOCKER") != "1", "no Docker engine answers"
    environment = {**ports, "PATH": f"{BIN}:{os.environ['PATH']}", "VENV": sys.prefix, "COMPOSE_PROJECT_NAME": NAME}
    done = set(ELSEWHERE) if docker else {*ELSEWHERE, *NEED_DOCKER}
    # the project's own README is read by who has followed the template's
    for command in [*commands(ROOT / "README.md"), *commands(ROOT / PROJECT / "README.md")]:
        if command in done:
            continue
        done.add(command)
        words = command.replace(REPOSITORY, str(template)).split()
        if words[0] == "cd":
            folder /= words[1]
        elif command in ENDLESS:
            said, code = on_a_terminal([*words, f"INSTALLED={sys.executable}"], folder, environment, ENDLESS[command])
            assert code == 0 or command == "make logs", said  # there it is Compose that calls it an error
        else:
            if words[0] == "git":
                words.append("cookiecutter-flask-vk")
            # Enter takes the answer that is offered
            result = run(*words, cwd=folder, env=environment, input="\n" * 20)
            assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    assert folder.name == "community-desk"
