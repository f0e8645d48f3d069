"""The JSON API: all that the pages do, for programs. Its description is made from the same code: `/api/v1/openapi.json`."""

from app.web.api import conversations, describe, desk
from app.web.api.operation import blueprint

__all__ = ["blueprint", "conversations", "describe", "desk"]
