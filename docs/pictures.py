"""Takes the README's pictures of a running project, in both languages: `make pictures`."""

import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
# who writes what; the last of them is answered
STORIES: dict[str, dict[str, Any]] = {
    "ru": {
        "people": {
            "Игорь Лебедев": ["Здравствуйте", "Можно ли вернуть куртку, если не подошёл размер? Бирка на месте."],
            "Мария Ким": ["Добрый день", "Хочу предложить вам совместный вечер настольных игр"],
            "Олег Ветров": ["Привет", "Не проходит покупка, сайт пишет «отказ банка»"],
            "Анна Орлова": ["Начать", "Где мой заказ № 1207? Обещали вчера, а никто так и не позвонил."],
        },
        "answer": "Анна, здравствуйте! Заказ уже в городе, позвоним сегодня до шести. Простите за ожидание.",
        "thanks": "Спасибо большое, жду!",
    },
    "en": {
        "people": {
            "Igor Brown": ["Hello", "Can I return a jacket that does not fit? The tag is still on."],
            "Mary Kim": ["Good afternoon", "I would like to propose an evening of board games together"],
            "Oliver Wood": ["Hi", "My purchase fails, the site says: declined by the bank"],
            "Anna Orlova": ["Start", "Where is my order 1207? It was due yesterday and nobody has called."],
        },
        "answer": "Hello Anna! Your order is in town, we will call before six today. Sorry for the wait.",
        "thanks": "Thank you very much!",
    },
}


def main() -> None:
    """Make a project, run it in each language, and look at it."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        project = cookiecutter(str(ROOT), no_input=True, default_config=True, output_dir=folder)
        sys.path.insert(0, project)
        from tests.e2e.stack import Processes  # noqa: PLC0415 - of the project that was made just now

        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for language, story in STORIES.items():
            stack = Processes(Path(folder) / language)
            settings = stack.folder / ".env"
            settings.write_text(settings.read_text().replace("APP_LANGUAGE=ru", f"APP_LANGUAGE={language}"))
            stack.start()
            page = browser.new_page(viewport={"width": 1200, "height": 720}, device_scale_factor=1.5)
            take(stack, page, story, ROOT / "docs/images" / language)
            stack.stop()


def take(stack: Any, page: Page, story: dict[str, Any], images: Path) -> None:
    """Let people write, answer one of them, and keep what the pages look like."""
    from app.storage.engine import make_engine  # noqa: PLC0415
    from sqlalchemy import make_url, text  # noqa: PLC0415
    from tests.e2e.stack import eventually  # noqa: PLC0415
    from tests.histories import believable  # noqa: PLC0415

    images.mkdir(parents=True, exist_ok=True)
    engine = make_engine(make_url(f"sqlite:///{stack.folder}/data/desk.db"))
    believable(engine, datetime.now(UTC), 30)
    with engine.begin() as connection:  # a past for the reports only: nobody is known by name in it
        connection.execute(text("UPDATE conversation SET status = 'closed', peer_id = peer_id + 1000000"))

    for name, texts in story["people"].items():
        person = stack.new_person(*name.split())
        for said in texts:
            number = stack.write(person, said)
            eventually(lambda person=person, number=number: stack.answers(person, after=number), f"an answer for {name}")

    page.goto(stack.web)
    page.fill("[name=login]", "admin")
    page.fill("[name=password]", stack.password)
    page.locator("[name=password]").press("Enter")
    row = page.locator("#inbox [data-conversation]").first
    row.wait_for()
    page.screenshot(path=images / "inbox.png")

    row.click()
    page.fill("textarea[name=text]", story["answer"])
    page.locator("form:has(textarea[name=text]) [type=submit]").first.click()
    eventually(lambda: story["answer"] in [answer["text"] for answer in stack.answers(person)], "the answer arrives")
    stack.write(person, story["thanks"])
    page.locator("#thread article", has_text=story["thanks"]).wait_for()
    page.goto(f"{stack.web}/?view=mine")
    page.locator("#inbox [data-conversation]").first.click()
    page.locator("#thread article", has_text=story["thanks"]).wait_for()
    time.sleep(4)  # until the page has asked what became of the answer
    page.screenshot(path=images / "conversation.png")

    page.set_viewport_size({"width": 1200, "height": 820})
    page.goto(f"{stack.web}/reports/")
    page.locator("#chart-response svg").wait_for()
    page.screenshot(path=images / "reports.png")

    page.set_viewport_size({"width": 1200, "height": 720})
    page.goto(stack.sandbox)
    page.locator("#people >> text=" + name.split()[0]).last.click()
    page.locator("#thread article", has_text=story["thanks"]).wait_for()
    page.screenshot(path=images / "sandbox.png")


if __name__ == "__main__":
    main()
