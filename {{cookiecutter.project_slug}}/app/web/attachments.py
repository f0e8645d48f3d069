"""What people attach to messages, from VK's own structures: what can be shown or opened, and a word for the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext

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
THUMBNAIL = 320  # pixels; of the sizes that VK offers the smallest that is at least this wide


@dataclass(frozen=True)
class Attachment:
    """`url` opens it, `picture` shows it; both are https or None."""

    label: str
    url: str | None
    picture: str | None


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
    pictures = sorted(_pictures(body))
    wide = [url for width, url in pictures if width >= THUMBNAIL]
    picture = wide[0] if wide else pictures[-1][1] if pictures else None
    addresses = [body.get("url"), body.get("link_mp3"), pictures[-1][1] if pictures else None]
    return Attachment(label, next(filter(_is_https, addresses), None), picture)


def _pictures(body: dict[str, Any]) -> Iterator[tuple[int, str]]:
    sizes = body.get("sizes") or body.get("images")
    for size in sizes if isinstance(sizes, list) else []:
        if isinstance(size, dict) and _is_https(size.get("url")) and isinstance(size.get("width"), int):
            yield size["width"], size["url"]


def _is_https(url: object) -> bool:
    return isinstance(url, str) and url.startswith("https://")
