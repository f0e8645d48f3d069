"""python -m app.bot [receive | answer | deliver | check]: all three loops, one of them alone, or what VK has to say of us."""

import gc
import os
import signal
import sys

import structlog

from app import service
from app.bot.answer import answer
from app.bot.check import SANDBOX_TOKEN, check
from app.bot.checkup import checkup
from app.bot.deliver import deliver
from app.bot.loops import Bot, Loop, Pulse, start
from app.bot.receive import receive
from app.bot.texts import load_texts
from app.settings import Settings, SettingsError
from app.storage.engine import make_engine

LOOPS: dict[str, Loop] = {"bot.receive": receive, "bot.answer": answer, "bot.deliver": deliver}
TOUCH = 5.0  # seconds between two touches of the file that shows we live
LAST_WORDS = 5.0  # seconds for what is in flight when we have to stop


def main(settings: Settings) -> None:
    """Run the loops until SIGTERM or SIGINT, then end with exit code 0."""
    if sys.argv[1:] == ["check"]:
        sys.exit(check(settings))
    names = [f"bot.{name}" for name in sys.argv[1:]] or list(LOOPS)
    if len(sys.argv) > 2 or not LOOPS.keys() >= set(names):
        sys.exit(f"usage: {__doc__}")
    loops = {name: LOOPS[name] for name in names}

    bot = Bot(settings, make_engine(settings.database))
    # a wrong setting or text is said now, not by a loop that tries for ever
    if settings.app_env == "production" and settings.secret("vk_token") == SANDBOX_TOKEN:
        raise SettingsError("there is no key of VK yet: write one into secrets/vk_token; `make vk-check` says where to get it")
    bot.vk()
    load_texts(settings.app_language)
    sys.setswitchinterval(0.001)  # seconds: who has its turn to send must not wait until the others have calculated
    gc.freeze()  # what is here by now stays; looking through it for garbage would take a third of the loops' time

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bot.stop.set())
    pulse = Pulse(loops)
    threads = start(bot, {**loops, "bot.checkup": checkup}, pulse)  # without it messages come and go all the same
    structlog.get_logger().info(f"started: {', '.join(loops)}")
    pulse.touch()
    while not bot.stop.wait(TOUCH):
        pulse.touch()
    for thread in threads:
        if thread.name != "bot.receive":  # a long poll takes its time, and nothing is lost with it
            thread.join(LAST_WORDS / len(threads))
    structlog.get_logger().info("stopped")
    # not by returning: the interpreter may stumble over a thread that is still in its poll
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    service.run("bot", main)
