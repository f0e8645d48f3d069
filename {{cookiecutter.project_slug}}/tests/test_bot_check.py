"""`make vk-check` against the sandbox, in every wrong state that it can be set to."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from pydantic import SecretStr
from werkzeug.serving import make_server

from app.bot.check import EVENTS, RIGHTS, Check, check, checks
from app.settings import Settings, SettingsError
from tests.bot import Sandbox
from tests.conftest import make_settings

PROJECT = Path(__file__).parent.parent
TOKEN = make_settings().secret("vk_token")


def asking(sandbox: Sandbox, **changes: Any) -> Settings:
    return make_settings(**({"vk_api_url": sandbox.url, "app_language": "en"} | changes))


@contextmanager
def answering() -> Iterator[str]:
    """A site that confirms itself and says "ok" to every event."""
    site = Flask("site")
    site.add_url_rule("/vk/callback", view_func=lambda: "ok", methods=["POST"])
    server = make_server("127.0.0.1", 0, site, threaded=True)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def wrong(found: list[Check]) -> dict[str, Check]:
    return {each.name: each for each in found if not each.right}


def test_all_is_right_in_the_sandbox_as_it_comes(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    found = checks(asking(sandbox))
    names = ["sandbox", "token", *RIGHTS, "group", "messages_on", "longpoll", "version", *EVENTS]
    assert [each.name for each in found] == names
    assert all(each.right and each.cure is None for each in found)
    assert check(asking(sandbox)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(names)
    assert all(line.startswith(" ✓ ") for line in lines)


@pytest.mark.parametrize(
    ("state", "name", "words", "cure"),
    [
        ({"permissions": ["manage", "photos", "docs"]}, "messages", "не разрешает: сообщения сообщества", "Ключи доступа"),
        ({"permissions": ["messages", "photos", "docs"]}, "manage", "не разрешает: управление", "Ключи доступа"),
        ({"permissions": ["messages", "manage", "docs"]}, "photos", "не разрешает: фотографии", "Ключи доступа"),
        ({"permissions": ["messages", "manage", "photos"]}, "docs", "не разрешает: документы", "Ключи доступа"),
        ({"messages_enabled": False}, "messages_on", "выключены", "Управление → Сообщения"),
        ({"longpoll_enabled": False}, "longpoll", "выключен", "Long Poll API"),
        ({"longpoll_version": "5.92"}, "version", "5.92 слишком старая", "версия API 5.199"),
        *(
            (
                {"events": [other for other in EVENTS if other != name]},
                name,
                f"не сообщает: {event.ru}",
                f"Управление → Работа с API → Long Poll API → Типы событий: отметьте «{event.ru}»",
            )
            for name, event in EVENTS.items()
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.islower() and value.isascii() else "",
)
def test_each_wrong_state_is_named_with_its_cure(
    sandbox: Sandbox, state: dict[str, Any], name: str, words: str, cure: str
) -> None:
    sandbox.post("settings", **state)
    found = wrong(checks(asking(sandbox, app_language="ru")))
    assert list(found) == [name]
    assert words in found[name].text
    assert cure in str(found[name].cure)


def test_all_that_is_wrong_is_said_at_once(sandbox: Sandbox) -> None:
    sandbox.post("settings", permissions=["messages", "manage"], messages_enabled=False, events=["message_new"])
    assert list(wrong(checks(asking(sandbox)))) == [
        *("photos", "docs", "messages_on", "message_event", "message_allow", "message_deny")
    ]


def test_a_key_of_another_community_is_noticed(sandbox: Sandbox) -> None:
    found = wrong(checks(asking(sandbox, vk_group_id=77)))
    assert list(found) == ["group"]
    assert "number 1; VK_GROUP_ID is 77" in found["group"].text
    assert "VK_GROUP_ID=1" in str(found["group"].cure)


@pytest.mark.parametrize("code", [5, 15, 17, 25, 27, 28])
def test_a_refused_key_is_said_once_and_never_shown(sandbox: Sandbox, capsys: pytest.CaptureFixture[str], code: int) -> None:
    if code == 5:
        sandbox.post("settings", token="another")
    else:
        sandbox.post("faults", fault="error", code=code)
    settings = asking(sandbox)
    found = wrong(checks(settings))
    assert list(found) == ["token"]
    assert f"({code}: " in found["token"].text
    assert "Create token" in str(found["token"].cure)
    assert check(settings) == 1
    assert TOKEN not in str(capsys.readouterr())


@pytest.mark.parametrize("fault", ["http", "html", "reset"])
def test_a_vk_that_does_not_answer_is_one_readable_line(sandbox: Sandbox, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    sandbox.post("faults", fault=fault, method="groups.getById")
    settings = asking(sandbox)
    assert check(settings) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line[:3] for line in said] == [" ✓ "] * 6 + [" ✗ ", "   "]
    assert "VK" in said[-2]
    assert TOKEN not in "".join(said)


def test_a_vk_that_is_not_there_is_one_readable_line(sandbox: Sandbox) -> None:
    found = wrong(checks(asking(sandbox, vk_api_url="http://127.0.0.1:1")))
    assert list(found) == ["vk"]
    assert found["vk"].text.startswith("VK does not answer")


def test_another_error_is_said_as_it_is(sandbox: Sandbox) -> None:
    sandbox.post("faults", fault="error", code=9, method="messages.getConversations")
    found = wrong(checks(asking(sandbox)))
    assert list(found) == ["vk"]
    assert "Flood control" in found["vk"].text


@pytest.mark.parametrize("app_env", ["development", "production"])
def test_the_word_sandbox_is_no_key_and_not_sent_to_vk(app_env: str) -> None:
    found = checks(make_settings(app_language="en", app_env=app_env).model_copy(update={"vk_token": SecretStr("sandbox")}))
    assert [(each.name, each.right) for each in found] == [("token", False)]
    assert "the word sandbox" in found[0].text


def test_production_does_not_ask_the_sandbox(sandbox: Sandbox) -> None:
    with pytest.raises(SettingsError, match="VK_API_URL"):
        checks(asking(sandbox, app_env="production"))


def test_vks_calls_are_looked_at_where_they_are_the_way(sandbox: Sandbox) -> None:
    settings = asking(sandbox, vk_transport="callback")
    # what of the long poll is switched off does not matter then
    sandbox.post("settings", longpoll_enabled=False)
    assert list(wrong(checks(settings))) == ["callback"]
    with answering() as url:
        sandbox.post("callback", url=f"{url}/vk/callback")
        sandbox.post("settings", events=["message_new", "message_allow", "message_deny"])
        found = wrong(checks(settings))
    requests.delete(f"{sandbox.url}/control/callback", timeout=10)
    assert list(found) == ["message_event"]
    assert "Callback API → Event types" in str(found["message_event"].cure)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_the_command(sandbox: Sandbox, tmp_path: Path, language: str) -> None:
    sandbox.post("settings", messages_enabled=False)
    (tmp_path / "vk_token").write_text(TOKEN)
    environment = {"PYTHONPATH": str(PROJECT), "SECRETS_DIR": str(tmp_path), "APP_LANGUAGE": language, "VK_API_URL": sandbox.url}
    command = [sys.executable, "-m", "app.bot", "check"]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    cure = (
        "Управление → Сообщения → Сообщения сообщества: Включены"
        if language == "ru"
        else "Manage → Messages → Community messages: Enabled"
    )
    assert re.findall(r" ✗ .*\n   → (.*)\n", done.stdout) == [cure]
    assert done.stdout.count("✗") == 1
    assert TOKEN not in done.stdout
