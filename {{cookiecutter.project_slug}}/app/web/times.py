"""Times as people read them, in the project's time zone."""

from datetime import date, datetime, timedelta

from babel.dates import format_skeleton
from flask_babel import format_date, format_datetime, get_locale, gettext, to_user_timezone

from app.storage.models import now


def today() -> date:
    """The date that the operators' calendar shows."""
    return _local(now()).date()


def clock(at: datetime) -> str:
    """Hours and minutes: 09:05."""
    return f"{_local(at):%H:%M}"


def day(at: datetime) -> str:
    """The day, in words where it is near: Today, Yesterday, November 12."""
    return _day(at, near=gettext("Today"), skeleton="MMMMd", far="long")


def moment(at: datetime) -> str:
    """As short as it can be understood: 09:05, Yesterday, Nov 12, 11/12/24."""
    return _day(at, near=clock(at), skeleton="MMMd", far="short")


def full(at: datetime) -> str:
    """Day, month, year, hours and minutes."""
    return str(format_datetime(at, "d MMMM y, HH:mm"))


def _day(at: datetime, *, near: str, skeleton: str, far: str) -> str:
    local, current = _local(at).date(), today()
    if local == current:
        return near
    if local == current - timedelta(days=1):
        return str(gettext("Yesterday"))
    if local.year == current.year:
        return str(format_skeleton(skeleton, local, locale=get_locale()))
    return str(format_date(at, far))


def _local(at: datetime) -> datetime:
    moved: datetime = to_user_timezone(at)
    return moved
