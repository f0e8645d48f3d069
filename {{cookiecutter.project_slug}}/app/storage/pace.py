"""One pace for all who call VK with the same token, in whatever process: so many turns in so many seconds."""

import time

from sqlalchemy import ColumnElement, Engine, Float, Row, case, extract, func, literal, select, text, update
from sqlalchemy.orm import Session

from app.storage.engine import insert_new
from app.storage.models import Ticket

LONGEST_QUEUE = 60.0  # seconds; a ticket that is taken for longer was not taken: a clock was wrong


class Turns:
    """At most `count` turns in any `window` seconds.

    There are so many tickets, and each can be used again after a window. The database has them, and goes by one clock:
    PostgreSQL's own, or that of the machine that a SQLite file is on.
    """

    def __init__(self, engine: Engine, name: str, count: int, window: float) -> None:
        self._engine = engine
        self._name = name
        self._count = count
        self._window = window

    def take(self) -> None:
        """Return when it is this caller's turn."""
        with Session(self._engine) as session, session.begin():
            if self._engine.dialect.name == "postgresql":
                # nobody waits for the disk: a turn that a crash of the database forgets is long over when it is back
                session.execute(text("SET LOCAL synchronous_commit TO off"))
            turn = self.reserve(session)
        time.sleep(max(0.0, turn - time.monotonic()))

    def reserve(self, session: Session) -> float:
        """When it will be the caller's turn, by `time.monotonic`; the caller's transaction should be over by then."""
        while (ticket := self._use_ticket(session)) is None:
            insert_new(session, Ticket, [{"name": self._name, "number": n, "free_at": 0.0} for n in range(self._count)])
        turn, at = ticket
        return time.monotonic() + turn - at

    def _use_ticket(self, session: Session) -> Row[float, float] | None:
        """Its turn and this moment, in seconds since 1970; None before the first of all."""
        session.connection()  # on SQLite it waits here for the other writers, and looks at the clock after them
        at: ColumnElement[float] = literal(time.time(), Float)
        ours = Ticket.name == self._name
        next_free = select(Ticket.number).where(ours).order_by(Ticket.free_at).limit(1).with_for_update(skip_locked=True)
        used = update(Ticket).where(ours, Ticket.number == next_free.scalar_subquery())
        if self._engine.dialect.name == "postgresql":
            at = extract("epoch", func.clock_timestamp()).cast(Float)
        turn = case((Ticket.free_at.between(at, at + LONGEST_QUEUE), Ticket.free_at), else_=at)
        return session.execute(
            used.values(free_at=turn + self._window).returning(Ticket.free_at - self._window, at),
            execution_options={"synchronize_session": False},
        ).one_or_none()
