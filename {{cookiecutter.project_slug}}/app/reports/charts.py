"""Charts as Vega-Lite specs: one spec serves the browser and the picture. Titles are in the language of the request.

The browser adds the page's own colours and font (`charts.js`); a picture is dark on white. Series keep their colours, which
have a contrast of 3:1 or more on both.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from babel.dates import get_day_names, get_month_names
from babel.numbers import get_decimal_symbol, get_group_symbol
from babel.units import format_unit, get_unit_name
from flask_babel import format_datetime, format_decimal, format_percent, get_locale, gettext

from app.reports.tables import Column, Table, Value

Spec = dict[str, Any]

BLUE, GREY, ORANGE, GREEN, RED = "#2f7fd6", "#868e96", "#d9730d", "#2f9e57", "#d6455d"
AGES = ["#8ec5f2", "#5aa3e6", "#2f7fd6", "#e0a530", "#d9730d", "#c0392b"]  # from fresh to old
HEIGHT = 260  # pixels
UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # by its name the browser's script knows what it gets
LOOK = {
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "axisX": {"grid": False},
    "legend": {"labelFontSize": 13},
}


def bars(table: Table, colours: Mapping[str, str], *, beside: Mapping[str, int] | None = None) -> Spec:
    """For each step the columns of `colours` on top of each other, or, as `beside` numbers them, next to each other.

    A line of dashes over them is the period before: all that stands in the first place.
    """
    places = beside or dict.fromkeys(colours, 0)
    titles = {column.name: column.title for column in table.columns}
    rows = [row | {"place": places[row["column"]]} for row in _long(table, list(colours))]
    heights = [max(_stack(table, places, place)) for place in set(places.values())]
    chart = _drawing(
        {"type": "bar"},
        rows,
        x=_steps(table),
        y=_amount("value", max(heights), title=None),
        color=_colours({titles[name]: colour for name, colour in colours.items()}),
        order=_field("order", "quantitative"),
        tooltip=_tooltip(time=table.columns[0].title, series=gettext("What"), text=gettext("Number")),
        **({"xOffset": _field("place", "nominal")} if len(set(places.values())) > 1 else {}),
        **_link(table),
    )
    return {"layer": [chart, *_before(table, [_stack(table.before, places, 0)] if table.before else [])]}


def lines(table: Table, colours: Mapping[str, str]) -> Spec:
    """For each column of `colours` a line, with a gap where there is nothing. Times are in the unit that suits the longest."""
    titles = {column.name: column.title for column in table.columns}
    numbers = [value for name in colours for value in table.values(name) if isinstance(value, int | float)]
    longest = max(numbers, default=0)
    unit = next((unit for unit, size in UNITS.items() if longest >= 2 * size), "minute")
    rows = _long(table, list(colours))
    for row in rows:
        row["value"] = None if row["value"] is None else row["value"] / UNITS[unit]
    y_title = get_unit_name(f"duration-{unit}", "long", get_locale())
    chart = _drawing(
        {"type": "line", "point": {"size": 40}},
        rows,
        x=_steps(table),
        y=_field("value", "quantitative", title=y_title, scale=_from_zero(longest / UNITS[unit])),
        color=_colours({titles[name]: colour for name, colour in colours.items()}),
        tooltip=_tooltip(time=table.columns[0].title, series=gettext("Figure"), text=gettext("Time")),
        **_link(table),
    )
    first = next(iter(colours))
    before = (
        [[v / UNITS[unit] if isinstance(v, int | float) else None for v in table.before.values(first)]] if table.before else []
    )
    return {"layer": [chart, *_before(table, before)]}


def heat(table: Table) -> Spec:
    """A square for each row (a weekday) and each further column (an hour), the darker the more."""
    days = [str(value) for value in table.values(table.columns[0].name)]
    hours = table.columns[1:]
    rows = [
        {"day": day, "hour": column.title, "count": row[1 + place], "text": shown(row[1 + place], column)}
        for day, row in zip(days, table.rows, strict=True)
        for place, column in enumerate(hours)
    ]
    most = max((row["count"] for row in rows if isinstance(row["count"], int)), default=0)
    chart = _drawing(
        {"type": "rect"},
        rows,
        x=_field(
            "hour",
            "ordinal",
            title=None,
            sort=[column.title for column in hours],
            axis={"labelAngle": 0, "labelOverlap": True},
        ),
        y=_field("day", "ordinal", title=None, sort=days),
        color=_field("count", "quantitative", title=None, scale={"scheme": "blues", "domain": [0, max(most, 1)]}, legend=None),
        tooltip=_tooltip(day=gettext("Weekday"), hour=gettext("Hour"), text=gettext("Messages")),
    )
    return {"layer": [chart]}


def ranking(table: Table, name: str, colour: str) -> Spec:
    """A bar for each row, as long as its column `name`; its tooltip has all of the row."""
    columns = {column.name: column for column in table.columns}
    rows = [
        {
            "label": row[0],
            "value": value,
            **{column.name: shown(cell, column) for column, cell in zip(table.columns, row, strict=True)},
        }
        | ({"href": link} if link else {})
        for row, value, link in zip(table.rows, table.values(name), table.links or [""] * len(table.rows), strict=True)
    ]
    longest = max((row["value"] for row in rows if isinstance(row["value"], int | float)), default=0)
    chart = _drawing(
        {"type": "bar", "color": colour},
        rows,
        y=_field("label", "nominal", title=None, sort=[str(row["label"]) for row in rows], axis={"labelLimit": 160}),
        x=_amount("value", longest, title=columns[name].title),
        tooltip=_tooltip(**{column.name: column.title for column in table.columns}),
        **_link(table),
    )
    return {"layer": [chart], "height": max(28 * len(rows), 60)}


def shown(value: Value, column: Column) -> str:
    """A value as people read it, in the language of the request."""
    match value:
        case None:
            return "–"
        case datetime():
            return time_name(value, column.kind)
        case int() | float() if column.kind == "seconds":
            return duration(value)
        case int() | float() if column.kind == "share":
            return str(format_percent(value))
        case int() | float():
            return str(format_decimal(value))
    return str(value)


def time_name(moment: datetime, kind: str) -> str:
    """When an hour, a day or a week (`kind`) begins, as people write it: "Tue, 24 November"."""
    patterns = {"hour": "d MMMM, HH:mm", "day": "EEE, d MMMM", "week": "d MMMM y"}
    return str(format_datetime(moment, patterns[kind], rebase=False))


def duration(seconds: float) -> str:
    """Its largest unit and the next smaller one, in the language of the request: "2 h 5 min"."""
    steps = list(pairwise(UNITS.items()))
    (unit, size), (smaller, part) = next((step for step in steps if seconds >= step[0][1]), steps[-1])
    numbers = {unit: int(seconds // size), smaller: int(seconds % size // part)}
    shown = {unit: number for unit, number in numbers.items() if number} or {"second": 0}
    return " ".join(format_unit(number, f"duration-{unit}", "short", locale=get_locale()) for unit, number in shown.items())


def _long(table: Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each value of the columns `names`; the first column has the times."""
    columns = {column.name: column for column in table.columns}
    values = {name: table.values(name) for name in names}
    return [
        {
            "at": _wall(row[0]),
            "time": shown(row[0], table.columns[0]),
            "column": name,
            "series": columns[name].title,
            "order": order,
            "value": values[name][number],
            "text": shown(values[name][number], columns[name]),
        }
        | ({"href": table.links[number]} if table.links else {})
        for number, row in enumerate(table.rows)
        for order, name in enumerate(names)
    ]


