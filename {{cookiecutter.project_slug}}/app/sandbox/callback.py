"""VK's Callback API: events are sent to an address of the community's own, one after the other, until it says "ok"."""

import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.sandbox import store
from app.sandbox.news import News
from app.sandbox.store import Event, Memory

TIMEOUT = 10.0  # seconds for one answer
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0  # seconds before an event is sent again
NAME = "callback"  # under which it is remembered


class Refusal(Exception):
    """The address did not answer as VK wants it; the text is one line."""


class Server(BaseModel):
    """Where events are sent to. `secret` goes with each; the answer to the first request must be `confirmation`, if it is set."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern=r"^https?://\S+$")
    secret: str = Field("", max_length=50)
    confirmation: str | None = Field(None, min_length=1)


class Callback:
    """Sends what has happened since it was switched on; how far it is, is remembered. `version` gives that of the updates."""

    def __init__(self, engine: Engine, group_id: int, news: News) -> None:
        self._engine = engine
        self._reading = engine.execution_options(read_only=True)
        self._group_id = group_id
        self._news = news
        self._problem: str | None = None
        self._retries = 0
        self._thread: threading.Thread | None = None
        self.version = store.API_VERSION
        if self.is_on():
            self._begin()

    def switch_on(self, server: Server) -> None:
        """Confirm the address, and send it all events from now on. Raises `Refusal`."""
        said = self._post(server, {"type": "confirmation", "group_id": self._group_id}, 0)
        if not said or server.confirmation not in (None, said):
            raise Refusal(f"it does not confirm: it says {said[:100]!r}")
        with Session(self._engine) as session, session.begin():
            value = {**server.model_dump(), "sent": store.newest_event(session)}
            session.merge(Memory(name=NAME, value=value))
        self._begin()
        self._news.tell()

    def switch_off(self) -> None:
        """Send nothing more."""
        with Session(self._engine) as session, session.begin():
            if memory := session.get(Memory, NAME):
                session.delete(memory)
        self._news.tell()

    def is_on(self) -> bool:
        """Whether there is an address to send to."""
        with Session(self._reading) as session:
            return session.get(Memory, NAME) is not None

    def shown(self) -> dict[str, Any]:
        """`{url, waiting, retries, problem}`: how many events are to be sent, and what hinders; url is null when it is off."""
        with Session(self._reading) as session:
            memory = session.get(Memory, NAME)
            if memory is None:
                return {"url": None, "waiting": 0, "retries": 0, "problem": None}
            waiting = session.scalar(select(func.count()).where(Event.id > memory.value["sent"]))
        return {"url": memory.value["url"], "waiting": waiting, "retries": self._retries, "problem": self._problem}

    def _begin(self) -> None:
        with self._news:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="callback", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while todo := self._wait():
            server, event = todo
            update = store.update_object(event, self._group_id, self.version)
            try:
                self._send(server, {**update, **({"secret": server.secret} if server.secret else {})})
            except Refusal as error:
                self._retries, self._problem = self._retries + 1, str(error)
                self._pause(min(FIRST_PAUSE * 2 ** (self._retries - 1), LONGEST_PAUSE))
            else:
                self._retries, self._problem = 0, None
                self._remember(server, event.id)

    def _wait(self) -> tuple[Server, Event] | None:
        """The next event to be sent, as soon as there is one; None when this process ends."""
        with self._news:
            while not self._news.over:
                if todo := self._next():
                    return todo
                self._news.wait()
            return None

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._news:
            while not self._news.over and self.is_on() and (left := end - time.monotonic()) > 0:
                self._news.wait(left)

    def _send(self, server: Server, update: dict[str, Any]) -> None:
        said = self._post(server, update, self._retries)
        if said != "ok":
            raise Refusal(f"it says {said[:100]!r} instead of ok")

    def _next(self) -> tuple[Server, Event] | None:
        with Session(self._reading, expire_on_commit=False) as session:
            memory = session.get(Memory, NAME)
            if memory is None:
                return None
            sent, values = memory.value["sent"], {name: memory.value[name] for name in Server.model_fields}
            event = session.scalar(select(Event).where(Event.id > sent).order_by(Event.id).limit(1))
            return None if event is None else (Server(**values), event)

    def _remember(self, server: Server, sent: int) -> None:
        with Session(self._engine) as session, session.begin():
            memory = session.get(Memory, NAME)
            if memory is not None and memory.value["url"] == server.url:
                memory.value = {**memory.value, "sent": sent}

    def _post(self, server: Server, body: dict[str, Any], retries: int) -> str:
        """What the address answers. Raises `Refusal`."""
        headers = {"Content-Type": "application/json", "User-Agent": "vk-sandbox"}
        if retries:
            headers["X-Retry-Counter"] = str(retries)
        content = json.dumps(body, ensure_ascii=False).encode()
        request = urllib.request.Request(server.url, content, headers)  # noqa: S310 - the model takes http and https only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - as above
                return str(response.read(1000).decode(errors="replace")).strip()
        except urllib.error.HTTPError as error:
            raise Refusal(f"it answers with HTTP status {error.code}") from None
        except (OSError, ValueError) as error:
            raise Refusal(f"it does not answer: {type(error).__name__}") from None
