"""Keeps the sums ready that all figures are read from (`Figure`), so that a report costs the same however long the history is.

Triggers mark what changes in the very transaction that changes it (`app/storage/triggers.py`). A mark is visible when its
change is, so whoever takes a mark sees the change, in whatever order transactions end. Marks become dirty hours, and a dirty
hour is counted anew from what is there: after a crash it is counted once more and nothing twice. A dump holds sums and marks
of the same moment, so that a restored database goes on where it was.

Metrics, each for everything and, where it can be, for single topics and operators (`Figure.of`):

    in, bot, out        messages by people, by the bot, by operators, when they were written
    response            waits for an operator's answer, by `tables.bucket`, when they ended: see `_waits`
    opened              requests that were handed over to the operators
    resolution          requests that were closed, by `tables.bucket` of how long they took
    open                requests that are open at the end of the hour, by `tables.age`; a day has those of its last hour
    failed              deliveries that VK refused, by its error code
    new, returning      people who wrote on a day; a week has the sum of its days

Messages count under the topic that their conversation has now, requests under their own.

A *wait* is the time a person waits for an operator, in seconds. It begins with the message to which the bot replied last (the
one with which the bot handed the conversation over), or, if the bot has said nothing since the last operator's message, with
the first message the person wrote since then. It ends with the operator's answer. The bot's own answers end no wait, and
neither does an operator's second message in a row.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import (
    BigInteger,
    Engine,
    Select,
    case,
    column,
    delete,
    exists,
    extract,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    values,
)
from sqlalchemy.orm import Session, aliased

from app.reports.state import OPERATOR, TOPIC, Step
from app.reports.tables import age, bucket
from app.storage.engine import insert_new
from app.storage.models import (
    Author,
    Changed,
    Conversation,
    Delivery,
    DeliveryState,
    DirtyHour,
    Figure,
    Message,
    Request,
    Rollup,
    UtcDateTime,
    now,
)
from app.storage.queues import word

log = structlog.get_logger()

VERSION = 1  # raise it when figures are counted otherwise than before: they are made anew then
HOUR = timedelta(hours=1)
MARKS = 5_000  # that are taken in one transaction
AT_ONCE = 48  # hours that are counted in one transaction: none may take long, as SQLite has one writer
PAUSE = 2.0  # seconds between two looks
SIGN = timedelta(seconds=10)  # between two notes that nothing was left to do

METRIC = {Author.PERSON: "in", Author.BOT: "bot", Author.OPERATOR: "out"}
SUMMED = ("in", "bot", "out", "response", "opened", "resolution", "failed")
OF_DAYS = ("new", "returning")

T = TypeVar("T")
Sums = Counter[tuple[str, str, datetime, int]]  # (metric, of, at, bucket) → how many
Progress = Callable[[int, int], None]  # hours that are left, of how many


class Calendar:
    """Cuts time as the clocks of `zone` show it, into hours, days and weeks. What it answers is in UTC."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone

    def hour(self, moment: datetime) -> datetime:
        """When the hour of `moment` begins; zones are shifted by quarters of an hour, too."""
        local = moment.astimezone(self.zone)
        return moment.astimezone(UTC) - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)

    def hours(self, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Each hour from the one of `begin` to the one of `end`."""
        hour = self.hour(begin)
        while hour <= end:
            yield hour
            hour = self.hour(hour + HOUR)

    def span(self, step: Step, moment: datetime) -> tuple[datetime, datetime]:
        """When the day or the week of `moment` begins, and when the next one does."""
        day = moment.astimezone(self.zone).date()
        length = 1
        if step == Step.WEEK:
            day, length = day - timedelta(days=day.weekday()), 7
        begin, end = (datetime.combine(day + timedelta(days=number), clock.min, self.zone) for number in (0, length))
        return begin.astimezone(UTC), end.astimezone(UTC)


def keep(engine: Engine, zone: ZoneInfo) -> None:
    """Follow what changes, until something is wrong with the database. `engine` may write."""
    while True:
        if _behind(engine, zone):
            catch_up(engine, zone)
        time.sleep(PAUSE)


def catch_up(engine: Engine, zone: ZoneInfo, progress: Progress | None = None) -> None:
    """Count all that is marked. Any number of processes may do it at a time; they take turns."""
    calendar = Calendar(zone)
    _begin(engine, calendar)
    while _work(engine, lambda session, rollup: _take_marks(session, rollup, calendar)):
        pass
    while left := _work(engine, lambda session, rollup: _count_some(session, rollup, calendar)):
        if progress:
            progress(*left)


def rebuild(engine: Engine, zone: ZoneInfo, progress: Progress | None = None) -> None:
    """Count everything anew, the newest hour first. Figures can be read meanwhile; if it is stopped, the next goes on."""
    with Session(engine) as session, session.begin():
        for rollup in session.scalars(select(Rollup).with_for_update()):
            rollup.hour = None
    catch_up(engine, zone, progress)


def lag(session: Session) -> tuple[timedelta, int, int]:
    """How old the figures are, and how many hours are left to count, of how many."""
    rollup = session.get(Rollup, 1)
    since = now() - rollup.fresh_at if rollup and rollup.fresh_at else timedelta.max
    left = session.scalar(select(func.count()).select_from(DirtyHour)) or 0
    return since, left, max(rollup.hours if rollup else 0, left)


def _behind(engine: Engine, zone: ZoneInfo) -> bool:
    """Whether there is anything to do. Asked without a lock, as on SQLite everybody would wait for it."""
    with Session(engine.execution_options(read_only=True)) as session:
        rollup = session.get(Rollup, 1)
        if rollup is None or rollup.definition != _definition(zone) or rollup.hour is None:
            return True
        stale = rollup.fresh_at is None or rollup.fresh_at < now() - SIGN
        marked = session.scalar(select(or_(exists(select(Changed.id)), exists(select(DirtyHour.at)))))
        return stale or bool(marked) or rollup.hour != Calendar(zone).hour(now())


def _definition(zone: ZoneInfo) -> str:
    return f"{VERSION} {zone.key}"


def _work(engine: Engine, work: Callable[[Session, Rollup], T]) -> T:
    """Do a piece of work in a transaction of its own, while no other process does one."""
    with Session(engine) as session, session.begin():
        return work(session, session.scalars(select(Rollup).with_for_update()).one())


def _begin(engine: Engine, calendar: Calendar) -> None:
    """See that changes are marked, and, if nothing was counted yet or otherwise than now, that all that is there will be."""
    with Session(engine) as session, session.begin():
        insert_new(session, Rollup, [{"id": 1, "definition": "", "hours": 0}])
        rollup = session.scalars(select(Rollup).with_for_update()).one()
        if rollup.definition != _definition(calendar.zone):
            session.execute(delete(Figure))
            rollup.definition, rollup.hour, rollup.fresh_at = _definition(calendar.zone), None, None
        if rollup.hour is not None:
            return
    if engine.dialect.name == "postgresql":
        _let_end_what_did_not_mark(engine)
    _work(engine, lambda session, rollup: _take_up_everything(session, rollup, calendar))


def _let_end_what_did_not_mark(engine: Engine) -> None:
    """Wait for the transactions that may have written before there was a row of `Rollup`: of what they wrote there is no mark."""
    newest = text("SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)")
    oldest = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        limit = connection.scalar(newest)
        while connection.scalar(oldest) < limit:
            time.sleep(0.1)


def _take_up_everything(session: Session, rollup: Rollup, calendar: Calendar) -> None:
    if rollup.hour is not None:
        return  # another process did
    at = now()
    refused = select(func.min(Delivery.next_try_at)).where(Delivery.state == word(DeliveryState.FAILED))
    begun = (select(func.min(Message.created_at)), select(func.min(Request.opened_at)), refused)
    firsts = [moment for query in begun if (moment := session.scalar(query))]
    last = session.scalar(select(func.max(Message.created_at)))
    first, last = min(firsts, default=at), max(last or at, at)
    session.execute(delete(Figure).where(or_(Figure.at < calendar.span(Step.WEEK, first)[0], Figure.at > last)))
    hours = list(calendar.hours(first, last))
    _soil(session, hours)
    rollup.hour, rollup.hours = calendar.hour(at), len(hours)
    log.info(f"counting {len(hours)} hours anew")


def _soil(session: Session, hours: Iterable[datetime]) -> None:
    rows = [{"at": hour} for hour in set(hours)]
    for begin in range(0, len(rows), MARKS):
        insert_new(session, DirtyHour, rows[begin : begin + MARKS])


def _take_marks(session: Session, rollup: Rollup, calendar: Calendar) -> bool:
    """Turn marks, and the hours that have passed, into dirty hours. Whether there may be more."""
    at = now()
    oldest = select(Changed.id).order_by(Changed.id).limit(MARKS)
    taken = delete(Changed).where(Changed.id.in_(oldest)).returning(*Changed.__table__.c)
    marks = session.execute(taken).all()
    hours: set[datetime] = set()
    for mark in marks:
        if mark.at is not None:
            hours.update(calendar.hours(mark.at, min(mark.until or mark.at, max(at, mark.at))))
    written = [(mark.conversation_id, mark.message_id) for mark in marks if mark.message_id is not None]
    hours.update(map(calendar.hour, _next_in_turn(session, written)))
    renamed = [mark.conversation_id for mark in marks if mark.at is None]
    for begin in range(0, len(renamed), MARKS):
        of_them = select(Message.created_at).where(Message.conversation_id.in_(renamed[begin : begin + MARKS]))
        hours.update(map(calendar.hour, session.scalars(of_them)))
    current = calendar.hour(at)
    if rollup.hour is not None and rollup.hour != current:
        # later than now, if a clock was wrong: what was counted of that time was nothing
        hours.update(calendar.hours(*sorted((rollup.hour, current))))
        rollup.hour = current
    _soil(session, hours)
    return len(marks) == MARKS


def _next_in_turn(session: Session, written: Sequence[tuple[int, int]]) -> Iterator[datetime]:
    """The times of the messages to which a change of these (conversation, message) makes a difference.

    That is the operator's answer that ends the wait they are in, and the person's message that is the first without them.
    """
    if not written:
        return
    marks = values(column("conversation_id", BigInteger), column("id", BigInteger), name="marks").data(written).cte("marks")
    nexts = [
        select(Message.created_at)
        .where(Message.conversation_id == marks.c.conversation_id, Message.id > marks.c.id, Message.author == author)
        .order_by(Message.id)
        .limit(1)
        .correlate(marks)
        .scalar_subquery()
        for author in (Author.PERSON, Author.OPERATOR)
    ]
    for row in session.execute(select(*nexts).select_from(marks)):
        yield from filter(None, row)


def _count_some(session: Session, rollup: Rollup, calendar: Calendar) -> tuple[int, int] | None:
    """Count some dirty hours, the newest first, with their days and weeks. How many are left, of how many; None without any."""
    newest = select(DirtyHour.at).order_by(DirtyHour.at.desc()).limit(AT_ONCE)
    hours = sorted(session.scalars(newest))
    if not hours:
        rollup.fresh_at, rollup.hours = now(), 0
        return None
    at = now()
    sums: Sums = Counter()
    for run in _runs(hours):
        sums.update(_happened(session, run[0], calendar.hour(run[-1] + HOUR), calendar))
        sums.update(_left_open(session, run, at))
    _write(session, Step.HOUR, hours, sums)
    for step in (Step.DAY, Step.WEEK):
        for begin, end in sorted({calendar.span(step, hour) for hour in hours}):
            _write(session, step, [begin], _people(session, begin, end) if step == Step.DAY else Counter())
            _sum_up(session, step, (begin, end), min(calendar.hour(at), calendar.hour(end - timedelta(microseconds=1))))
    session.execute(delete(DirtyHour).where(DirtyHour.at.in_(hours)))
    left = session.scalar(select(func.count()).select_from(DirtyHour)) or 0
    return left, max(rollup.hours, left + len(hours))


def _happened(session: Session, begin: datetime, end: datetime, calendar: Calendar) -> Sums:
    """What happened in the hours from `begin` to `end`."""
    sums: Sums = Counter()

    def add(metric: str, number: int, topic: str | None, operator_id: int | None, *, at: datetime, n: int = 1) -> None:
        hour = calendar.hour(at)
        parts = ["", *([TOPIC + topic] if topic else []), *([f"{OPERATOR}{operator_id}"] if operator_id else [])]
        for of in parts:
            sums[metric, of, hour, number] += n

    since_1970 = extract("epoch", Message.created_at)
    quarter = since_1970 - since_1970 % 900  # of an hour: there are zones whose hours begin there
    kinds = (quarter, Message.author, Conversation.topic, Message.operator_id)
    written = select(*kinds, func.count()).join(Message.conversation).group_by(*kinds)
    for seconds, author, topic, operator_id, n in session.execute(
        written.where(Message.created_at >= begin, Message.created_at < end)
    ):
        add(METRIC[author], 0, topic, operator_id, at=datetime.fromtimestamp(int(seconds), UTC), n=n)
    for asked, answered, topic, operator_id in session.execute(_waits(begin, end)):
        # VK's clock and ours are not the same
        add("response", bucket(max((answered - asked).total_seconds(), 0)), topic, operator_id, at=answered)
    requests = select(Request.opened_at, Request.closed_at, Request.topic, Request.operator_id)
    for row in session.execute(requests.where(Request.opened_at >= begin, Request.opened_at < end)):
        add("opened", 0, row.topic, None, at=row.opened_at)
    for row in session.execute(requests.where(Request.closed_at >= begin, Request.closed_at < end)):
        took = (row.closed_at - row.opened_at).total_seconds()
        add("resolution", bucket(took), row.topic, row.operator_id, at=row.closed_at)
    refused = select(Delivery.next_try_at, Delivery.error_code).where(
        Delivery.state == word(DeliveryState.FAILED), Delivery.next_try_at >= begin, Delivery.next_try_at < end
    )
    for at, code in session.execute(refused):
        add("failed", code or 0, None, None, at=at)
    return sums


def _waits(begin: datetime, end: datetime) -> Select[datetime, datetime, str | None, int | None]:
    """Rows (asked, answered, topic, operator). A turn is what was written up to and with an operator's message.

    Of a conversation no more is read than the turns that may have ended in this time: it may be years long.
    """
    answers = (
        select(Message.conversation_id, func.min(Message.id).label("first"), func.max(Message.id).label("last"))
        .where(Message.author == Author.OPERATOR, Message.created_at >= begin, Message.created_at < end)
        .group_by(Message.conversation_id)
        .subquery()
    )
    earlier = aliased(Message)
    before = (
        select(earlier.id)
        .where(
            earlier.conversation_id == answers.c.conversation_id,
            earlier.author == Author.OPERATOR,
            earlier.id < answers.c.first,
        )
        .order_by(earlier.id.desc())
        .limit(1)
        .correlate(answers)
        .scalar_subquery()
    )
    # found first, so that it is looked up once for each conversation
    turns = select(answers.c.conversation_id, answers.c.last, func.coalesce(before, 0).label("before")).cte("turns")
    turns = turns.prefix_with("MATERIALIZED")
    lines = (
        select(
            Message.conversation_id,
            Message.author,
            Message.operator_id,
            Message.created_at,
            func.lead(Message.author).over(partition_by=Message.conversation_id, order_by=Message.id).label("next_author"),
            func.count(case((Message.author == Author.OPERATOR, 1)))
            .over(partition_by=Message.conversation_id, order_by=Message.id, rows=(None, -1))
            .label("turn"),
        )
        .join(turns, turns.c.conversation_id == Message.conversation_id)
        .where(Message.id > turns.c.before, Message.id <= turns.c.last)
        .subquery()
    )
    at = lines.c.created_at
    by_person, by_operator = lines.c.author == Author.PERSON, lines.c.author == Author.OPERATOR
    handed_over = func.max(case((by_person & (lines.c.next_author == Author.BOT), at)))
    asked = func.coalesce(handed_over, func.min(case((by_person, at))))
    answered = func.max(case((by_operator, at)))
    return (
        select(asked, answered, Conversation.topic, func.max(case((by_operator, lines.c.operator_id))))
        .join(Conversation, Conversation.id == lines.c.conversation_id)
        .group_by(lines.c.conversation_id, lines.c.turn, Conversation.topic)
        .having(asked.is_not(None), answered >= begin, answered < end)
    )


def _left_open(session: Session, hours: Sequence[datetime], at: datetime) -> Sums:
    """What is open at the end of each of these consecutive hours, or now."""
    sums: Sums = Counter()
    ends = [(hour, min(hour + HOUR, at)) for hour in hours if hour <= at]
    if not ends:
        return sums
    lived = select(Request.opened_at, Request.closed_at, Request.topic).where(
        Request.opened_at < ends[-1][1], or_(Request.closed_at.is_(None), Request.closed_at >= ends[0][1])
    )
    for opened_at, closed_at, topic in session.execute(lived):
        for hour, end in ends:
            if opened_at < end and (closed_at is None or closed_at >= end):
                for of in ("", *([TOPIC + topic] if topic else [])):
                    sums["open", of, hour, age((end - opened_at).total_seconds())] += 1
    return sums


def _people(session: Session, begin: datetime, end: datetime) -> Sums:
    """Who wrote on a day: each once, and whether for the first time."""
    wrote = (
        select(Message.conversation_id, func.min(Message.id).label("first"))
        .where(Message.author == Author.PERSON, Message.created_at >= begin, Message.created_at < end)
        .group_by(Message.conversation_id)
        .subquery()
    )
    first = (
        select(func.min(Message.id))
        .where(Message.conversation_id == wrote.c.conversation_id, Message.author == Author.PERSON)
        .correlate(wrote)
        .scalar_subquery()
    )
    new, everybody = session.execute(select(func.count(case((wrote.c.first == first, 1))), func.count()).select_from(wrote)).one()
    return Counter({key: n for key, n in ((("new", "", begin, 0), new), (("returning", "", begin, 0), everybody - new)) if n})


def _write(session: Session, step: Step, times: Sequence[datetime], sums: Sums) -> None:
    """Put `sums` in the place of all that there was of these times."""
    session.execute(delete(Figure).where(Figure.grain == step, Figure.at.in_(times)))
    rows = [
        {"grain": step, "metric": metric, "of": of, "at": at, "bucket": number, "n": n}
        for (metric, of, at, number), n in sums.items()
    ]
    if rows:
        session.execute(insert(Figure), rows)


def _sum_up(session: Session, step: Step, span: tuple[datetime, datetime], last: datetime) -> None:
    """Add to a day the sums of its hours, to a week those of its days; of what is open, that of its `last` hour."""
    begin, end = span
    kept = ("grain", "metric", "of", "at", "bucket", "n")
    within = (Figure.grain == (Step.HOUR if step == Step.DAY else Step.DAY), Figure.at >= begin, Figure.at < end)
    summed = SUMMED if step == Step.DAY else SUMMED + OF_DAYS
    sums = select(literal(str(step)), Figure.metric, Figure.of, literal(begin, UtcDateTime()), Figure.bucket, func.sum(Figure.n))
    session.execute(
        insert(Figure).from_select(
            kept, sums.where(*within, Figure.metric.in_(summed)).group_by(Figure.metric, Figure.of, Figure.bucket)
        )
    )
    state = select(literal(str(step)), Figure.metric, Figure.of, literal(begin, UtcDateTime()), Figure.bucket, Figure.n)
    session.execute(
        insert(Figure).from_select(
            kept, state.where(Figure.grain == Step.HOUR, Figure.metric == "open", Figure.at == last, Figure.at >= begin)
        )
    )


def _runs(hours: Sequence[datetime]) -> Iterator[list[datetime]]:
    """`hours`, which are in order, in parts without a gap."""
    run: list[datetime] = []
    for hour in hours:
        if run and hour - run[-1] > HOUR:
            yield run
            run = []
        run.append(hour)
    yield run
