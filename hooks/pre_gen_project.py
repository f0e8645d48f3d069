"""The rules for answers. `local_extensions.py` applies them while cookiecutter renders the answers, before there is a folder.

As a hook this file applies them again, for the one way in that renders no answers: a replay file written by hand.
It is itself rendered then, so no two braces may stand together in it but where the answers go.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Mapping
from zoneinfo import ZoneInfo

TEXTS = {"project_name": 100, "description": 200, "author": 100, "email": 100}
SLUG = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")
# Compose finds a project's containers and volumes by this name alone: two projects of one name on a machine share them
TOO_COMMON = {"app", "bot", "db", "demo", "docker", "project", "test", "tests", "web"}
# no folder can have these names on a colleague's Windows
DEVICES = {"aux", "con", "nul", "prn", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
EMAIL = re.compile(r"[^@\s\"'<>,;:()]+@[^@\s\"'<>,;:()]+\.[^@\s\"'<>,;:().]+")
ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
# line ends, control characters, and marks that turn the direction of what follows
HIDDEN = {"Cc", "Cs", "Zl", "Zp"}
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def problem(answers: Mapping[str, object]) -> str | None:
    """One line that says which answer is wrong and what is right instead; None when all are right."""
    checks = {**dict.fromkeys(TEXTS, _text), "project_slug": _slug, "time_zone": _time_zone}
    for name, check in checks.items():
        # only what has been answered: a replay file may hold the rest
        found = check(name, str(answers[name])) if name in answers else None
        if found:
            shown = repr(answers[name])
            return f"{name} {shown if len(shown) < 60 else shown[:57] + '...'} {found}"
    if not EMAIL.fullmatch(str(answers.get("email", "a@b.c"))):
        return f"email {answers['email']!r} is not an address: write one like team@example.com"
    return None


def _text(name: str, text: str) -> str | None:
    if not text.strip():
        return "is empty: write at least a word"
    if text != text.strip():
        return "begins or ends with a space"
    if len(text) > TEXTS[name]:
        return f"is too long: at most {TEXTS[name]} characters"
    if any(unicodedata.category(character) in HIDDEN or unicodedata.bidirectional(character) in TURNING for character in text):
        return "holds a line end or another invisible character: write plain text in one line"
    # Compose and .env files replace $, escapes begin with a backslash, and cookiecutter renders braces at every update
    if re.search(r"[$\\]|\{[#%{]", text):
        return "holds a $, a backslash, or a brace followed by one of { % #: they mean something to Compose or cookiecutter"
    return None


def _slug(_name: str, slug: str) -> str | None:
    if not SLUG.fullmatch(slug):
        return "must be 1 to 50 of a-z, 0-9 and -, the first a letter, the last no -: for example community-desk"
    if slug in TOO_COMMON:
        return "is too common: Compose would mix the project up with any other of that name; for example: community-desk"
    if slug in DEVICES:
        return "cannot be the name of a folder on Windows: choose another"
    return None


def _time_zone(_name: str, name: str) -> str | None:
    wrong = "is not a time zone: write one like Europe/Moscow or UTC"
    if not ZONE.fullmatch(name):
        return wrong
    for known in (name, "UTC"):
        try:
            ZoneInfo(known)
        except (KeyError, ValueError, OSError):
            continue
        # when this Python knows no zone at all, not even UTC, the project itself will check: it brings its own list
        return None if known == name else wrong
    return None


if __name__ == "__main__":
    # in a raw string: Jinja's tojson writes no single quote, but many backslashes
    sys.exit(problem(json.loads(r'{{ cookiecutter | tojson }}')))  # fmt: skip
