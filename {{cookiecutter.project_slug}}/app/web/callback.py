"""VK's way in when it calls us instead of being asked (`VK_TRANSPORT=callback`). What it tells goes into the same inbox."""

import json
from collections.abc import Iterable
from hmac import compare_digest
from typing import Any

import structlog
from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from app.log import one_line
from app.settings import Settings, SettingsError
from app.storage.inbox import add_events
from app.web.database import writer

log = structlog.get_logger()
ADDRESS = "/vk/callback"
LIMIT = 4 * 1024 * 1024  # bytes; a message that forwards many others is long, and one that we refuse is lost
STRANGERS_LIMIT = 64 * 1024  # bytes; read as JSON they take up to 25 times as much memory, and anybody can send them


def blueprint(settings: Settings) -> Blueprint:
    """VK's address. Raises `SettingsError` when there is no secret for it, or nothing to confirm it with."""
    way_in = Blueprint("callback", __name__)
    group_id, secret = settings.vk_group_id, settings.secret("vk_callback_secret").encode()
    written = json.dumps(secret.decode())[1:-1]
    spellings = (written.encode(), written.replace("/", r"\/").encode())  # as JSON may have it
    confirmation = settings.vk_callback_confirmation
    if not confirmation:
        raise SettingsError("VK_CALLBACK_CONFIRMATION is missing: copy it from VK's Callback API page; see .env.example")

    @way_in.post(ADDRESS)
    def receive() -> ResponseReturnValue:
        """Store what VK tells, and only then say "ok". To anything else VK calls again with the same event, for a while."""
        request.max_content_length = LIMIT
        told = _read(request.get_data(), spellings)
        if not isinstance(told, dict):
            return _plain("not an event", 400)
        # before the address is confirmed VK may not know the secret, and all that it gets to know is its own word
        if told.get("type") == "confirmation" and told.get("group_id") == group_id:
            return _plain(confirmation)
        given = str(told.pop("secret", ""))  # taken out: what is stored is shown to operators
        if not compare_digest(given.encode("utf-8", "replace"), secret):
            log.warning("refused a call with another secret than secrets/vk_callback_secret", address=request.remote_addr)
            return _plain("wrong secret", 403)
        if told.get("group_id") != group_id:
            log.warning("refused a call about another community than VK_GROUP_ID", group_id=told.get("group_id"))
            return _plain("another community", 403)
        if retry := request.headers.get("X-Retry-Counter"):
            log.info("VK calls again", event_id=told.get("event_id"), retry=retry)
        try:
            with writer() as session:
                add_events(session, [told])
        except SQLAlchemyError as error:
            log.warning("an event waits at VK until the database is back", reason=one_line(error))
            return _plain("not now", 503)
        return _plain("ok")

    return way_in


def _read(body: bytes, spellings: Iterable[bytes]) -> Any:
    """What it says; None when that is no JSON, or long and without the secret."""
    if len(body) > STRANGERS_LIMIT and not any(each in body for each in spellings):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _plain(text: str, status: int = 200) -> Response:
    return Response(text, status, content_type="text/plain; charset=utf-8")
