"""Looks for what keeps the project from running, and says the cure of each fault. Exit code 1 when something is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from init import ENV, EXAMPLE, ROOT, SANDBOX_TOKEN, SECRETS, read_env, secret_names, setting
from run import is_free, ports, secret

ENGINE, COMPOSE = (25, 0), (2, 24)  # the first with start_interval, and with env files that need not be there
GIGABYTE = 1 << 30


class Finding(NamedTuple):
    """One line of the answer."""

    mark: str
    text: str
    cure: str = ""


def good(text: str) -> Finding:
    """Nothing to do."""
    return Finding("✓", text)


def doubtful(text: str, cure: str) -> Finding:
    """It may run all the same."""
    return Finding("!", text, cure)


def broken(text: str, cure: str) -> Finding:
    """It will not run."""
    return Finding("✗", text, cure)


def ask(*command: str, **environment: str) -> tuple[bool, str]:
    """Whether a command succeeded, and what it said. A command that is missing or hangs did not succeed."""
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=30, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, (done.stdout if done.returncode == 0 else done.stderr).strip()


def compose(*arguments: str, **environment: str) -> tuple[bool, str]:
    """`ask` docker compose."""
    return ask("docker", "compose", *arguments, **environment)


@cache
def engine() -> dict[str, Any]:
    """What the engine says of itself; an empty dict when it does not answer."""
    answers, said = ask("docker", "info", "--format", "{{json .}}")
    return dict(json.loads(said)) if answers else {}


def _older(version: str, least: tuple[int, int]) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return numbers < least


def check_docker() -> Iterator[Finding]:
    """Docker, Compose and buildx are there, new enough, and allowed to do what the compose file asks for."""
    if not shutil.which("docker"):
        yield doubtful("Docker is not installed", "get it from https://docs.docker.com/get-docker/ (`make run` needs none)")
        return
    if not engine():
        said = ask("docker", "info", "--format", "{{.ServerVersion}}")[1]
        if "permission denied" in said:
            cure = 'run `sudo usermod -aG docker "$USER"` and sign in again'
        else:
            cure = "start Docker Desktop, or `sudo systemctl start docker` (`make run` needs none)"
        yield broken("the Docker engine does not answer", cure)
        return
    version = str(engine()["ServerVersion"])
    if _older(version, ENGINE):
        yield broken(
            f"Docker Engine {version} is too old", f"install {ENGINE[0]} or newer: https://docs.docker.com/engine/install/"
        )
    else:
        yield good(f"Docker Engine {version}")
    for name in ("compose", "buildx"):
        there, version = ask("docker", name, "version")
        if not there:
            yield broken(f"Docker's plugin {name} is missing", f"install docker-{name}-plugin (Debian: docker-{name})")
        elif name == "compose" and _older(version, COMPOSE):
            yield broken(f"{version} is too old", f"install {COMPOSE[0]}.{COMPOSE[1]} or newer: docker-compose-plugin")
    missing = [name for name in ("MemoryLimit", "CpuCfsQuota", "PidsLimit") if not engine().get(name)]
    if missing:
        cure = "a rootless engine needs cgroup delegation: https://docs.docker.com/engine/security/rootless/"
        yield broken(f"the engine cannot limit what containers take ({', '.join(missing)})", cure)


def check_ports() -> Iterator[Finding]:
    """The ports are free, or this project's own containers have them."""
    _, said = compose("ps", "--format", "json")
    own = {
        place.get("PublishedPort")
        for line in said.splitlines()
        if line.startswith("{")
        for place in json.loads(line)["Publishers"]
    }
    try:
        wanted = ports()
    except ValueError as error:
        yield broken(str(error), "see .env.example")
        return
    for name, (variable, port) in wanted.items():
        if port in own or is_free(port):
            yield good(f"port {port} for {name}")
        else:
            cure = f"stop what uses it (`make run` in another terminal?), or set {variable} in .env"
            yield broken(f"port {port} for {name} is taken or not allowed", cure)


def check_env() -> Iterator[Finding]:
    """`.env` is there, for its owner alone, and holds no name that nobody reads."""
    if not ENV.is_file():
        yield broken(".env is missing", "run `make init`")
        return
    lines = ENV.read_text(encoding="utf-8").splitlines()
    odd = [number for number, line in enumerate(lines, 1) if not re.match(r"\s*(#|$|(export\s+)?\w+\s*=)", line)]
    if odd:
        yield broken(f".env cannot be read in line {odd[0]}", "write NAME=value, or # before a remark")
    known = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    unknown = sorted(set(read_env(ENV)) - known)
    if unknown:
        yield doubtful(f".env has names that nothing reads: {', '.join(unknown)}", "look for the right name in .env.example")
    if ENV.stat().st_mode & 0o077:
        yield doubtful("others on this machine can read .env", "run `chmod 600 .env`")
    if not (odd or unknown):
        yield good(".env")


def check_secrets() -> Iterator[Finding]:
    """Every secret is there, holds something, and can be read by the containers' users but not by others on this machine."""
    files = [SECRETS / name for name in secret_names()]
    missing = [path.name for path in files if not path.is_file()]
    empty = [path.name for path in files if path.is_file() and not secret(path.name)]
    locked = [f"secrets/{path.name}" for path in files if path.is_file() and not path.stat().st_mode & 0o004]
    if missing:
        yield broken(f"missing in secrets/: {', '.join(missing)}", "run `make init`")
    if empty:
        yield broken(f"empty in secrets/: {', '.join(empty)}", "write the value into the file, or remove it and run `make init`")
    if locked:
        yield broken(f"the containers' users cannot read {', '.join(locked)}", f"run `chmod 644 {' '.join(locked)}`")
    if SECRETS.exists() and SECRETS.stat().st_mode & 0o077:
        yield doubtful("others on this machine can read secrets/", "run `chmod 700 secrets`")
    if not (missing or empty or locked):
        yield good(f"{len(files)} secrets")


