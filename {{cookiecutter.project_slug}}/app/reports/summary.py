"""The whole report of a period as a document: the main figures, and each chart with what is said about it and its table."""

from babel.dates import format_interval
from flask_babel import format_datetime, format_decimal, get_locale, gettext
from sqlalchemy import Connection

from app.reports import charts, figures
from app.reports.documents import Document, Section
from app.reports.figures import Period
from app.settings import Settings
from app.storage.models import now


def document(connection: Connection, settings: Settings, period: Period) -> Document:
    """The report, in the language that is set."""
    traffic = figures.traffic(connection, period)
    responses = figures.responses(connection, period)
    total = sum(traffic.values(), figures.Traffic())
    messages = [
        [charts.day_name(day), *map(format_decimal, (day_traffic.people, day_traffic.bot, day_traffic.operators))]
        for day, day_traffic in traffic.items()
    ]
    waits = [
        [charts.day_name(day), str(format_decimal(of_day.count)), _time(of_day.median), _time(of_day.p90)]
        for day, of_day in responses.days.items()
    ]
    return Document(
        title=settings.app_name,
        subtitle=gettext("%(interval)s, time zone %(zone)s", interval=interval(period), zone=period.zone.key),
        made=gettext("Made on %(time)s", time=format_datetime(now().astimezone(period.zone), "d MMMM y, HH:mm", rebase=False)),
        language=str(get_locale()),
        figures=[
            (gettext("Messages in"), str(format_decimal(total.people))),
            (gettext("Messages out"), str(format_decimal(total.out))),
            (gettext("Median response time"), _time(responses.total.median)),
            (gettext("Open conversations now"), str(format_decimal(figures.backlog(connection).count))),
        ],
        sections=[
            Section(
                gettext("Messages per day"),
                chart=charts.messages(traffic),
                head=[gettext("Day"), gettext("People"), gettext("Bot"), gettext("Operators")],
                rows=messages,
            ),
            Section(
                gettext("Response time per day"),
                chart=charts.response(responses),
                head=[gettext("Day"), gettext("Answers"), gettext("Median"), gettext("90th percentile")],
                rows=waits,
            ),
        ],
    )


def interval(period: Period) -> str:
    """The days of the period as people write them."""
    return str(format_interval(period.first, period.last, "yMMMMd", locale=get_locale()))


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else charts.duration(seconds)
