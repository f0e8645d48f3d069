"""Creates `.env` and the secrets, each only where it is not there yet. The other scripts ask here what the project has.

The scripts need nothing but Python 3.11: they run before anything is installed.
"""

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / ".env"
EXAMPLE = ROOT / ".env.example"
SECRETS = ROOT / "secrets"
SANDBOX_TOKEN = "sandbox"  # noqa: S105 - the word that stands in secrets/vk_token while there is no token


def secret_names() -> list[str]:
    """The secrets that docker-compose.yml names, which is the only list of them."""
    return re.findall(r"file: *[\"']?\./secrets/(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def read_env(path: Path) -> dict[str, str]:
    """The names and values of an env file; an empty dict when there is none. The last of two equal names counts."""
    if not path.exists():
        return {}
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\s*(?:export\s+)?(\w+)\s*=\s*(?:'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|(.*?))\s*(?:(?<=\s)#.*)?$", line):
            name, *forms = match.groups()
            values[name] = next((form for form in forms if form is not None), "")
    return values


def setting(name: str) -> str:
    """A setting as the services see it: the environment wins over `.env`; empty when neither has it."""
    return os.environ.get(name) or read_env(ENV).get(name, "")


def _create(path: Path, content: str, mode: int) -> bool:
    """Write a file that is not there yet, with exactly this mode whatever the umask is. False when it is there.

    A file that holds nothing counts as not there.
    """
    if path.is_file() and not path.read_text(encoding="utf-8").strip():
        path.unlink()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    return True


def main() -> None:
    """Create what is missing, and say what was created."""
    created = []
    if _create(ENV, EXAMPLE.read_text(encoding="utf-8"), 0o600):
        created.append(".env (the settings, each with its reason)")
    if not SECRETS.exists():
        SECRETS.mkdir(0o700)
        SECRETS.chmod(0o700)  # whatever the umask took away
    for name in secret_names():
        value = SANDBOX_TOKEN if name == "vk_token" else secrets.token_hex(16)
        # compose hands the files to containers as they are, and the users there are others than here: they must be
        # readable to all, inside a folder that nobody else can enter
        if _create(SECRETS / name, value + "\n", 0o644):
            created.append(
                f"secrets/{name}" + (f" (the word {value}, until you have a real one)" if value == SANDBOX_TOKEN else "")
            )
    for line in created:
        print(f"created {line}")
    if not created:
        print(".env and the secrets are there")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"init: {error.filename}: {error.strerror}; see `make doctor`")
