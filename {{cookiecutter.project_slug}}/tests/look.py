"""What a page looks like: to those who see it, and to those who have it read to them."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it says nothing of types
from playwright.sync_api import Page

ARTIFACTS = Path(__file__).parent / "artifacts"
GRAVE = ("serious", "critical")


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page, to be looked at after the tests: `tests/artifacts/NAME.png`."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")


def assert_accessible(page: Page) -> None:
    """That axe finds nothing serious in the page as it stands: for keyboards, screen readers, and eyes that see less contrast."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    grave = [
        f"{rule['id']}: {rule['help']}\n"
        + "\n".join(f"    {node['html']}\n    {node['failureSummary']}" for node in rule["nodes"][:3])
        for rule in found
        if rule["impact"] in GRAVE
    ]
    assert not grave, f"{page.url}\n" + "\n".join(grave)
