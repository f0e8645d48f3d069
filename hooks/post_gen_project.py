"""Removes what was not chosen: only what the template itself brings, so that a second run changes nothing."""

import json
import shutil
from pathlib import Path

ANSWERS = json.loads(r'{{ cookiecutter | tojson }}')  # fmt: skip

UNCHOSEN = {
    "bot": [
        *("app/bot", "requirements/bot.*", "tests/bot.*", "tests/test_bot*"),
        *("app/sandbox", "requirements/sandbox.*", "tests/sandbox.*", "tests/test_sandbox*"),
    ],
    "reports": ["app/reports", "requirements/reports.*", "tests/reports.*", "tests/test_reports*", "prometheus"],
}
# what tools leave in the template's folder when somebody works on it in place
LEAVINGS = [".*_cache", ".hypothesis", "**/__pycache__", "tests/**/artifacts"]
CI = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}

patterns = LEAVINGS + [pattern for part, paths in UNCHOSEN.items() if not ANSWERS[part] for pattern in paths]
patterns += [path for ci, path in CI.items() if ci != ANSWERS["ci"]]
for path in [path for pattern in patterns for path in Path().glob(pattern)]:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
for folder in (Path(".github/workflows"), Path(".github")):
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
