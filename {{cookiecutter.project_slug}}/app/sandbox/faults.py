"""What can be made to go wrong, on purpose: the list of faults, with what each does. See docs/sandbox.md for how to use it.

Asked for by `POST /control/faults`; each comes `times` times, or until `DELETE /control/faults`. They are not remembered when
the sandbox is started anew: a restart ends them all.

Faults of a request, `method` being the name in its address, `longpoll` or `upload`; without it, every API method:

- `http`: status `code` (502) with a page in HTML; nothing was done.
- `html`: status 200 with a page in HTML; nothing was done.
- `reset`: the connection ends in the middle of the answer; nothing was done.
- `hang`: nothing for `seconds` (60), then the connection ends; nothing was done.
- `lost`: the work is done and kept, and then the connection ends without the answer, after `seconds` (0).
- `error`: VK's error `code`. Of a method inside an `execute` it stands in `execute_errors`; with `peer_id` it strikes what is
  sent to that peer only.
- `unexplained`: a `method` inside an `execute` is `false`, and `execute_errors` does not say why; nothing was done.

Faults of the long poll's content:

- `failed`: `{"failed": code}`: 1 and 3 events are lost, 2 the key is old, or a number that nobody knows.
- `repeat`: every update stands twice in the answer and, as `ts` stays, comes once more with the next.
- `malformed`: updates that are not in VK's form stand before the others.
- `forget`: VK forgets all events that it had; a `ts` from before is too old then. At once and once, without `times`.
"""

import itertools
import secrets
import threading
import time
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LONGPOLL, UPLOAD = "longpoll", "upload"  # for `method`: what is no API method
LOST = 1  # the value of `failed` that says from which `ts` to go on

Kind = Literal["http", "html", "reset", "hang", "lost", "error", "unexplained", "failed", "repeat", "malformed", "forget"]
OF_A_REQUEST: tuple[Kind, ...] = ("http", "html", "reset", "hang", "lost")


class Fault(BaseModel):
    """One fault, as it is asked for. `times` is how often it comes; None until it is cleared."""

    model_config = ConfigDict(extra="forbid")

    fault: Kind
    method: str | None = Field(None, min_length=1)
    peer_id: int | None = None
    code: int | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0, le=600)
    times: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.fault in ("error", "failed") and self.code is None:
            raise ValueError(f"code is required for {self.fault}")
        if self.fault == "unexplained" and self.method is None:
            raise ValueError("method is required for unexplained")
        return self


class Faults:
    """The faults that were asked for, and how often each has come. Safe to use from many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: dict[int, Fault] = {}
        self._hits: dict[int, int] = {}
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> int:
        """Let it come from now on; returns its number."""
        with self._changed:
            number = next(self._ids)
            self._asked[number], self._hits[number] = fault, 0
            return number

    def clear(self) -> None:
        """End all of them, also for who hangs."""
        with self._changed:
            self._asked.clear()
            self._changed.notify_all()

    def shown(self) -> list[dict[str, Any]]:
        """Each that was asked for, with `hits`: how often it has come."""
        with self._changed:
            return [
                {"id": number, **fault.model_dump(exclude_none=True), "hits": self._hits[number]}
                for number, fault in self._asked.items()
            ]

    def take(self, *kinds: Kind, method: str = LONGPOLL, peer_id: int | None = None) -> Fault | None:
        """The fault of one of `kinds` that this call is to suffer; it counts as come."""
        with self._changed:
            for number, fault in self._asked.items():
                left = fault.times is None or self._hits[number] < fault.times
                if left and fault.fault in kinds and fault.peer_id == peer_id and _concerns(fault, method):
                    self._hits[number] += 1
                    return fault
        return None

    def hold(self, seconds: float) -> None:
        """Return after so long, or when all faults are cleared."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._asked and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)


def _concerns(fault: Fault, method: str) -> bool:
    if fault.method is not None:
        return fault.method == method
    # what does not name a method is for VK's methods; of what the long poll says there is only one kind
    return method not in (LONGPOLL, UPLOAD) or fault.fault not in (*OF_A_REQUEST, "error")


def malformed_updates(group_id: int) -> list[Any]:
    """What no client should stumble over."""

    def update(kind: str, content: Any) -> dict[str, Any]:
        return {"type": kind, "group_id": group_id, "event_id": secrets.token_hex(20), "object": content}

    return [
        None,
        "message_new",
        {},
        update("message_new", {}),
        update("message_new", {"message": {"peer_id": "nobody", "from_id": None, "text": ["a", "\0"]}}),
        update("message_allow", []),
        update("something_that_came_later", {"id": 1}),
    ]
