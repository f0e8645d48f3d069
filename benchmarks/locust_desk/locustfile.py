"""An operator at work: the list that asks for news every three seconds, and in between what operators do."""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from locust import HttpUser, between, task
from locust.clients import ResponseContextManager

PASSWORD = os.environ["PASSWORD"]
numbers = itertools.count(1)


class Operator(HttpUser):
    """One of them. htmx's polls and the operator's own doings, taken together, are a request a second or so."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Sign in."""
        self.known: dict[str, str] = {}
        form = {"login": f"operator{next(numbers)}", "password": PASSWORD, "csrf_token": self.token("/login")}
        with self.checked("POST", "/login", "sign in", data=form) as response:
            if 'name="login"' in response.text:
                response.failure("not signed in")

    @contextmanager
    def checked(self, method: str, path: str, name: str, **more: object) -> Iterator[ResponseContextManager]:
        """A request under a common name."""
        with self.client.request(method, path, name=name, catch_response=True, **more) as response:
            yield response

    def token(self, path: str = "/") -> str:
        """What every form needs."""
        with self.checked("GET", path, "page") as response:
            found = re.search(r'name="csrf_token" value="([^"]+)"', response.text)
            self.seen = re.findall(r'data-conversation="(\d+)"', response.text) or getattr(self, "seen", [])
            if not found:
                response.failure("no form")
        return found[1] if found else ""

    def poll(self, path: str, name: str) -> None:
        """Ask for news with the print of what is known."""
        headers = {"HX-Request": "true"} | ({"If-None-Match": self.known[path]} if path in self.known else {})
        with self.checked("GET", path, name, headers=headers) as response:
            self.known[path] = response.headers.get("ETag", "")

    @task(12)
    def look_at_the_list(self) -> None:
        """As htmx does."""
        self.poll("/inbox?view=new", "inbox poll")

    @task(4)
    def look_at_the_thread(self) -> None:
        """As htmx does."""
        if self.seen:
            self.poll(f"/conversations/{self.seen[0]}/thread?since=0", "thread poll")

    @task(3)
    def open_the_list(self) -> None:
        """The whole page."""
        self.token("/?view=all")

    @task(3)
    def answer(self) -> None:
        """Open a conversation and answer."""
        self.do("answers", text="Здравствуйте! Уже смотрю, минуту.", key=os.urandom(8).hex())

    @task(1)
    def take(self) -> None:
        """Make it one's own."""
        self.do("take")

    @task(1)
    def note(self) -> None:
        """For colleagues."""
        self.do("notes", note="Обещала перезвонить", key=os.urandom(8).hex())

    @task(1)
    def close(self) -> None:
        """Done."""
        self.do("close")

    @task(1)
    def search(self) -> None:
        """By words."""
        with self.checked("GET", "/?view=all&q=возврат+куртку", "search"):
            pass

    def do(self, what: str, **form: str) -> None:
        """Open one of the conversations in the list and post one of its forms."""
        if not self.seen:
            return
        address = f"/conversations/{self.seen.pop()}"
        with self.checked("GET", address, "conversation") as response:
            found = re.search(r'name="csrf_token" value="([^"]+)"', response.text)
        if found:
            headers = {"HX-Request": "true"}
            with self.checked("POST", f"{address}/{what}", what, data={"csrf_token": found[1]} | form, headers=headers):
                pass
