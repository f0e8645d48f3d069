"""A project follows its template through cruft, and keeps what its owner did. Hooks run many times on the way."""

import json
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

from tests.conftest import BIN, commit, git, run, tree

ANSWERS = {"bot": False, "ci": "gitlab", "project_name": 'Клуб "Ёлка"'}


@pytest.fixture
def published(template: Path, tmp_path: Path) -> Path:
    """A copy of the template that this test may change."""
    folder = tmp_path / "published"
    git(template, "clone", "--quiet", template, folder)
    return folder


@pytest.fixture
def project(published: Path, tmp_path: Path) -> Path:
    """A project that cruft made, in a repository of its own."""
    done = run(BIN / "cruft", "create", published, "--no-input", "--extra-context", json.dumps(ANSWERS), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "klub-elka"
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


def test_cruft_makes_what_cookiecutter_makes(template: Path, project: Path, tmp_path: Path) -> None:
    other = cookiecutter(str(template), no_input=True, extra_context=ANSWERS, output_dir=str(tmp_path / "other"))
    made = {name: content for name, content in tree(project).items() if not name.startswith((".git/", ".cruft.json"))}
    assert made == tree(Path(other))
    for command in ("check", "diff"):
        done = run(BIN / "cruft", command, cwd=project)
        assert done.returncode == 0, done.stdout
    assert "diff" not in done.stdout


def test_an_update_brings_the_new_and_keeps_the_own(published: Path, project: Path) -> None:
    inside = published / "{{cookiecutter.project_slug}}"
    settings = inside / "app/settings.py"
    settings.write_text(settings.read_text() + "\n# new in the template\n")
    license = inside / "LICENSE"
    license.write_text(license.read_text() + "{{ cookiecutter.project_name }}\n")
    (inside / "app/bot/news.py").write_text("# a part that this project does not have\n")
    (inside / "app/storage/news.py").write_text("# a new file\n")
    commit(published)
    dockerfile = project / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + "# the owner's own line\n")
    commit(project)

    done = run(BIN / "cruft", "update", "--skip-apply-ask", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "up to date" not in done.stdout
    files = tree(project)
    assert not [name for name, content in files.items() if name.endswith(".rej") or b"<<<<<<<" in content]
    assert files["app/settings.py"].endswith(b"# new in the template\n")
    assert files["LICENSE"].endswith('Клуб "Ёлка"\n'.encode())
    assert files["Dockerfile"].endswith(b"# the owner's own line\n")
    assert "app/storage/news.py" in files
    assert not [name for name in files if name.startswith("app/bot")]


def test_making_it_again_over_itself_changes_nothing(template: Path, tmp_path: Path) -> None:
    """Hooks only delete, and only what the template brought: what the owner added stays."""

    def make() -> Path:
        return Path(
            cookiecutter(str(template), no_input=True, extra_context=ANSWERS, output_dir=str(tmp_path), overwrite_if_exists=True)
        )

    project = make()
    before = tree(project)
    own = {".github/workflows/own.yml": b"own", ".env": b"A=1\n", "secrets/vk_token": b"secret", "data/desk.db": b"data"}
    for name, content in own.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    assert make() == project
    assert tree(project) == before | own
