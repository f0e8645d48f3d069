"""What tests share: a fresh, migrated database for each, and one browser for all.

The database is SQLite always, and a real PostgreSQL where a Docker engine answers.
"""

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import psycopg
import pytest
from playwright.sync_api import Browser, Error, sync_playwright
from sqlalchemy import Engine, make_url
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config

from app.settings import Settings
from app.storage.engine import make_engine
from app.storage.migrate import migrate

# the fixtures stop what they start; the reaper would be one more image to pull, and it mounts Docker's socket
testcontainers_config.ryuk_disabled = True

POSTGRES = f"{os.environ.get('REGISTRY', '')}postgres:18"


@cache
def docker_problem() -> str | None:
    """None where a Docker engine answers, else why not."""
    try:
        docker.from_env(timeout=5).ping()
    except docker.errors.DockerException as error:
        return f"no Docker engine answers ({type(error).__name__}): start one, or see `make doctor`"
    return None


def need_docker() -> None:
    """Skip without Docker; fail where `REQUIRE_DOCKER=1` promises one."""
    problem = docker_problem()
    if problem and os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)


def make_settings(**values: Any) -> Settings:
    """Settings of a test: nothing from this machine's environment, and every secret set."""
    secrets = {
        name: f"test-{name}-0123456789abcdef0123456789abcdef"
        for name in Settings.model_fields
        if name.endswith(("_key", "_token", "_password", "_secret"))
    }
    return Settings(_env_file=None, **secrets, **values)


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """The address of a migrated PostgreSQL database that nobody is connected to, so that it can be copied."""
    need_docker()
    # a test database need not survive a power cut
    command = "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    with PostgresContainer(POSTGRES, username="owner", dbname="template", driver=None, command=command) as container:
        url = container.get_connection_url()
        migrate(make_settings(database_url=url))
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("template") / "desk.db"
    migrate(make_settings(database_url=f"sqlite:///{file}"))
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings whose database is fresh and migrated, once for each kind of database."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "desk.db")
        yield make_settings(database_url=f"sqlite:///{file}", data_dir=tmp_path)
        return
    template = make_url(request.getfixturevalue("postgres_template"))
    name = f"test_{uuid4().hex}"
    with psycopg.connect(template.set(database="postgres").render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template")
        url = template.set(database=name).render_as_string(hide_password=False)
        yield make_settings(database_url=url, data_dir=tmp_path)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


# for what has nothing to do with the database, or with only one of the two
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("settings", ["postgresql"], indirect=True)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = make_engine(settings.database)
    yield engine
    engine.dispose()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Any]:
    """A running sandbox, `tests.bot.Sandbox`: imported here, for a project without the bot has neither."""
    from tests.bot import Sandbox

    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else the one that `playwright install chromium` brought."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            # as root Chromium has no sandbox; its own calls home are switched off
            options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
            browser = playwright.chromium.launch(executable_path=found, args=options)
        except Error as error:
            problem = (
                f"no Chromium ({error.message.splitlines()[0]}): install your system's, or run `playwright install chromium`"
            )
            if os.environ.get("CI"):
                pytest.fail(problem)
            pytest.skip(problem)
        yield browser
        browser.close()
