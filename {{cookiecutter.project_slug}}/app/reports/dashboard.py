"""The page of figures and charts, each chart by itself, and the conversations behind a bar. Only the last reads no ready sums."""

from datetime import datetime, timedelta
from urllib.parse import urlencode

from babel.dates import format_interval
from flask import Blueprint, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from flask_babel import format_datetime, get_locale, gettext
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.reports import board, bundle, charts, documents, headline, rollup
from app.reports.fragment import conditional, fragment, is_manager
from app.reports.state import OPERATOR, PRESETS, TOPIC, State, StateError, Step
from app.reports.tables import topics
from app.reports.work import Works
from app.storage.models import Conversation, Message, Operator, Person, now

LISTED = 100  # conversations on one page
LONGEST = timedelta(days=8)  # of which conversations are listed: a week, and the hour that is more in autumn
LATE = timedelta(minutes=2)  # when people are told that figures are old


def blueprint(works: Works) -> Blueprint:
    """The pages at the root and under `/charts` and `/conversations`."""
    dashboard = Blueprint("dashboard", __name__)
    engine = works.engine.execution_options(read_only=True)

    @dashboard.get("/")
    def page() -> ResponseReturnValue:
        """Everything that the address asks for."""
        state = _state(works)
        with Session(engine) as session:
            connection = session.connection()
            tables = {chart: board.table(chart, connection, state) for chart in board.charts(state)}
            return fragment(
                "dashboard.html",
                gettext("Reports"),
                state=state,
                interval=_interval(state),
                presets=PRESETS,
                steps=_steps(),
                parts=_parts(session, state),
                tiles=headline.tiles(connection, state),
                tables=tables,
                shown=charts.shown,
                behind=_behind(session),
                script=bundle.name(),
            )

    @dashboard.get("/charts/<name>.json")
    def chart(name: str) -> ResponseReturnValue:
        """What the browser draws."""
        return conditional(jsonify(spec(name)))

    @dashboard.get("/charts/<name>.<any(png, svg):kind>")
    def picture(name: str, kind: documents.Kind) -> ResponseReturnValue:
        """The same as a picture."""
        return conditional(Response(documents.chart(spec(name), kind), mimetype=documents.TYPES[kind]))

    def spec(name: str) -> charts.Spec:
        state = _state(works)
        found = next((chart for chart in board.charts(state) if chart.name == name), None)
        if found is None:
            abort(404)
        with engine.connect() as connection:
            return found.draw(board.table(found, connection, state))

    @dashboard.get("/conversations")
    def conversations() -> ResponseReturnValue:
        """The conversations in which something was written in a step of a chart: the way from a bar to what is behind it."""
        state, (begin, end) = _state(works), _span()
        with Session(engine) as session:
            after = request.args.get("after", 0, type=int)
            rows = session.execute(_written(begin, end, state.of, after).limit(LISTED + 1)).all()
            return fragment(
                "conversations.html",
                gettext("Conversations"),
                begin=begin.astimezone(state.zone),
                end=end.astimezone(state.zone),
                part=dict(_parts(session, state)).get(state.of, ""),
                rows=rows[:LISTED],
                more=urlencode(request.args.to_dict() | {"after": rows[LISTED - 1].id}) if len(rows) > LISTED else None,
                title_of=_title,
                moment=lambda at: format_datetime(at.astimezone(state.zone), "d MMMM, HH:mm", rebase=False),
            )

    return dashboard


def _state(works: Works) -> State:
    try:
        return State.read(request.args, works.settings, now(), manager=is_manager())
    except StateError as error:
        abort(400, str(error))


def _interval(state: State) -> str:
    return str(format_interval(state.first, min(state.last, now().astimezone(state.zone).date()), "yMMMMd", locale=get_locale()))


def _steps() -> dict[Step, str]:
    return {Step.HOUR: gettext("by hours"), Step.DAY: gettext("by days"), Step.WEEK: gettext("by weeks")}


def _parts(session: Session, state: State) -> list[tuple[str, str]]:
    """What one may look at by itself: (`State.of`, its name). Operators are for managers."""
    parts = [(part, part.removeprefix(TOPIC)) for part in topics(session.connection())]
    if state.manager:
        names = session.execute(select(Operator.id, Operator.name).order_by(Operator.name))
        parts += [(f"{OPERATOR}{row.id}", row.name) for row in names]
    return parts


def _behind(session: Session) -> str:
    """A sentence for people when the figures are not those of this minute; empty when they are."""
    age, left, total = rollup.lag(session)
    if left > 1 and total > left and age > LATE:
        return str(gettext("All figures are being counted anew: %(share)s %% is done.", share=100 * (total - left) // total))
    if age == timedelta.max:
        return str(gettext("The figures are being counted for the first time. Look again in a minute."))
    return str(gettext("The figures are %(age)s old.", age=charts.duration(age.total_seconds()))) if age > LATE else ""


def _span() -> tuple[datetime, datetime]:
    try:
        begin, end = (datetime.fromisoformat(request.args.get(name, "")) for name in ("begin", "end"))
    except ValueError:
        abort(400, gettext("There is no such time."))
    if begin.tzinfo is None or end.tzinfo is None or not timedelta(0) < end - begin <= LONGEST:
        abort(400, gettext("There is no such time."))
    return begin, end


def _written(begin: datetime, end: datetime, of: str, after: int) -> Select[int, int, str | None, str, int, datetime]:
    """The conversations with a number above `after` in which something was written, with how much and when it was last."""
    columns = (Conversation.id, Conversation.peer_id, Conversation.topic, Person.name.label("person"))
    written = (
        select(*columns, func.count().label("count"), func.max(Message.created_at).label("last"))
        .join_from(Message, Conversation)
        .outerjoin(Person)
        .where(Message.created_at >= begin, Message.created_at < end, Conversation.id > after)
        .group_by(*columns)
        .order_by(Conversation.id)
    )
    if of.startswith(TOPIC):
        return written.where(Conversation.topic == of.removeprefix(TOPIC))
    if of.startswith(OPERATOR):
        return written.where(Message.operator_id == int(of.removeprefix(OPERATOR)))
    return written


def _title(row: Row[int, int, str | None, str | None]) -> str:
    return row.person or Conversation(peer_id=row.peer_id).title
