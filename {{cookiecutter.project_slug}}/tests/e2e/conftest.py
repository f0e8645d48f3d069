"""Stacks, each started once and shared by the tests that do no harm to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import need_docker
from tests.e2e.stack import Containers, Processes, Stack

ARTIFACTS = Path(__file__).parent / "artifacts"


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Plain processes on SQLite. At the end Ctrl-C must end them all, with exit code 0."""
    stack = Processes(tmp_path_factory.mktemp("processes") / "project")
    stack.start()
    yield stack
    assert stack.stop() == 0, stack.log()


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """The stack in containers, built from this checkout."""
    need_docker()
    stack = Containers(tmp_path_factory.mktemp("containers") / "project")
    stack.stop()
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session", params=["processes", "containers"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The same tests run on both."""
    stack: Stack = request.getfixturevalue(request.param)
    return stack


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A browser window in which the operator has signed in. Fails when the page broke its content security policy or threw."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="ru-RU")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(stack.web)
    page.fill("[name=login]", "admin")
    page.fill("[name=password]", stack.password)
    page.locator("[name=password]").press("Enter")
    page.wait_for_selector("#inbox")
    ARTIFACTS.mkdir(exist_ok=True)
    yield page
    page.screenshot(path=ARTIFACTS / f"{os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].split(' ')[0]}.png", full_page=True)
    context.close()
    assert not complaints
