"""python -m app.storage migrate | reset-password | seed [COUNT] [--add] | token LOGIN NAME [SCOPE…] | revision MESSAGE"""

import sys

from app import service
from app.settings import Settings
from app.storage import migrate, seed, tokens


def main(settings: Settings) -> None:
    """Do what the command line asks for."""
    match sys.argv[1:]:
        case ["migrate"]:
            migrate.migrate(settings)
        case ["reset-password"]:
            migrate.reset_password(settings)
        case ["seed", *words]:
            seed.main(settings, words)
        case ["token", login, name, *words]:
            tokens.main(settings, login, name, words)
        case ["revision", message] if message:
            migrate.revision(settings, message)
        case _:
            sys.exit(f"usage: {__doc__}")


if __name__ == "__main__":
    service.run("migrate", main)
