"""How long a new project takes, against an empty template: both in one run, turn about.

    make bench-scaffold

Measures the last commit, from a clone: what tools leave in a checkout would be copied too. The last line is the ratio.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
ROUNDS = 15
GOAL = 3


def main() -> None:
    """Bake each template `ROUNDS` times, print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, empty = folder / "ours", folder / "empty"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, ours], check=True)
        project = empty / "{{cookiecutter.project_slug}}"
        project.mkdir(parents=True)
        (project / "README.md").write_text("{{ cookiecutter.project_slug }}\n")
        (empty / "cookiecutter.json").write_text(json.dumps({"project_slug": "empty"}))

        # the first round fills the caches and does not count
        rounds = [(bake(empty, folder / f"{turn}"), bake(ours, folder / f"{turn}")) for turn in range(ROUNDS + 1)][1:]
    baseline, scaffold = map(median, zip(*rounds, strict=True))
    print(f"empty {baseline * 1000:.0f} ms, ours {scaffold * 1000:.0f} ms, medians of {ROUNDS}")
    print(f"scaffold ratio={scaffold / baseline:.2f} goal={GOAL}")


def bake(template: Path, output: Path) -> float:
    """Seconds that the `cookiecutter` command takes, from its start to its end."""
    command = [Path(sys.executable).with_name("cookiecutter"), template, "--no-input", "--default-config", "--output-dir", output]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
