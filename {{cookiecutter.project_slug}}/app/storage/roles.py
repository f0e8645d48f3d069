"""PostgreSQL's roles: each service logs in as its own, which may do what it needs and no more. Run at every migration."""

from contextlib import suppress

from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from app.settings import Settings

# the web answers, signs people in, and takes in what VK calls with; the bot takes in and sends; the reports read,
# and write nothing but what is their own and what they send
READ = ("SELECT",)
WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")
GRANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "web": {
        "alembic_version": READ,
        "person": READ,
        "conversation": ("SELECT", "UPDATE"),
        "message": ("SELECT", "INSERT", "UPDATE"),
        "event": ("SELECT", "INSERT", "UPDATE"),
        "delivery": ("SELECT", "INSERT", "UPDATE"),
        "note": ("SELECT", "INSERT"),
        "file": ("SELECT", "INSERT"),
        "canned_answer": WRITE,
        "cursor": READ,
        "heartbeat": READ,
        "operator": ("SELECT", "INSERT", "UPDATE"),
        "audit": ("SELECT", "INSERT"),
        "api_token": ("SELECT", "INSERT", "UPDATE"),
        "api_reply": WRITE,
        "throttle": WRITE,
        "checkup": ("SELECT", "INSERT", "UPDATE"),
        "alert": READ,
    },
    "bot": {
        "alembic_version": READ,
        "person": ("SELECT", "INSERT", "UPDATE"),
        "conversation": ("SELECT", "INSERT", "UPDATE"),
        "message": ("SELECT", "INSERT", "UPDATE"),
        "event": ("SELECT", "INSERT", "UPDATE"),
        "delivery": ("SELECT", "INSERT", "UPDATE"),
        "cursor": WRITE,
        "ticket": ("SELECT", "INSERT", "UPDATE"),
        "heartbeat": WRITE,
        "checkup": ("SELECT", "INSERT", "UPDATE"),
        "report_job": ("SELECT", "INSERT"),
    },
    "reports": {
        "alembic_version": READ,
        "person": READ,
        "conversation": READ,
        "message": READ,
        "event": READ,
        "delivery": ("SELECT", "INSERT"),
        "cursor": READ,
        "heartbeat": ("SELECT", "INSERT", "UPDATE"),
        "report_subscription": WRITE,
        "report_job": WRITE,
        "alert": WRITE,
        "sample": WRITE,
        "request": READ,
        "changed": ("SELECT", "DELETE"),
        "dirty_hour": WRITE,
        "figure": WRITE,
        "rollup": WRITE,
    },
}
# a service needs to know who an operator is and nothing else of them: not the password's hash
OPERATOR_NAMES = "id, name, role, active, vk_id"


def grant(connection: Connection, settings: Settings) -> None:
    """Create the services' roles where a password for them is set, set the password, and give them exactly `GRANTS`."""
    for role, tables in GRANTS.items():
        password = getattr(settings, f"db_password_{role}")
        if password is None:
            continue
        name = sql.Identifier(role)
        # hashed on this side, so that the password itself cannot end up in the server's log
        plain = password.get_secret_value().encode()
        hashed = connection.pgconn.encrypt_password(plain, role.encode(), b"scram-sha-256").decode()
        exists = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount
        verb = sql.SQL("ALTER" if exists else "CREATE")
        connection.execute(sql.SQL("{} ROLE {} LOGIN NOINHERIT PASSWORD {}").format(verb, name, hashed))
        connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
        for table, rights in tables.items():
            connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(", ".join(rights)), sql.Identifier(table), name))
        if "operator" not in tables:
            connection.execute(sql.SQL("GRANT SELECT ({}) ON operator TO {}").format(sql.SQL(OPERATOR_NAMES), name))
        connection.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
    if settings.db_password_reports is not None:
        connection.execute("ALTER ROLE reports SET default_transaction_read_only = on")
        connection.execute("ALTER ROLE reports SET statement_timeout = '60s'")
        _let_see_statistics(connection)
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def _let_see_statistics(connection: Connection) -> None:
    """How long others' transactions last is for the reports' health page. A database elsewhere may not let us allow it."""
    inherit = " WITH INHERIT TRUE" if connection.info.server_version >= 160000 else ""
    with suppress(InsufficientPrivilege), connection.transaction():
        connection.execute(f"GRANT pg_read_all_stats TO reports{inherit}")
