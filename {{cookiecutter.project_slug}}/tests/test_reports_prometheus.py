"""The rules for Prometheus: they hold what they promise, and every figure in them is one that there is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = ROOT / "prometheus"


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: install Debian's package prometheus")
@pytest.mark.parametrize(
    "command", [["test", "rules", "alerts_test.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]], ids=" ".join
)
def test_rules_and_configuration(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_figure_of_the_rules_exists() -> None:
    asked = set(re.findall(r"desk_\w+", (RULES / "alerts.yml").read_text("utf-8")))
    told = set(re.findall(r'"(desk_\w+)"', (ROOT / "app" / "web" / "metrics.py").read_text("utf-8")))
    told |= {f"desk_{name}" for name in re.findall(r'"([a-z_]+)"', (ROOT / "app" / "reports" / "readings.py").read_text("utf-8"))}
    assert len(asked) > 5
    assert asked <= told