def check_owner() -> Iterator[Finding]:
    """What was made as root, by `sudo make …`, cannot be written later."""
    paths = [ENV, SECRETS, ROOT / "data", *(ROOT / "data").glob("*.db*")]
    foreign = [str(path.relative_to(ROOT)) for path in paths if path.exists() and not os.access(path, os.W_OK)]
    if foreign:
        cure = f"run `sudo chown -R $(id -u):$(id -g) {' '.join(foreign)}`"
        yield broken(f"uid {os.getuid()} may not write {', '.join(foreign)}", cure)


def check_vk() -> Iterator[Finding]:
    """The token and where it is used fit together."""
    if "vk_token" not in secret_names() or not secret("vk_token"):
        return
    if secret("vk_token") != SANDBOX_TOKEN:
        if setting("VK_GROUP_ID"):
            yield good(f"VK: a token for the community {setting('VK_GROUP_ID')}")
        else:
            yield broken("there is a VK token, but no community", "set VK_GROUP_ID in .env")
    elif "override" in (setting("COMPOSE_FILE") or "override"):
        yield good("VK: the sandbox (the real one needs a token in secrets/vk_token)")
    else:
        yield broken("production without a VK token", "write the community's token into secrets/vk_token")


def check_volume() -> Iterator[Finding]:
    """A database keeps the password of the day on which its volume was made."""
    worked, said = compose("config", "--format", "json") if engine() else (False, "")
    config = json.loads(said) if worked else {}
    password = secret("db_password_owner")
    if "db" not in config.get("services", {}) or not password:
        return
    volume = config["volumes"]["database"]["name"]
    there, created = ask("docker", "volume", "inspect", "--format", "{{.CreatedAt}}", volume)
    if not there:
        return
    cure = f"put the old password back into secrets/db_password_owner; or lose the data: `make down && docker volume rm {volume}`"
    # not by 127.0.0.1, where the image trusts everybody
    login = 'psql --no-password --host db --username "$POSTGRES_USER" --command "SELECT 1" "$POSTGRES_DB"'
    answers, said = compose("exec", "--no-TTY", "--env", "PGPASSWORD", "db", "sh", "-c", login, PGPASSWORD=password)
    if answers:
        yield good("the database takes the password")
    elif "password authentication failed" in said:
        yield broken("the database has another password than secrets/db_password_owner", cure)
    elif (SECRETS / "db_password_owner").stat().st_mtime > datetime.fromisoformat(created).timestamp() + 10:
        yield doubtful("the database's volume is older than its password, and may have another", cure)


def check_containers() -> Iterator[Finding]:
    """No container keeps failing; one that does has said why in its last words."""
    worked, said = compose("ps", "--all", "--format", "json") if engine() else (False, "")
    for line in said.splitlines() if worked else ():
        container = json.loads(line)
        if container["State"] == "running" and container["Health"] in ("", "healthy", "starting"):
            continue
        if container["State"] == "exited" and not container["ExitCode"]:
            continue
        _, words = compose("logs", "--no-color", "--no-log-prefix", "--tail", "1", container["Service"])
        state = container["Health"] if container["State"] == "running" else container["State"]
        yield broken(f"the container {container['Service']} is {state}", f"it said last: {words or 'nothing'}")


def check_line_ends() -> Iterator[Finding]:
    """No file that a shell, make or a container reads ends its lines as Windows does."""
    patterns = (
        "*.sh",
        "*/*.sh",
        "Makefile",
        "Procfile",
        "Dockerfile",
        "*/Dockerfile",
        "docker-compose*.yml",
        ".env",
        "secrets/*",
    )
    files = (path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())
    crooked = sorted(str(path.relative_to(ROOT)) for path in files if b"\r\n" in path.read_bytes())
    if crooked:
        yield broken(f"Windows line ends in {', '.join(crooked)}", f"run `perl -pi -e 's/\\r$//' {' '.join(crooked)}`")


def check_space() -> Iterator[Finding]:
    """Packages and images need room."""
    places = [ROOT, Path(engine().get("DockerRootDir", ROOT))]
    for path in {path.stat().st_dev: path for path in places if path.exists()}.values():
        free = shutil.disk_usage(path).free
        text = f"{free / GIGABYTE:.1f} GB free in {path}"
        if free < GIGABYTE // 2:
            yield broken(f"only {text}", "make room: `docker system df` shows what Docker keeps")
        elif free < 3 * GIGABYTE:
            yield doubtful(f"only {text}", "images need about 3 GB: `docker system df` shows what Docker keeps")
        else:
            yield good(text)


CHECKS = (
    check_docker, check_ports, check_env, check_secrets, check_owner, check_vk, check_volume, check_containers,
    check_line_ends, check_space,
)  # fmt: skip


def main() -> int:
    """Print every finding as it comes; the exit code."""
    worst = 0
    for check in CHECKS:
        for mark, text, cure in check():
            print(f" {mark} {text}" + (f": {cure}" if cure else ""), flush=True)
            worst |= mark == "✗"
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PermissionError as error:
        sys.exit(f" ✗ {error.filename} cannot be read by uid {os.getuid()}: run `sudo chown -R $(id -u):$(id -g) .`")