def _stack(table: Table, places: Mapping[str, int], place: int) -> list[float]:
    """How high the bars in `place` are, step by step."""
    columns = [table.values(name) for name, its in places.items() if its == place]
    return [sum(value for value in row if isinstance(value, int | float)) for row in zip(*columns, strict=True)] or [0]


def _before(table: Table, values: Sequence[Sequence[float | None]]) -> list[Spec]:
    """The period before as a line of dashes, over the times of this one; nothing if it was not asked for."""
    times = table.values(table.columns[0].name)
    rows = [
        {"at": _wall(at), "time": shown(at, table.columns[0]), "before": value, "text": f"{value:.4g}"}
        for line in values
        for at, value in zip(times, line, strict=False)
        if value is not None
    ]
    tooltip = _tooltip(time=table.columns[0].title, text=gettext("The period before"))
    dashes = {"type": "line", "color": GREY, "strokeDash": [5, 4], "strokeWidth": 2}
    return [_drawing(dashes, rows, x=_steps(table), y=_field("before", "quantitative"), tooltip=tooltip)] if rows else []


def _wall(value: Value) -> str:
    """A moment as the clock on the wall has it: Vega is told that it is UTC, so that no browser shifts it."""
    return f"{value:%Y-%m-%dT%H:%M}Z" if isinstance(value, datetime) else str(value)


