"""deliver: the outbox to VK. A stored `random_id` makes a repeat harmless, so what was not surely sent is sent again."""

import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from queue import LifoQueue

import structlog
from sqlalchemy import Engine, bindparam, exists, select, update
from sqlalchemy.orm import Session, aliased

from app.bot.loops import Bot
from app.bot.vk import Fault, SendResult, Vk, VkError
from app.storage.models import Delivery, DeliveryState, Message, Person, now
from app.storage.pace import Turns
from app.storage.queues import claim_deliveries
from app.storage.wake import Channel, Waiter, wake

log = structlog.get_logger()

BATCH = 25  # calls that VK takes in one `execute`
LINES = 8  # `execute`s under way at once: enough for VK's rate while none takes longer than 400 ms
TOO_MANY = 6  # VK's code for too many requests in a second
TRIES = 3  # of a request that VK finds one too many
_known = aliased(Message)
_is_known = exists().where(_known.conversation_id == Message.conversation_id, _known.cmid == bindparam("number"))
NUMBER = update(Message).where(Message.id == bindparam("message"), ~_is_known).values(cmid=bindparam("number"))
SENT = (
    update(Delivery)
    .where(Delivery.id.in_(bindparam("rows", expanding=True)), Delivery.state != DeliveryState.SENT)
    .values(state=DeliveryState.SENT, sent_at=bindparam("now"), error=None, error_code=None)
)
UNSEEN = {"synchronize_session": False}  # the rows in Python's memory are not looked at again
AHEAD = 0.1  # seconds before its turn at which a batch is claimed, at the earliest
LEASE = timedelta(seconds=20)  # longer than a call may take; then another worker takes a dead one's rows over
SOON, LATER = 1.0, 60.0  # seconds before the second try: after a mishap, and when VK wants to be left alone
REPEATABLE = timedelta(minutes=55)  # VK remembers a random_id for an hour


def deliver(bot: Bot) -> Generator[bool]:
    """Send for ever, over several lines at once. Several of these may run, in threads or processes."""
    turns, lines = bot.turns(), LifoQueue[Vk]()
    for _ in range(LINES):
        lines.put(bot.vk())
    under_way: set[Future[None]] = set()
    with ThreadPoolExecutor(LINES, "bot.deliver") as pool, Waiter(bot.engine, Channel.OUTBOX) as waiter:
        while True:
            done, under_way = wait(under_way, 1 if len(under_way) >= LINES else 0, FIRST_COMPLETED)
            for call in done:
                call.result()
            if len(under_way) < LINES:
                rows, turn = _claim(bot.engine, turns)
                # a file takes its time, for which the other messages do not wait
                under_way |= {pool.submit(_deliver, bot.engine, lines, [row], 0.0) for row in rows if row.upload}
                batch = [row for row in rows if not row.upload]
                if batch:
                    under_way.add(pool.submit(_deliver, bot.engine, lines, batch, turn))
                if 0 < len(batch) < BATCH:
                    # what comes until shortly before the next turn goes together
                    bot.stop.wait(turn - AHEAD - time.monotonic())
                if not rows:
                    waiter.wait(1)
            yield bool(done) or not under_way


