"""One's own account: name, language, password, and an end to the sessions left open elsewhere."""

from flask import Blueprint, flash, g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext, refresh
from sqlalchemy.orm import Session

from app.storage.models import Operator
from app.web import passwords, throttle
from app.web.audit import audit
from app.web.auth import me, renew_session, too_often, verify
from app.web.database import writer
from app.web.form import NAME_LIMIT, field, language

blueprint = Blueprint("account", __name__, url_prefix="/account")


@blueprint.get("")
def page() -> ResponseReturnValue:
    """Who one is here, and what one may change about it."""
    return _page()


@blueprint.post("")
def change() -> ResponseReturnValue:
    """Name and language."""
    name = field("name")
    if not 0 < len(name) <= NAME_LIMIT:
        return _page(problem=gettext("A name has 1 to %(most)s characters.", most=NAME_LIMIT)), 400
    with writer() as database:
        operator = _mine(database)
        operator.name, operator.language = name, language()
        audit(database, "account.change", f"operator {operator.id}", name=name, language=operator.language)
    g.language = language()
    refresh()  # what is said from here on is in the new language
    flash(gettext("Saved."))
    return redirect("/account", 303)


@blueprint.post("/password")
def change_password() -> ResponseReturnValue:
    """A new password, for whom knows the old one. All other sessions end."""
    password, counted = request.form.get("password", ""), [f"password {me().id}"]
    with writer() as database:
        wait = throttle.count(database, counted)
    if wait:
        problem, headers = too_often(wait)
        return _page(password_problem=problem), 429, headers
    with writer() as database:
        operator = _mine(database)
        if not verify(operator.password_hash, request.form.get("old", "")):
            refused: str | None = gettext("The old password is wrong.")
        else:
            throttle.take_back(database, counted)
            refused = passwords.problem_with(password, request.form.get("again", ""), operator.login)
        if refused is None:
            passwords.set_password(operator, password)
            audit(database, "password.change", f"operator {operator.id}")
            database.flush()
            renew_session(operator)
    if refused:
        return _page(password_problem=refused), 400
    flash(gettext("The password is changed. Everywhere else you are signed out."))
    return redirect("/account", 303)


@blueprint.post("/sessions/end")
def end_sessions() -> ResponseReturnValue:
    """Sign out everywhere else."""
    with writer() as database:
        operator = _mine(database)
        operator.session_version += 1
        audit(database, "session.end_all", f"operator {operator.id}")
        renew_session(operator)
    flash(gettext("Everywhere else you are signed out."))
    return redirect("/account", 303)


def _page(**problems: str | None) -> str:
    shortest, longest = passwords.SHORTEST, passwords.LONGEST
    return render_template("account.html", shortest=shortest, longest=longest, name_limit=NAME_LIMIT, **problems)


def _mine(database: Session) -> Operator:
    return database.get_one(Operator, me().id, with_for_update=True)
