"""What a baked project costs in containers: build, start, size, memory.

    make bench-stack

Builds without cached layers (the base images are there, packages come from pip's cache where it is warm), starts on
fresh volumes, lets the stack idle, and writes a table to the screen and the same figures to benchmarks/results/stack.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import docker
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
NAME = "desk-bench"
IDLE = 60  # seconds before memory is read: health checks have run, caches are filled
BASES = {"db": "postgres:18"}
PYTHON = "python:3.14-slim"


def main() -> None:
    """Bake, build, start, measure, remove."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(cookiecutter(str(ROOT), no_input=True, output_dir=folder))
        environment = {**os.environ, "WEB_PORT": "18000", "SANDBOX_PORT": "18002"}

        def run(*command: str) -> float:
            started = time.monotonic()
            done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            return time.monotonic() - started

        compose = ["docker", "compose", "--project-name", NAME]
        run("make", "init")
        try:
            figures = {
                "build_seconds": run(*compose, "build", "--no-cache"),
                "start_seconds": run(*compose, "up", "--detach", "--wait"),
            }
            print(f"idling for {IDLE} s", file=sys.stderr)
            time.sleep(IDLE)
            report({**figures, **measure()})
        finally:
            run(*compose, "down", "--volumes", "--rmi", "local")


def measure() -> dict[str, dict[str, float]]:
    """Megabytes of each service: the image above its base, and memory in use (without the page cache that can go)."""
    engine = docker.from_env()
    services: dict[str, dict[str, float]] = {}
    for container in engine.containers.list(filters={"label": f"com.docker.compose.project={NAME}"}):
        service = container.labels["com.docker.compose.service"]
        base = engine.images.get(BASES.get(service, PYTHON)).attrs["Size"]
        memory = container.stats(stream=False)["memory_stats"]
        services[service] = {
            "image_mb": (container.image.attrs["Size"] - base) / 1e6,
            "memory_mb": (memory["usage"] - memory["stats"]["inactive_file"]) / 1e6,
        }
    return {"services": services}


def report(figures: dict) -> None:
    """Print the table, write the file."""
    services = figures["services"]
    total = {kind: sum(values[kind] for values in services.values()) for kind in ("image_mb", "memory_mb")}
    print(f"{'':10} {'image above base, MB':>22} {'idle memory, MB':>17}")
    for service, values in {**dict(sorted(services.items())), "sum": total}.items():
        print(f"{service:10} {values['image_mb']:22.0f} {values['memory_mb']:17.0f}")
    print(f"cold build {figures['build_seconds']:.0f} s, start to all healthy {figures['start_seconds']:.0f} s")
    results = ROOT / "benchmarks/results"
    results.mkdir(exist_ok=True)
    (results / "stack.json").write_text(json.dumps({**figures, "sum": total}, indent=2) + "\n")


if __name__ == "__main__":
    main()
