"""receive: the long poll into the inbox. Events and the `ts` that follows them are stored together, or not at all."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session

from app.bot.loops import Bot
from app.bot.vk import Vk, VkError
from app.storage.engine import insert_new
from app.storage.inbox import MESSAGE, add_events
from app.storage.models import Cursor, now
from app.storage.queues import poll_name

log = structlog.get_logger()

REST = 4.0  # times the processor's time that storing took
STANDBY = 5.0  # seconds between two looks whether the leader is gone
POLL_WAIT = 25  # seconds that VK holds a poll without news
FIRST_WAIT = 1  # the first one is short: it shows soon whether polling works
PAGE = 200  # the most that VK gives at once
CLOCKS = timedelta(minutes=10)  # how far VK's clock and ours may be apart
FIRST_START = timedelta(days=1)  # unread messages younger than this are answered when a bot is started for the first time


class DeposedError(Exception):
    """Another process has taken the long poll over."""


def receive(bot: Bot) -> Generator[bool]:
    """Poll and store for ever, as long as no other process does."""
    while bot.settings.vk_transport == "callback":  # VK calls the web instead
        yield True
        bot.stop.wait(STANDBY)
    name = poll_name(bot.settings.vk_group_id)
    with _leadership(bot.engine, name) as leading:
        while not leading():
            bot.stop.wait(STANDBY)
            yield True
        try:
            yield from _Receiver(bot, name).rounds(leading)
        except DeposedError as error:
            log.warning(str(error))
            bot.stop.wait(STANDBY)  # two that took it from each other at once would both receive nothing


@contextmanager
def _leadership(engine: Engine, name: str) -> Iterator[Callable[[], bool]]:
    """Whether this process is the one that receives: a question that is asked again and again.

    On PostgreSQL a lock answers it, which lives and dies with its connection. SQLite serves the processes of one machine,
    where nobody starts a second bot; there, and when a lock is lost unnoticed, the cursor's `epoch` keeps order.
    """
    if engine.dialect.name != "postgresql":
        yield lambda: True
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the pool would keep it, and with it the lock
        lock = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))").bindparams(name=name)
        held = False

        def leading() -> bool:
            nonlocal held
            held = bool(connection.scalar(text("SELECT true") if held else lock))
            return held

        yield leading


class _Receiver:
    """One spell of receiving: from taking the cursor over to the first error."""

    def __init__(self, bot: Bot, name: str) -> None:
        self._bot = bot
        self._vk = bot.vk()
        self._name = name
        self._epoch, self._ts, self._polled_at = self._take_over()
        self._server, self._key = "", ""

    def rounds(self, leading: Callable[[], bool]) -> Generator[bool]:
        newest = self._connect()
        if not self._ts:
            yield from self._fill_gap(newest, now() - FIRST_START, unread_only=True)
        wait, failed_before = FIRST_WAIT, False
        while leading():
            answer = self._vk.poll(self._server, self._key, self._ts, wait)
            failed = answer.get("failed")
            if failed is None:
                with self._bot.resting(REST):
                    self._store(answer["updates"], str(answer["ts"]))
                wait = POLL_WAIT
                yield True
            elif failed_before or failed not in (1, 2, 3):
                raise VkError(f"the long poll does not work (failed: {failed})")
            elif failed == 2:
                self._connect()
            else:
                log.warning("the long poll has lost events; they are looked for in the history")
                newest = str(answer["ts"]) if failed == 1 else self._connect()
                yield from self._fill_gap(newest, self._polled_at - CLOCKS)
            failed_before = failed is not None

    def _take_over(self) -> tuple[int, str, datetime]:
        with Session(self._bot.engine) as session, session.begin():
            insert_new(session, Cursor, [{"name": self._name, "value": ""}])
            # `updated_at` stays: it says when the last poll was
            mine = update(Cursor).where(Cursor.name == self._name).values(epoch=Cursor.epoch + 1, updated_at=Cursor.updated_at)
            epoch, ts, polled_at = session.execute(mine.returning(Cursor.epoch, Cursor.value, Cursor.updated_at)).one()
            return epoch, ts, polled_at

    def _connect(self) -> str:
        """Ask for the server and the key to poll with; returns VK's newest `ts`."""
        server = self._vk.call("groups.getLongPollServer", group_id=self._bot.settings.vk_group_id)
        self._server, self._key = str(server["server"]), str(server["key"])
        return str(server["ts"])

    def _store(self, updates: list[Any], ts: str) -> None:
        """Raises `DeposedError` when another process has taken over: then nothing is stored, for the other has it."""
        with Session(self._bot.engine) as session, session.begin():
            mine = update(Cursor).where(Cursor.name == self._name, Cursor.epoch == self._epoch)
            if session.execute(mine.values(value=ts, updated_at=now()).returning(Cursor.name)).one_or_none() is None:
                raise DeposedError("another process receives now")
            add_events(session, updates)
        self._ts, self._polled_at = ts, now()

    def _fill_gap(self, newest: str, since: datetime, *, unread_only: bool = False) -> Generator[bool]:
        """Store every message since then that the history knows, then `newest`; what is there already is left out.

        `newest` was asked for before the history is read, so nothing falls between the two.
        """
        for conversation in self._conversations(since, unread_only=unread_only):
            messages = list(self._history(conversation["peer"]["id"], since))
            if unread_only:
                messages = _unread(conversation, messages)
            with Session(self._bot.engine) as session, session.begin():
                add_events(session, [{"type": MESSAGE, "object": {"message": message}} for message in reversed(messages)])
            yield False
        self._store([], newest)

    def _conversations(self, since: datetime, *, unread_only: bool) -> Iterator[dict[str, Any]]:
        values = {"group_id": self._bot.settings.vk_group_id, "filter": "unread" if unread_only else "all"}
        for item in _pages(self._vk, "messages.getConversations", values, _last_date, since):
            yield item["conversation"]

    def _history(self, peer_id: int, since: datetime) -> Iterator[dict[str, Any]]:
        values = {"group_id": self._bot.settings.vk_group_id, "peer_id": peer_id}
        for message in _pages(self._vk, "messages.getHistory", values, lambda item: item["date"], since):
            if not message["out"]:
                yield message


def _unread(conversation: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `messages`, newest first, that nobody had read when the conversation was asked for; newer ones are polled.

    They are counted, for in a group chat a message's `id` is 0 and `in_read` says nothing.
    """
    newest, count = conversation["last_conversation_message_id"], conversation.get("unread_count", 0)
    return [message for message in messages if message["conversation_message_id"] <= newest][:count]


def _last_date(item: dict[str, Any]) -> float:
    """When a conversation had its last message; one that was emptied has none."""
    return float(item.get("last_message", {}).get("date", 0))


def _pages(
    vk: Vk, method: str, values: dict[str, Any], date: Callable[[dict[str, Any]], float], since: datetime
) -> Iterator[dict[str, Any]]:
    """The items of a list that is newest first, as far back as `since`."""
    offset = 0
    while True:
        items = vk.call(method, **values, count=PAGE, offset=offset)["items"]
        fresh = [item for item in items if date(item) >= since.timestamp()]
        yield from fresh
        if len(items) < PAGE or not fresh:
            return
        offset += PAGE
