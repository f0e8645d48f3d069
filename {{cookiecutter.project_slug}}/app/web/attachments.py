"""What is attached to messages, from VK's own structures: what can be shown or opened, and a word for the rest."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from babel.units import format_unit
from flask import current_app
from flask_babel import get_locale, lazy_gettext

KINDS = {
    "audio": lazy_gettext("Music"),
    "audio_message": lazy_gettext("Voice message"),
    "doc": lazy_gettext("File"),
    "gift": lazy_gettext("Gift"),
    "graffiti": lazy_gettext("Drawing"),
    "link": lazy_gettext("Link"),
    "market": lazy_gettext("Product"),
    "photo": lazy_gettext("Picture"),
    "poll": lazy_gettext("Poll"),
    "sticker": lazy_gettext("Sticker"),
    "video": lazy_gettext("Video"),
    "wall": lazy_gettext("Post"),
}
LOCAL = "http://127.0.0.1:* http://localhost:*"  # where the sandbox's pictures lie, as a content security policy writes it
LOCAL_ADDRESS = re.compile(r"http://(127\.0\.0\.1|localhost)(:\d+)?/")
UNIT, TEN = 1024, 10  # bytes in a kilobyte and so on; a smaller number than ten is shown with a decimal
THUMBNAIL = 320  # pixels; of the sizes that VK offers the smallest that is at least this wide


@dataclass(frozen=True)
class Attachment:
    """`url` opens it, `picture` shows it: https, in development also the sandbox's, or None. `size` of a file is in words."""

    label: str
    url: str | None
    picture: str | None
    size: str | None = None


def shown(raw: list[dict[str, Any]]) -> list[Attachment]:
    """VK's attachments, ready to be shown. Anything that looks other than expected is only named."""
    return [_shown(item) for item in raw if isinstance(item, dict)]


def _shown(item: dict[str, Any]) -> Attachment:
    kind = str(item.get("type"))
    body = item.get(kind)
    if not isinstance(body, dict):
        body = {}
    title = body.get("title")
    label = title if isinstance(title, str) and title else str(KINDS.get(kind, kind))
    if isinstance(body.get("file"), int):  # an operator's, which we have
        url = f"/files/{body['file']}"
        return Attachment(label, url, url if kind == "photo" else None, _size(body.get("size")))
    pictures = sorted(_pictures(body))
    wide = [url for width, url in pictures if width >= THUMBNAIL]
    picture = wide[0] if wide else pictures[-1][1] if pictures else None
    addresses = [body.get("url"), body.get("link_mp3"), pictures[-1][1] if pictures else None]
    return Attachment(label, next(filter(_is_safe, addresses), None), picture, _size(body.get("size")))


def _pictures(body: dict[str, Any]) -> Iterator[tuple[int, str]]:
    sizes = body.get("sizes") or body.get("images")
    for size in sizes if isinstance(sizes, list) else []:
        if isinstance(size, dict) and _is_safe(size.get("url")) and isinstance(size.get("width"), int):
            yield size["width"], size["url"]


def _is_safe(url: object) -> bool:
    if not isinstance(url, str):
        return False
    in_development = current_app.extensions["settings"].app_env == "development"
    return url.startswith("https://") or (in_development and LOCAL_ADDRESS.match(url) is not None)


def _size(count: object) -> str | None:
    """1.5 MB; None for what is no number of bytes."""
    if not isinstance(count, int) or count < 0:
        return None
    size, units = float(count), ["byte", "kilobyte", "megabyte", "gigabyte"]
    while size >= UNIT and len(units) > 1:
        size /= UNIT
        units.pop(0)
    return format_unit(size, f"digital-{units[0]}", "short", format="0.#" if size < TEN else "0", locale=get_locale())
