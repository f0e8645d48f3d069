"""What cookiecutter.json and the rendered files ask of Python.

The answers are checked here, before anything is written: cookiecutter prints this exception as one line and stops. A hook
could only stop it with a traceback, and after it has made a folder of whatever name was given.
"""

from collections.abc import Mapping

from cookiecutter.exceptions import FailedHookException
from cookiecutter.utils import simple_filter

from hooks.pre_gen_project import problem


@simple_filter
def checked(answers: Mapping[str, object]) -> str:
    """Nothing; raises `FailedHookException` with one line when an answer is wrong."""
    found = problem(answers)
    if found:
        raise FailedHookException(found)
    return ""


@simple_filter
def escape_quotes(text: str) -> str:
    """`text` as it stands between double quotes in TOML, YAML and .env files alike."""
    return text.replace('"', r"\"")