def _drawing(mark: Spec, rows: Sequence[Spec], **encoding: Any) -> Spec:
    return {"mark": mark, "data": {"values": rows}, "encoding": encoding}


def _field(name: str, kind: str, **more: Any) -> Spec:
    return {"field": name, "type": kind, **more}


def _amount(name: str, highest: float, title: str | None) -> Spec:
    """How many, in whole numbers."""
    axis = {"tickMinStep": 1, "format": ",d"}
    return _field(name, "quantitative", title=title, axis=axis, scale=_from_zero(highest))


def _steps(table: Table) -> Spec:
    unit, written = "utcyearmonthdate", "%-d %b"
    if table.columns[0].kind == "hour":
        unit, written = "utcyearmonthdatehours", "%H:%M" if len(table.rows) <= 50 else "%-d %b %H:%M"
    axis = {"format": written, "labelAngle": 0, "labelOverlap": True}
    return _field("at", "ordinal", timeUnit=unit, title=None, axis=axis)


def _link(table: Table) -> Spec:
    return {"href": _field("href", "nominal")} if table.links else {}


def _from_zero(highest: float) -> Spec:
    """An axis up to `highest`, which has round ticks also where there is nothing or next to nothing to show."""
    return {"domain": [0, max(highest, 4)], "nice": True}


def _colours(colours: Mapping[str, str]) -> Spec:
    """A colour for each series."""
    legend = {"title": None, "orient": "top", "columns": 3 if len(colours) > 4 else 0}
    return _field("series", "nominal", scale={"domain": list(colours), "range": list(colours.values())}, legend=legend)


def _tooltip(**titles: str) -> list[Spec]:
    return [_field(field, "nominal", title=title) for field, title in titles.items()]


def _locale() -> tuple[Spec, Spec]:
    """Words for numbers and for dates, as d3 takes them. A month by itself is nominative; a short one stands beside its day."""
    locale = get_locale()
    signs = {"decimal": get_decimal_symbol(locale), "thousands": get_group_symbol(locale), "currency": ["", ""]}
    days, short_days = (get_day_names(width, "stand-alone", locale) for width in ("wide", "abbreviated"))
    months, short_months = get_month_names("wide", "stand-alone", locale), get_month_names("abbreviated", "format", locale)
    from_sunday = (6, *range(6))
    return signs | {"grouping": [3]}, {
        "dateTime": "%d.%m.%Y %H:%M:%S",
        "date": "%d.%m.%Y",
        "time": "%H:%M:%S",
        "periods": ["AM", "PM"],
        "days": [days[number] for number in from_sunday],
        "shortDays": [short_days[number] for number in from_sunday],
        "months": [months[number] for number in range(1, 13)],
        "shortMonths": [short_months[number] for number in range(1, 13)],
    }


def finish(drawing: Spec, title: str) -> Spec:
    """The spec as the browser and the pictures take it."""
    numbers, dates = _locale()
    usermeta = {"embedOptions": {"formatLocale": numbers, "timeFormatLocale": dates}}
    about = {"description": title, "config": LOOK, "usermeta": usermeta}
    return {"$schema": SCHEMA, "width": "container", "height": HEIGHT, **drawing, **about}
