"""The figures are what one counts by hand, on both databases."""

import random
import statistics
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from app.reports import figures
from app.reports.figures import Backlog, Period, Traffic, Waits
from app.storage.models import Author
from tests.histories import Line, write

MOSCOW = ZoneInfo("Europe/Moscow")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
PERSON, BOT, OPERATOR = Author.PERSON, Author.BOT, Author.OPERATOR


def wait(engine: Engine, *authors: tuple[Author, int]) -> float | None:
    """The only wait, in minutes, in a conversation whose messages are given as (author, minute)."""
    write(engine, [(1, author, NOON + timedelta(minutes=minute)) for author, minute in authors])
    with engine.connect() as connection:
        total = figures.responses(connection, Period.until(NOON, 2, MOSCOW)).total
    assert total.count <= 1
    return None if total.median is None else total.median / 60


def history(seed: int) -> list[Line]:
    """Conversations without any sense in them, so that every order of authors occurs."""
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    lines: list[Line] = []
    for peer in range(1, 41):
        at = NOON - timedelta(hours=dice.uniform(0, 24 * 45))
        for _ in range(dice.randint(1, 25)):
            lines.append((peer, dice.choices((PERSON, BOT, OPERATOR), (4, 2, 2))[0], at))
            at += timedelta(seconds=dice.choice((0, 1, 40, 900, 20_000, 200_000)) * dice.random())
    return lines


def counted(lines: list[Line], zone: ZoneInfo) -> tuple[Counter[tuple[date, Author]], dict[date, list[float]]]:
    """Messages by day and author, and the waits by day: the definition once more, message by message."""
    messages: Counter[tuple[date, Author]] = Counter()
    waits: dict[date, list[float]] = {}
    first: dict[int, datetime] = {}
    last: dict[int, datetime] = {}
    handed_over: dict[int, datetime] = {}
    for peer, author, at in lines:
        day = at.astimezone(zone).date()
        messages[day, author] += 1
        if author == PERSON:
            first.setdefault(peer, at)
            last[peer] = at
        elif author == BOT and peer in last:
            handed_over[peer] = last[peer]
        elif author == OPERATOR and peer in first:
            waits.setdefault(day, []).append((at - handed_over.get(peer, first[peer])).total_seconds())
            for memory in (first, last, handed_over):
                memory.pop(peer, None)
    return messages, waits


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("zone", ["Europe/Moscow", "Asia/Kathmandu", "America/New_York"])
def test_random_histories_are_counted_as_by_hand(engine: Engine, seed: int, zone: str) -> None:
    lines = history(seed)
    write(engine, lines)
    period = Period.until(NOON, 30, ZoneInfo(zone))
    messages, waits = counted(lines, period.zone)
    with engine.connect() as connection:
        traffic = figures.traffic(connection, period)
        responses = figures.responses(connection, period)
    assert list(traffic) == list(responses.days) == [date(2026, 10, 5) + timedelta(days=number) for number in range(30)]
    assert traffic == {day: Traffic(*(messages[day, author] for author in (PERSON, BOT, OPERATOR))) for day in traffic}
    for day, figure in responses.days.items():
        assert figure.count == len(waits.get(day, []))
    several = {day: figure for day, figure in responses.days.items() if figure.count > 1}
    assert len(several) > 3
    for day, figure in several.items():
        assert figure.median == pytest.approx(statistics.median(waits[day]), abs=0.001)
        assert figure.p90 == pytest.approx(statistics.quantiles(waits[day], n=10, method="inclusive")[8], abs=0.001)
    everything = [second for day in responses.days for second in waits.get(day, [])]
    assert responses.total.count == len(everything) > 20
    assert responses.total.median == pytest.approx(statistics.median(everything), abs=0.001)


def test_a_wait_begins_with_the_message_that_the_bot_handed_over(engine: Engine) -> None:
    assert wait(engine, (PERSON, 0), (BOT, 1), (PERSON, 10), (BOT, 10), (PERSON, 12), (OPERATOR, 25)) == 15


def test_a_wait_under_way_begins_with_the_first_message_after_the_last_answer(engine: Engine) -> None:
    early = -2 * 24 * 60
    assert wait(engine, (PERSON, early), (OPERATOR, early), (PERSON, 10), (PERSON, 12), (OPERATOR, 25)) == 15


def test_the_bot_ends_no_wait_and_a_second_answer_is_none(engine: Engine) -> None:
    assert wait(engine, (PERSON, 0), (BOT, 1), (OPERATOR, 5), (OPERATOR, 9), (PERSON, 20), (BOT, 20)) == 5


def test_an_operator_who_writes_first_has_answered_nobody(engine: Engine) -> None:
    assert wait(engine, (OPERATOR, 0), (PERSON, 5)) is None


def test_a_clock_that_is_ahead_makes_no_negative_wait(engine: Engine) -> None:
    assert wait(engine, (PERSON, 1), (OPERATOR, 0)) == 0


def test_days_are_cut_in_the_projects_zone(engine: Engine) -> None:
    late = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)
    write(engine, [(1, PERSON, late - timedelta(hours=3)), (1, OPERATOR, late)])
    with engine.connect() as connection:
        for zone, people, operators in ((MOSCOW, 2, 3), (ZoneInfo("UTC"), 2, 2), (ZoneInfo("Asia/Tokyo"), 3, 3)):
            period = Period.until(NOON, 3, zone)
            traffic = figures.traffic(connection, period)
            assert [day.day for day in traffic if traffic[day].people] == [people]
            assert [day.day for day in traffic if traffic[day].operators] == [operators]
            answered = figures.responses(connection, period).days
            assert {day.day: waits.count for day, waits in answered.items() if waits.count} == {operators: 1}


def test_a_day_ends_where_the_next_begins_also_when_clocks_change() -> None:
    period = Period.until(datetime(2026, 11, 2, tzinfo=UTC), 3, ZoneInfo("America/New_York"))
    lengths = [
        (period.end(day).astimezone(UTC) - period.begin(day).astimezone(UTC)).total_seconds() / 3600 for day in period.days
    ]
    assert period.last == date(2026, 11, 1)
    assert lengths == [24, 24, 25]


def test_an_empty_database_has_figures_too(engine: Engine) -> None:
    with engine.connect() as connection:
        period = Period.until(NOON, 7, MOSCOW)
        assert figures.traffic(connection, period) == dict.fromkeys(period.days, Traffic())
        assert figures.responses(connection, period).total == Waits(0, None, None)
        assert figures.backlog(connection) == Backlog(0, None)


def test_the_backlog_is_what_is_open(engine: Engine) -> None:
    write(engine, [(3, PERSON, NOON)], {1: NOON - timedelta(hours=5), 2: NOON})
    with engine.connect() as connection:
        assert figures.backlog(connection) == Backlog(2, NOON - timedelta(hours=5))
