"""The reporting service as its container runs it: the pages, and beside them what goes on by itself."""

from flask import Flask

from app.reports import work
from app.reports.pages import create_app


def create_service() -> Flask:
    """The WSGI application, with `work` begun in this process."""
    app = create_app()
    work.start(app.extensions["works"])
    return app
