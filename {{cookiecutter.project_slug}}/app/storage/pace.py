"""One pace for all who call VK with the same token, in whatever process: each takes a turn, and turns are evenly apart."""

import time

from sqlalchemy import ColumnElement, Engine, Float, case, extract, func, literal, update
from sqlalchemy.orm import Session

from app.storage.engine import insert_new
from app.storage.models import Pace

LONGEST_QUEUE = 60.0  # seconds; a turn beyond them was not given: a clock was wrong


class Turns:
    """Turns to call, at most `rate` a second. The database gives them, by one clock: PostgreSQL's own, or this machine's."""

    def __init__(self, engine: Engine, name: str, rate: float) -> None:
        self._engine = engine
        self._name = name
        self._period = 1 / rate

    def take(self) -> None:
        """Return when it is this caller's turn."""
        with Session(self._engine) as session, session.begin():
            wait = self._reserve(session)
            if wait is None:
                insert_new(session, Pace, [{"name": self._name, "next_turn": 0.0}])
                wait = self._reserve(session)
            turn = time.monotonic() + (wait or 0.0)
        time.sleep(max(0.0, turn - time.monotonic()))

    def _reserve(self, session: Session) -> float | None:
        """How many seconds it is until a turn that nobody else gets; None before the first turn of all."""
        at: ColumnElement[float] = literal(time.time(), Float)
        if self._engine.dialect.name == "postgresql":
            at = extract("epoch", func.clock_timestamp()).cast(Float)
        begin = case((Pace.next_turn.between(at, at + LONGEST_QUEUE), Pace.next_turn), else_=at)
        mine = update(Pace).where(Pace.name == self._name).values(next_turn=begin + self._period)
        return session.scalar(
            mine.returning(Pace.next_turn - self._period - at), execution_options={"synchronize_session": False}
        )
