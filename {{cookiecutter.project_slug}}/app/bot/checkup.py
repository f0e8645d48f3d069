"""Looks how VK is set up, at the start and whenever an operator asks, and keeps what it finds for the web: that cannot ask VK."""

from collections.abc import Generator
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.bot.check import Finding, findings
from app.bot.loops import Bot
from app.storage.engine import insert_new
from app.storage.models import Checkup, now

NAME = "vk"
PAUSE = 2.0  # seconds between two looks whether somebody asks


def checkup(bot: Bot) -> Generator[bool]:
    """Keep the outcome of `findings` up to date, for ever."""
    with Session(bot.engine) as session, session.begin():
        insert_new(session, Checkup, [{"name": NAME}])
    wanted = True
    while True:
        if wanted:
            _look(bot)
        yield True
        bot.stop.wait(PAUSE)
        wanted = _is_wanted(bot)


def _is_wanted(bot: Bot) -> bool:
    asked = select(Checkup.name).where(Checkup.name == NAME, or_(Checkup.done_at.is_(None), Checkup.asked_at > Checkup.done_at))
    with Session(bot.engine.execution_options(read_only=True)) as session:
        return session.scalar(asked) is not None


def _look(bot: Bot) -> None:
    began = now()  # who asks from here on may have changed something, and gets another look
    found = [_row(finding) for finding in findings(bot.settings, bot.vk)]
    with Session(bot.engine) as session, session.begin():
        session.execute(update(Checkup).where(Checkup.name == NAME).values(done_at=began, found=found))


def _row(finding: Finding) -> dict[str, Any]:
    said = {language: finding.said(language) for language in ("en", "ru")}
    in_words = {language: {"text": check.text, "cure": check.cure} for language, check in said.items()}
    return {"name": finding.name, "right": finding.right, **in_words}
