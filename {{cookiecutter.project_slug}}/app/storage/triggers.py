"""What the database itself writes down for the reports, whoever changes it: requests, and what has to be counted anew.

Put in at every migration, as a change of a table on SQLite makes it anew and drops its triggers. Nothing is marked before
somebody keeps figures (`Rollup` has a row), so that a project without reports gathers nothing. On PostgreSQL the functions
run with the rights of the tables' owner: the services need none on what they fill.
"""

# ruff: noqa: S608 - nothing in the statements comes from outside

from dataclasses import dataclass

from sqlalchemy import Connection

FOREVER = "'9999-01-01 00:00:00.000000'"
KEPT = "EXISTS (SELECT 1 FROM rollup)"


@dataclass(frozen=True)
class Trigger:
    """One `statement` for each row of `table` to which `event` happens. PostgreSQL's words; SQLite's differ in two."""

    name: str
    table: str
    event: str
    statement: str
    when: str = "1 = 1"


def _mark_message(row: str) -> str:
    return f"SELECT {row}.created_at, {row}.conversation_id, {row}.id WHERE {KEPT}"


def _mark_hours(begin: str, end: str) -> str:
    return f"INSERT INTO changed (at, until) SELECT {begin}, {end} WHERE {KEPT} AND {begin} < {FOREVER}"


def _open_request(closed_at: str) -> str:
    values = f"NEW.id, NEW.topic, NEW.assignee_id, NEW.opened_at, {closed_at}"
    return f"INSERT INTO request (conversation_id, topic, operator_id, opened_at, closed_at) VALUES ({values})"


MESSAGE = "INSERT INTO changed (at, conversation_id, message_id)"
OPEN_REQUEST = "conversation_id = NEW.id AND closed_at IS NULL"
# what was closed by something else than `desk.close` has no time for it
CLOSED = "CASE WHEN NEW.closed_at >= NEW.opened_at THEN NEW.closed_at ELSE GREATEST(NEW.last_message_at, NEW.opened_at) END"
OLD_END, NEW_END = (f"COALESCE({row}.closed_at, {FOREVER})" for row in ("OLD", "NEW"))
# an end that comes or moves changes no hour before it
SAME_BEGINNING = "OLD.opened_at = NEW.opened_at AND COALESCE(OLD.topic, '') = COALESCE(NEW.topic, '')"
FIRST = f"CASE WHEN {SAME_BEGINNING} THEN LEAST({OLD_END}, {NEW_END}) ELSE LEAST(OLD.opened_at, NEW.opened_at) END"

TRIGGERS = (
    Trigger("message_written", "message", "INSERT", f"{MESSAGE} {_mark_message('NEW')}"),
    Trigger(
        "message_edited",
        "message",
        "UPDATE OF conversation_id, author, operator_id, created_at",
        f"{MESSAGE} {_mark_message('OLD')} UNION ALL {_mark_message('NEW')}",
    ),
    Trigger("message_deleted", "message", "DELETE", f"{MESSAGE} {_mark_message('OLD')}"),
    Trigger(
        "conversation_renamed",
        "conversation",
        "UPDATE OF topic",
        f"INSERT INTO changed (conversation_id) SELECT NEW.id WHERE {KEPT}",
        when="COALESCE(OLD.topic, '') <> COALESCE(NEW.topic, '')",
    ),
    Trigger(
        "conversation_begun",
        "conversation",
        "INSERT",
        _open_request(f"CASE WHEN NEW.status <> 'open' THEN {CLOSED} END"),
        when="NEW.opened_at IS NOT NULL",
    ),
    Trigger(
        "conversation_opened",
        "conversation",
        "UPDATE OF status",
        _open_request("NULL"),
        when="OLD.status <> 'open' AND NEW.status = 'open' AND NEW.opened_at IS NOT NULL",
    ),
    Trigger(
        "conversation_closed",
        "conversation",
        "UPDATE OF status",
        f"UPDATE request SET closed_at = {CLOSED}, operator_id = OLD.assignee_id WHERE {OPEN_REQUEST}",
        when="OLD.status = 'open' AND NEW.status <> 'open'",
    ),
    Trigger(
        "conversation_given",
        "conversation",
        "UPDATE OF topic, assignee_id, opened_at",
        "UPDATE request SET topic = NEW.topic, operator_id = NEW.assignee_id, opened_at = COALESCE(NEW.opened_at, opened_at)"
        f" WHERE {OPEN_REQUEST}",
        when="OLD.status = 'open' AND NEW.status = 'open'",
    ),
    Trigger("request_opened", "request", "INSERT", _mark_hours("NEW.opened_at", NEW_END)),
    Trigger("request_edited", "request", "UPDATE", _mark_hours(FIRST, f"GREATEST({OLD_END}, {NEW_END})")),
    Trigger("request_deleted", "request", "DELETE", _mark_hours("OLD.opened_at", OLD_END)),
    Trigger(
        "delivery_refused", "delivery", "INSERT", _mark_hours("NEW.next_try_at", "NEW.next_try_at"), when="NEW.state = 'failed'"
    ),
    Trigger(
        "delivery_settled",
        "delivery",
        "UPDATE",
        f"{_mark_hours('OLD.next_try_at', 'OLD.next_try_at')} UNION ALL SELECT NEW.next_try_at, NEW.next_try_at WHERE {KEPT}",
        when="OLD.state = 'failed' OR NEW.state = 'failed'",
    ),
    Trigger(
        "delivery_deleted", "delivery", "DELETE", _mark_hours("OLD.next_try_at", "OLD.next_try_at"), when="OLD.state = 'failed'"
    ),
)


def put(connection: Connection, trigger: Trigger) -> None:
    """Put the trigger in, anew if it is there. On PostgreSQL its table is held until the transaction ends."""
    head = f"{trigger.name} AFTER {trigger.event} ON {trigger.table} FOR EACH ROW"
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {trigger.name}() RETURNS trigger LANGUAGE plpgsql"
            " SECURITY DEFINER SET search_path = public, pg_temp"
            f" AS $$ BEGIN {trigger.statement}; RETURN NULL; END $$"
        )
        connection.exec_driver_sql(f"CREATE OR REPLACE TRIGGER {head} WHEN ({trigger.when}) EXECUTE FUNCTION {trigger.name}()")
    else:
        statement = trigger.statement.replace("LEAST(", "MIN(").replace("GREATEST(", "MAX(")
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger.name}")
        connection.exec_driver_sql(f"CREATE TRIGGER {head} WHEN {trigger.when} BEGIN {statement}; END")
