"""What people type into forms."""

from flask import request

NAME_LIMIT = 200  # characters of an operator's name
LANGUAGES = ("ru", "en")


def field(name: str) -> str:
    """The form's field as text: browsers' line ends made plain, no space around, no NUL (PostgreSQL cannot keep one)."""
    return request.form.get(name, "").replace("\r\n", "\n").replace("\0", "").strip()


def language() -> str | None:
    """The language that was chosen; None stands for the project's."""
    chosen = field("language")
    return chosen if chosen in LANGUAGES else None
