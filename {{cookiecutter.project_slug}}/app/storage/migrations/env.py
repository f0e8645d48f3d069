"""Alembic's entry: runs the migrations on the address that the caller gives (`app.storage.migrate`)."""

from alembic import context

from app.storage.engine import make_engine
from app.storage.models import Base

engine = make_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
        user_module_prefix="models.",
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
