"""The script that draws the charts in the browser: Vega, Vega-Lite, Vega-Embed and `charts.js` in one file, made once.

    python -m app.reports.bundle FILE

Making it takes a second and 150 MB, which a process does not give back: so it is made in a process of its own, before the
service starts, and kept on disk.
"""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).parent / "static" / "charts.js"


def name() -> str:
    """The file's name, which changes with what is in it."""
    digest = hashlib.sha256(version("vl-convert-python").encode() + SOURCE.read_bytes())
    return f"vega-{digest.hexdigest()[:16]}.js"


def prepare(folder: Path) -> Path:
    """The script's file in `folder`, made if it is not there. Raises `OSError` when it cannot be written."""
    file = folder / name()
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch) / file.name
            subprocess.run([sys.executable, "-m", "app.reports.bundle", part], check=True)  # noqa: S603 - our own module
            part.replace(file)
    return file


if __name__ == "__main__":
    import vl_convert

    Path(sys.argv[1]).write_text(vl_convert.javascript_bundle(SOURCE.read_text("utf-8")), "utf-8")
