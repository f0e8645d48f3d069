"""Files that operators send along: what they may be is told by their content, and they are served to run nowhere."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import PurePosixPath
from typing import Literal

from flask import Blueprint, Flask, Response, abort, request, send_file
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_login import current_user
from sqlalchemy import select
from werkzeug.datastructures import FileStorage

from app.storage.models import File
from app.web.database import reader

blueprint = Blueprint("files", __name__)

COUNT_LIMIT = 10  # files of one answer
# in bytes. A file goes through the memory of web and bot a few times over, as itself and as JSON, and both have little of it
SIZE_LIMIT = 5 * 1024 * 1024
REQUEST_LIMIT = 12 * 1024 * 1024
NAME_LIMIT = 200
TAKES_FILES = "conversation.answer"

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OFFICE = "application/vnd.openxmlformats-officedocument"
# by the end of the name: the type, and how such a file begins. What is not here is not sent: pages, scripts, programs.
TYPES: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    "jpeg": ("image/jpeg", (b"\xff\xd8\xff",)),
    "png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    "gif": ("image/gif", (b"GIF87a", b"GIF89a")),
    "pdf": ("application/pdf", (b"%PDF-",)),
    "zip": ("application/zip", (ZIP,)),
    "docx": (f"{OFFICE}.wordprocessingml.document", (ZIP,)),
    "xlsx": (f"{OFFICE}.spreadsheetml.sheet", (ZIP,)),
    "pptx": (f"{OFFICE}.presentationml.presentation", (ZIP,)),
    "odt": ("application/vnd.oasis.opendocument.text", (ZIP,)),
    "ods": ("application/vnd.oasis.opendocument.spreadsheet", (ZIP,)),
    "doc": ("application/msword", (OLE,)),
    "xls": ("application/vnd.ms-excel", (OLE,)),
    "txt": ("text/plain", (b"",)),
    "csv": ("text/csv", (b"",)),
}
ACCEPT = ",".join(f".{end}" for end in TYPES)


@dataclass(frozen=True)
class Upload:
    """A file that may be sent. `kind` is VK's word for how: as a picture or as a document."""

    name: str
    type: str
    content: bytes

    @property
    def kind(self) -> Literal["photo", "doc"]:
        """VK shows pictures, and lets documents be opened."""
        return "photo" if self.type.startswith("image/") else "doc"

    @property
    def base64(self) -> str:
        """The content as it goes into JSON."""
        return b64encode(self.content).decode()

    @property
    def digest(self) -> str:
        """Tells this file from any other."""
        return sha256(self.content).hexdigest()


def register(app: Flask) -> None:
    """Let operators, and nobody else, post as much as files need, before anything reads the form; and keep files from running."""
    app.before_request(_widen)
    app.after_request(_disarm)


def _widen() -> None:
    # a file goes to the disk as it comes; fields without one are read at once, and take many times their length
    if request.endpoint == TAKES_FILES and request.mimetype == "multipart/form-data" and current_user.is_authenticated:
        request.max_content_length = REQUEST_LIMIT


def _disarm(response: Response) -> Response:
    if request.endpoint == "files.page":
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def read(posted: Sequence[FileStorage]) -> list[Upload]:
    """The files of a form, checked; 400 with the reason for one that may not be sent. A field left empty is none."""
    files = [file for file in posted if file.filename]
    if len(files) > COUNT_LIMIT:
        abort(400, gettext("No more than %(limit)s files go with one answer.", limit=COUNT_LIMIT))
    return [check(str(file.filename), file.read(SIZE_LIMIT + 1)) for file in files]


def check(filename: str, content: bytes) -> Upload:
    """The file, if it may be sent; else 400 with the reason."""
    name = _name(filename)
    kind, beginnings = TYPES.get(PurePosixPath(name).suffix.removeprefix(".").lower(), ("", ()))
    if len(content) > SIZE_LIMIT:
        abort(400, gettext("%(name)s is larger than %(limit)s MB.", name=name, limit=SIZE_LIMIT // 1024**2))
    if not content or not content.startswith(beginnings) or (kind.startswith("text/") and b"\0" in content):
        abort(400, gettext("%(name)s cannot be sent: it is not, or not inside, what its name says.", name=name))
    return Upload(name, kind, content)


def _name(filename: str) -> str:
    """The last part of the path, without what could not be in a name, short enough and with its ending."""
    name = re.sub(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]", "", PurePosixPath(filename.replace("\\", "/")).name)
    return name[-NAME_LIMIT:]


@blueprint.get(f"/files/<int(max={10**18 - 1}):file_id>")
def page(file_id: int) -> ResponseReturnValue:
    """The file, to be saved; a page may show a picture. It never changes, so the browser asks only whether it still may."""
    etag = str(file_id)
    if request.if_none_match.contains(etag):
        response = Response(status=304)
    else:
        row = reader().execute(select(File.name, File.type, File.content).where(File.id == file_id)).one_or_none()
        name, kind, content = row or abort(404)
        response = send_file(BytesIO(content), kind, as_attachment=True, download_name=name, etag=False)
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(etag)
    return response
