"""deliver: the outbox to VK. A stored `random_id` makes a repeat harmless, so what was not surely sent is sent again."""

import random
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.bot.loops import Bot
from app.bot.vk import Fault, SendResult, Vk, VkError
from app.storage.models import Delivery, DeliveryState, Message, Person, now
from app.storage.queues import claim_deliveries
from app.storage.wake import Channel, Waiter, wake

BATCH = 25  # calls that VK takes in one `execute`
LEASE = timedelta(seconds=20)  # longer than a call may take; then another worker takes a dead one's rows over
REPEATABLE = timedelta(minutes=55)  # VK remembers a random_id for an hour


def deliver(bot: Bot) -> Generator[bool]:
    """Send for ever. Several of these may run at once, in threads or processes."""
    vk = bot.vk()
    with Waiter(bot.engine, Channel.OUTBOX) as waiter:
        while True:
            if not _deliver_some(bot, vk):
                waiter.wait(1)
            yield True


def _deliver_some(bot: Bot, vk: Vk) -> bool:
    """Send what is due, up to a batch; False when nothing is. Raises `VkError` when VK cannot be used at all just now."""
    with Session(bot.engine, expire_on_commit=False) as session, session.begin():
        rows = claim_deliveries(session, BATCH, LEASE)
        sendable = [row for row in rows if not _hold(row, now())]
    if not sendable:
        return bool(rows)
    try:
        results = _send(vk, sendable)
    except VkError as error:
        with Session(bot.engine) as session, session.begin():
            for row, _ in _still_ours(session, sendable, [error] * len(sendable)):
                postpone(row, error, now())
        raise
    with Session(bot.engine) as session, session.begin():
        for row, result in _still_ours(session, sendable, results):
            settle(row, result, now())
            _note(session, row, result)
        wake(session, Channel.INBOX)
    return True


def _hold(row: Delivery, at: datetime) -> bool:
    """Whether VK may have `row` already and would no longer notice a repeat; then a person has to decide."""
    if row.first_tried_at is None or row.first_tried_at > at - REPEATABLE:
        return False
    row.state = DeliveryState.HELD
    row.error = "VK has not said whether it was sent, and it is too late to repeat it unseen"
    return True


def _send(vk: Vk, rows: Sequence[Delivery]) -> list[SendResult]:
    """A result for each row. Raises `VkError` when the fault lies in none of them."""
    try:
        results = vk.send(rows)
    except VkError as error:
        if error.fault is not Fault.OURS:
            raise
        if len(rows) == 1:
            return [error]
        # one of them spoils the call for all: alone, each gets its own result
        return [result for row in rows for result in _send(vk, [row])]
    errors = [result for result in results if isinstance(result, VkError)]
    if len(errors) == len(rows) and errors[0].fault is Fault.TOKEN:
        raise errors[0]
    return results


def _still_ours(
    session: Session, rows: Sequence[Delivery], results: Sequence[SendResult]
) -> Iterator[tuple[Delivery, SendResult]]:
    """The rows as they are now, without those that another worker has taken over since; but news of success is always good."""
    claimed = {row.id: (row.attempts, result) for row, result in zip(rows, results, strict=True)}
    for row in session.scalars(select(Delivery).where(Delivery.id.in_(claimed)).order_by(Delivery.id).with_for_update()):
        attempts, result = claimed[row.id]
        sent = not isinstance(result, VkError) and row.state != DeliveryState.SENT
        if sent or (row.state == DeliveryState.SENDING and row.attempts == attempts):
            yield row, result


def postpone(row: Delivery, error: VkError, at: datetime, pause: timedelta = timedelta(0)) -> None:
    """Put a claimed `row` back into the queue. If this was its first try and it surely failed, it was never tried."""
    claimed_at = row.next_try_at - LEASE
    if row.first_tried_at == claimed_at and not error.unsure:
        row.first_tried_at = None
    row.state, row.next_try_at = DeliveryState.PENDING, at + pause
    row.error, row.error_code = str(error), error.code


def settle(row: Delivery, result: SendResult, at: datetime) -> None:
    """Write into a claimed `row` what became of it."""
    if not isinstance(result, VkError):
        row.state, row.sent_at, row.error, row.error_code = DeliveryState.SENT, at, None, None
        return
    match result.fault:
        case Fault.PEER | Fault.OURS:
            row.state, row.error, row.error_code = DeliveryState.FAILED, str(result), result.code
        case Fault.RETRY:
            postpone(row, result, at, _growing(1, row.attempts))
        case Fault.SLOW | Fault.TOKEN:  # others went through with this token, so it is something about this message
            postpone(row, result, at, _growing(60, row.attempts))


def _growing(first: int, attempts: int) -> timedelta:
    """`first` seconds, twice as many after each attempt, up to ten minutes, and never the same for all."""
    longest = min(first * 2 ** min(attempts - 1, 10), 600)
    return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311


def _note(session: Session, row: Delivery, result: SendResult) -> None:
    """Let the conversation know: the number of its message, or that its person cannot be reached."""
    if isinstance(result, VkError):
        if result.fault is Fault.PEER:
            session.execute(update(Person).where(Person.vk_id == row.peer_id).values(reachable=False))
    elif result is not None and row.message is not None:
        conversation = row.message.conversation_id
        known = select(Message.id).where(Message.conversation_id == conversation, Message.cmid == result)
        if session.scalar(known) is None:
            row.message.cmid = result
