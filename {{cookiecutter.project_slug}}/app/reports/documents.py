"""Charts as pictures, and pages of them as PDF or PNG. All of it is drawn by a process of its own, one at a time.

    python -m app.reports.documents < ORDER.json > FILE

Drawing takes a hundred megabytes that a process does not give back, and would hold up every page that is being answered
(it keeps Python's lock): so a process is started for it, and ends with it.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

Spec = dict[str, Any]
Kind = Literal["png", "svg"]

PAGE = Path(__file__).parent / "documents.typ"
WIDTH, SCALE = 800, 2  # of a chart: pixels, and how many of the picture's make one
TIMEOUT = 20  # seconds of one process
AT_ONCE = 4  # charts that one process draws: each adds 3 MB to it
TYPES: dict[Kind, str] = {"png": "image/png", "svg": "image/svg+xml"}
_one_at_a_time = threading.Lock()


class NotDrawn(Exception):
    """There is no picture; the message is one line that says why."""


@dataclass(frozen=True)
class Section:
    """One chart of a document, what is said about it, and its figures as a table: `head` and `rows` are texts."""

    title: str
    text: str = ""
    chart: Spec | None = None
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Document:
    """A report as a document: a title page with the main `figures` (name, value), then the sections."""

    title: str
    subtitle: str
    made: str
    language: str
    figures: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = field(default_factory=list)


def chart(spec: Spec, kind: Kind) -> bytes:
    """One chart with its title, on white. Raises `NotDrawn`."""
    return _draw({"kind": kind, "chart": spec})


def pdf(document: Document) -> bytes:
    """The document with a title page, charts and tables, A4. Raises `NotDrawn`."""
    return _pages(document, "pdf")


def picture(document: Document) -> bytes:
    """The document's figures and charts on one page, as PNG for a chat. Raises `NotDrawn`."""
    return _pages(document, "picture")


def _pages(document: Document, kind: Literal["pdf", "picture"]) -> bytes:
    """First the charts, then the pages with them: a process for all of it would need as much memory as two."""
    charts = [(f"{number}.pdf", section.chart) for number, section in enumerate(document.sections) if section.chart]
    with TemporaryDirectory() as folder:
        for begin in range(0, len(charts), AT_ONCE):
            _draw({"kind": "charts", "charts": charts[begin : begin + AT_ONCE], "folder": folder})
        return _draw({"kind": kind, "document": asdict(document), "folder": folder})


def _draw(order: dict[str, Any]) -> bytes:
    with _one_at_a_time:
        try:
            # our own module, and the order goes through its standard input
            command = [sys.executable, "-m", "app.reports.documents"]
            done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, timeout=TIMEOUT, check=True)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise NotDrawn(f"drawing took longer than {TIMEOUT} s") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise NotDrawn(said[-1] if said else f"drawing ended with {error.returncode}") from None
    return done.stdout


def _chart(spec: Spec, kind: str) -> bytes:
    import vl_convert  # noqa: PLC0415 - in the process that draws only

    options = spec.get("usermeta", {}).get("embedOptions", {})
    drawing: dict[str, Any] = {
        "vl_spec": spec | {"width": WIDTH},
        "format_locale": options.get("formatLocale"),
        "time_format_locale": options.get("timeFormatLocale"),
        "allowed_base_urls": [],
    }
    match kind:
        case "png":
            return vl_convert.vegalite_to_png(**drawing, scale=SCALE)
        case "svg":
            return vl_convert.vegalite_to_svg(**drawing).encode()
        case _:
            return vl_convert.vegalite_to_pdf(**drawing)


def _document(document: dict[str, Any], kind: str, folder: Path) -> bytes:
    """The pages; the charts are in `folder` already."""
    import typst  # noqa: PLC0415 - in the process that draws only

    # as a file: a program's arguments may not be as long as a table is
    (folder / "document.json").write_text(json.dumps(document | {"kind": kind}), "utf-8")
    page = folder / PAGE.name
    page.write_bytes(PAGE.read_bytes())
    form: dict[str, Any] = {"format": "pdf"} if kind == "pdf" else {"format": "png", "ppi": 144}
    made: bytes = typst.compile(page, root=folder, ignore_system_fonts=True, **form)
    return made


def _obey(order: dict[str, Any]) -> bytes:
    match order["kind"]:
        case "charts":
            for name, spec in order["charts"]:
                (Path(order["folder"]) / name).write_bytes(_chart(spec, "pdf"))
            return b""
        case "pdf" | "picture":
            return _document(order["document"], order["kind"], Path(order["folder"]))
    titled = order["chart"] | {"title": order["chart"].get("description", "")}
    return _chart(titled, order["kind"])


if __name__ == "__main__":
    sys.stdout.buffer.write(_obey(json.load(sys.stdin)))
