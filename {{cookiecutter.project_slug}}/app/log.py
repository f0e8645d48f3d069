"""Logs: a line of JSON per event in containers, readable text in a terminal. No secret ever reaches either."""

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from app.settings import Settings

# vk_api puts the token into its errors and the long poll's key into the addresses it fails on.
_SECRETS = re.compile(r"""\b(access_token|secret|key)(['"]?\s*[=:]\s*['"]?)[^\s'"&]+""", re.IGNORECASE)
_PARAMETERS = re.compile(r"""(access_token['"],\s*['"]value['"]:\s*['"])[^'"]+""")
_TOKENS = re.compile(r"vk1\.a\.[\w-]+")


def redact(text: str) -> str:
    """`text` without tokens and keys."""
    return _TOKENS.sub("***", _SECRETS.sub(r"\1\2***", _PARAMETERS.sub(r"\1***", text)))


def one_line(error: BaseException) -> str:
    """The error's kind and the first line of its text, without secrets."""
    return redact(f"{type(error).__name__}: {error}".splitlines()[0])


def request_id() -> str | None:
    """The number of the web's request that is being answered here; None outside of one."""
    number = structlog.contextvars.get_contextvars().get("request_id")
    return number if isinstance(number, str) else None


def _redact_all(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}


def setup(settings: Settings, service: str) -> None:
    """Send everything, also what libraries log, through one set of processors to standard error."""

    def name(_logger: Any, _method: str, event: EventDict) -> EventDict:
        # not a context variable: those of this thread are unknown to the others
        return {**event, "service": service}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # the traceback becomes a string before it is redacted
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _redact_all,
    ]
    last.append(
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for chatty in ("alembic.runtime.plugins", "alembic.runtime.migration", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