def _claim(engine: Engine, turns: Turns) -> tuple[Sequence[Delivery], float]:
    """What is due, up to a batch, and when it may be sent. Some of it may be left for a person to decide."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        rows = [row for row in claim_deliveries(session, BATCH, LEASE) if not _hold(row, now())]
        return rows, turns.reserve(session) if rows else 0.0


def _deliver(engine: Engine, lines: LifoQueue[Vk], rows: Sequence[Delivery], turn: float) -> None:
    """Send claimed `rows` when it is their `turn`. Raises `VkError` when VK cannot be used at all just now."""
    vk = lines.get()
    try:
        time.sleep(max(0.0, turn - time.monotonic()))
        results = _upload(engine, vk, rows) or _send(vk, rows)
    except VkError as error:
        with Session(engine) as session, session.begin():
            for row, _ in _still_ours(session, dict.fromkeys(rows, error)):
                postpone(row, error, now())
        raise
    finally:
        lines.put(vk)
    for row, result in zip(rows, results, strict=True):
        if row.request_id:  # an operator's; the same number stands in the web's log and in the audit trail
            log.info("delivery", request_id=row.request_id, message=row.message_id, problem=_problem(result))
    with Session(engine) as session, session.begin():
        outcome = list(zip(rows, results, strict=True))
        _note_sent(session, {row: cmid for row, cmid in outcome if not isinstance(cmid, VkError)})
        for row, why in _still_ours(session, {row: why for row, why in outcome if isinstance(why, VkError)}):
            settle(row, why, now())
            if why.fault is Fault.PEER:
                session.execute(update(Person).where(Person.vk_id == row.peer_id).values(reachable=False))
        wake(session, Channel.INBOX)
        wake(session, Channel.OUTBOX)  # the next message of a peer has waited for this one


def _hold(row: Delivery, at: datetime) -> bool:
    """Whether VK may have `row` already and would no longer notice a repeat; then a person has to decide."""
    if row.first_tried_at is None or row.first_tried_at > at - REPEATABLE:
        return False
    row.state = DeliveryState.HELD
    row.error = "VK has not said whether it was sent, and it is too late to repeat it unseen"
    return True


def _upload(engine: Engine, vk: Vk, rows: Sequence[Delivery]) -> list[SendResult]:
    """Give VK the file of a row that has one; what is wrong if that is in the file. A repeat of the row will not do it again."""
    for row in rows:
        if row.upload:
            try:
                row.attachment, row.upload = vk.upload(row.peer_id, row.upload), None
            except VkError as error:
                if error.fault in (Fault.OURS, Fault.PEER):
                    return [error]
                raise
            with Session(engine) as session, session.begin():
                known = update(Delivery).where(Delivery.id == row.id)
                session.execute(known.values(attachment=row.attachment, upload=None), execution_options=UNSEEN)
            vk.take_turn()
    return []


def _send(vk: Vk, rows: Sequence[Delivery]) -> list[SendResult]:
    """A result for each row. Raises `VkError` when the fault lies in none of them."""
    try:
        results = _send_patiently(vk, rows)
    except VkError as error:
        if error.code == TOO_MANY:
            return [error] * len(rows)  # somebody else calls with our token: later, and the others are not stopped by it
        if error.fault is not Fault.OURS:
            raise
        if len(rows) == 1:
            return [error]
        # one of them spoils the call for all: alone, each gets its own result
        return [_send_alone(vk, row) for row in rows]
    errors = [result for result in results if isinstance(result, VkError)]
    if len(errors) == len(rows) and errors[0].fault is Fault.TOKEN:
        raise errors[0]
    return results


def _send_patiently(vk: Vk, rows: Sequence[Delivery]) -> list[SendResult]:
    """What `vk.send` says. VK counts by its own clock: a call that is one too many for it gets another turn."""
    for _ in range(TRIES - 1):
        try:
            return vk.send(rows)
        except VkError as error:
            if error.code != TOO_MANY:
                raise
        vk.take_turn()
    return vk.send(rows)


def _send_alone(vk: Vk, row: Delivery) -> SendResult:
    vk.take_turn()
    return _send(vk, [row])[0]


def _problem(result: SendResult) -> str | None:
    return str(result) if isinstance(result, VkError) else None


def _note_sent(session: Session, sent: Mapping[Delivery, int | None]) -> None:
    """Mark what was sent, and give the messages their numbers in their dialogs. News of success is good whoever brings it."""
    session.execute(SENT, {"rows": [row.id for row in sent], "now": now()}, execution_options=UNSEEN)
    numbers = [{"message": row.message_id, "number": cmid} for row, cmid in sent.items() if row.message_id and cmid]
    if numbers:
        session.connection().execute(NUMBER, numbers)


def _still_ours(session: Session, failed: Mapping[Delivery, VkError]) -> Iterator[tuple[Delivery, VkError]]:
    """The rows as they are now, without those that another worker has taken over since."""
    claimed = {row.id: (row.attempts, error) for row, error in failed.items()}
    for row in session.scalars(select(Delivery).where(Delivery.id.in_(claimed)).order_by(Delivery.id).with_for_update()):
        attempts, error = claimed[row.id]
        if row.state == DeliveryState.SENDING and row.attempts == attempts:
            yield row, error


def postpone(row: Delivery, error: VkError, at: datetime, pause: timedelta = timedelta(0)) -> None:
    """Put a claimed `row` back into the queue. If this was its first try and it surely failed, it was never tried."""
    claimed_at = row.next_try_at - LEASE
    if row.first_tried_at == claimed_at and not error.unsure:
        row.first_tried_at = None
    row.state, row.next_try_at = DeliveryState.PENDING, at + pause
    row.error, row.error_code = str(error), error.code


def settle(row: Delivery, error: VkError, at: datetime) -> None:
    """Write into a claimed `row` why it was not sent, and when it is tried again."""
    match error.fault:
        case Fault.PEER | Fault.OURS:
            row.state, row.error, row.error_code = DeliveryState.FAILED, str(error), error.code
        case Fault.RETRY:
            postpone(row, error, at, _growing(SOON, row.attempts))
        case Fault.SLOW | Fault.TOKEN:  # others went through with this token, so it is something about this message
            postpone(row, error, at, _growing(LATER, row.attempts))


def _growing(first: float, attempts: int) -> timedelta:
    """`first` seconds, twice as many after each attempt, up to ten minutes, and never the same for all."""
    longest = min(first * 2 ** min(attempts - 1, 10), 600)
    return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311
