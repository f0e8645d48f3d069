"""The bot of a project while everything around it fails: a short run of `make chaos-bot`."""

import os
import re
import sys

import pytest

from tests.conftest import ROOT, run


@pytest.mark.timeout(300)
def test_a_minute_of_chaos_loses_nothing_and_doubles_nothing() -> None:
    if run("docker", "info", cwd=ROOT).returncode:
        assert os.environ.get("REQUIRE_DOCKER") != "1", "no Docker engine answers"
        pytest.skip("no Docker engine answers")
    done = run(sys.executable, "benchmarks/chaos.py", "--minutes", "0.7", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    # it has really struck, and people have really written
    assert len(re.findall(r"first answer +[\d.]+ s", done.stdout)) >= 2
    [messages] = re.findall(r"^messages (\d+), lost 0, doubled 0, overtaken 0$", done.stdout, re.MULTILINE)
    assert int(messages) > 20
