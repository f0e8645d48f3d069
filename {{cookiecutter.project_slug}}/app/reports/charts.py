"""Charts as Vega-Lite specs: one spec serves the browser and the picture. Titles are in the language of the request.

The browser adds the page's own colours and font (`charts.js`); a picture is dark on white. Series keep their colours, which
have a contrast of 3:1 or more on both.
"""

from datetime import date
from itertools import pairwise
from typing import Any, Literal

import altair as alt
import vl_convert
from babel.dates import get_month_names
from babel.units import format_unit, get_unit_name
from flask_babel import format_date, get_locale, gettext

from app.reports.figures import Responses, Traffic

Spec = dict[str, Any]

BLUE, GREY, ORANGE = "#2f7fd6", "#868e96", "#d9730d"
HEIGHT = 260  # pixels
PICTURE_WIDTH, PICTURE_SCALE = 800, 2
UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def messages(days: dict[date, Traffic]) -> Spec:
    """Two bars for each day: what came in, and what went out, by author."""
    people, bot, operators = gettext("People"), gettext("Bot"), gettext("Operators")
    rows = [
        {"day": day.isoformat(), "date": day_name(day), "out": out, "author": author, "count": count}
        for day, traffic in days.items()
        for out, author, count in ((0, people, traffic.people), (1, bot, traffic.bot), (1, operators, traffic.operators))
    ]
    highest = max(max(traffic.people, traffic.out) for traffic in days.values())
    axis = alt.Axis(tickMinStep=1, format=",d")
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar()
        .encode(
            x=_days(),
            xOffset="out:N",
            y=alt.Y("count:Q", title=None, axis=axis, scale=_from_zero(highest)),
            color=_colours({people: BLUE, bot: GREY, operators: ORANGE}, "author:N"),
            tooltip=_tooltip(date=gettext("Day"), author=gettext("Author"), count=gettext("Messages")),
        )
    )
    return _finish(chart, gettext("Messages per day"))


def response(responses: Responses) -> Spec:
    """A line each for the median and the 90th percentile of the waits of a day; a gap where no wait ended."""
    median, p90 = gettext("Median"), gettext("90th percentile")
    longest = max((waits.p90 or 0 for waits in responses.days.values()), default=0)
    unit = next((unit for unit, seconds in UNITS.items() if longest >= 2 * seconds), "minute")
    rows = [
        {
            "day": day.isoformat(),
            "date": day_name(day),
            "share": share,
            "value": None if seconds is None else seconds / UNITS[unit],
            "text": None if seconds is None else duration(seconds),
            "count": waits.count,
        }
        for day, waits in responses.days.items()
        for share, seconds in ((median, waits.median), (p90, waits.p90))
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=alt.OverlayMarkDef(size=40))
        .encode(
            x=_days(),
            y=alt.Y(
                "value:Q", title=get_unit_name(f"duration-{unit}", "long", get_locale()), scale=_from_zero(longest / UNITS[unit])
            ),
            color=_colours({median: BLUE, p90: ORANGE}, "share:N"),
            tooltip=_tooltip(date=gettext("Day"), share=gettext("Figure"), text=gettext("Time"), count=gettext("Answers")),
        )
    )
    return _finish(chart, gettext("Response time per day"))


def picture(spec: Spec) -> bytes:
    """The chart as PNG, with its title, on white."""
    numbers, dates = _locale()
    return vl_convert.vegalite_to_png(
        spec | {"title": spec["description"], "width": PICTURE_WIDTH},
        scale=PICTURE_SCALE,
        format_locale=numbers,
        time_format_locale=dates,
        allowed_base_urls=[],
    )


def day_name(day: date) -> str:
    """A day as people read it, in the language of the request: "Tue, 24 November"."""
    return str(format_date(day, "EEE, d MMMM"))


def duration(seconds: float) -> str:
    """Its largest unit and the next smaller one, in the language of the request: "2 h 5 min"."""
    steps = list(pairwise(UNITS.items()))
    (unit, size), (smaller, part) = next((step for step in steps if seconds >= step[0][1]), steps[-1])
    numbers = {unit: int(seconds // size), smaller: int(seconds % size // part)}
    shown = {unit: number for unit, number in numbers.items() if number} or {"second": 0}
    return " ".join(format_unit(number, f"duration-{unit}", "short", locale=get_locale()) for unit, number in shown.items())


def _days() -> alt.X:
    return alt.X("utcyearmonthdate(day):O", title=None, axis=alt.Axis(format="%-d %b", labelAngle=0, labelOverlap=True))


def _from_zero(highest: float) -> alt.Scale:
    """An axis up to `highest`, which has round ticks also where there is nothing or next to nothing to show."""
    return alt.Scale(domain=[0, max(highest, 4)], nice=True)


def _colours(colours: dict[str, str], field: str) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(field, scale=scale, legend=alt.Legend(title=None, orient="top"))


def _tooltip(**titles: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]


def _locale() -> tuple[dict[str, Any], dict[str, Any]]:
    """d3's words for numbers and for dates. d3 has Russian months in the genitive, which is wrong without a day beside them."""
    locale = get_locale()
    region: Literal["ru-RU", "en-US"] = "ru-RU" if locale.language == "ru" else "en-US"
    months = get_month_names("wide", context="stand-alone", locale=locale)
    return vl_convert.get_format_locale(region), vl_convert.get_time_format_locale(region) | {
        "months": [months[number] for number in range(1, 13)]
    }


def _finish(chart: alt.Chart, description: str) -> Spec:
    numbers, dates = _locale()
    chart = chart.properties(width="container", height=HEIGHT, description=description)
    chart = chart.configure_view(stroke=None).configure_axisX(grid=False)
    chart = chart.configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal").configure_legend(labelFontSize=13)
    usermeta = {"embedOptions": {"formatLocale": numbers, "timeFormatLocale": dates}}
    return chart.properties(usermeta=usermeta).to_dict()
