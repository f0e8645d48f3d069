"""What people type into forms."""

from flask import request


def field(name: str) -> str:
    """The form's field as text: browsers' line ends made plain, no space around, no NUL (PostgreSQL cannot keep one)."""
    return request.form.get(name, "").replace("\r\n", "\n").replace("\0", "").strip()
