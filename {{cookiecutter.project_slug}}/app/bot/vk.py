"""VK as the bot uses it: calls with time limits and under VK's rate, errors sorted by what is to be done about them."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests
from jconfig import MemoryConfig
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError
from vk_api import VkApi
from vk_api.exceptions import ApiError, ApiHttpError

from app.log import redact
from app.settings import Settings, SettingsError
from app.storage.models import Delivery
from app.storage.pace import Turns
from app.storage.queues import UNREACHABLE

API_VERSION = "5.199"
API_HOST = "https://api.vk.ru"  # vk_api has it written into its code
CALLS, WINDOW = 20, 1.03  # calls in so many seconds; VK counts them in one, and some catch up with others on the way
TIMEOUT = (3.05, 15)  # seconds to connect, and between two bytes of an answer
POLL_LATE = 10  # seconds after its wait within which a poll has to be answered


class Fault(StrEnum):
    """What is to be done about an error of VK."""

    RETRY = "retry"
    SLOW = "slow"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    PEER = "peer"
    OURS = "ours"


_FAULTS = {
    **dict.fromkeys((1, 6, 10, 36, 43), Fault.RETRY),
    **dict.fromkeys((9, 29), Fault.SLOW),
    **dict.fromkeys((5, 14, 15, 17, 25, 27, 28), Fault.TOKEN),
    **dict.fromkeys(UNREACHABLE, Fault.PEER),
}
OUR_FAULT = 0  # not a code of VK: what is wrong is on this side, and the same again would be wrong again
_PERHAPS_DONE = {1, 10, 36}  # errors inside VK, which may come after the work was done


class VkError(Exception):
    """VK did not do what it was asked, or did not say that it did; the text is one line without secrets.

    `code` is VK's own, None when there was no readable answer. `unsure`: it may have been done all the same.
    """

    def __init__(self, text: str, code: int | None = None, *, unsure: bool = False) -> None:
        super().__init__(redact(text))
        self.code = code
        self.unsure = unsure or code in _PERHAPS_DONE

    @property
    def fault(self) -> Fault:
        """What is to be done; a code that nobody knows would only be repeated in vain, so it counts as ours."""
        return Fault.RETRY if self.code is None else _FAULTS.get(self.code, Fault.OURS)


# a sent message's number within its dialog, None where VK does not tell it; or why the message was not sent
SendResult = int | VkError | None


class _Session(requests.Session):
    """Requests that never wait for ever: vk_api sets no time limit."""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().request(*args, **{"timeout": TIMEOUT, **kwargs})


class Elsewhere(HTTPAdapter):
    """Sends what is meant for VK's API to another address: the sandbox."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url.rstrip("/")

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Like its parent's."""
        request.url = self._url + str(request.url).removeprefix(API_HOST)
        return super().send(request, *args, **kwargs)


class Vk:
    """One line to VK, for one call at a time. All lines of a token take `turns`; without them it is for a few calls only."""

    def __init__(self, settings: Settings, turns: Turns | None = None) -> None:
        self._turns = turns
        self._session = _Session()
        self._api = VkApi(token=settings.secret("vk_token"), api_version=API_VERSION, session=self._session, config=MemoryConfig)
        # turns keep the rate, and the loops decide about errors: vk_api would repeat code 6 until the stack is full
        self._api.RPS_DELAY = 0
        self._api.error_handlers.clear()
        self._look_at = "does the internet answer, and with Docker, is the bot in the network egress?"
        if settings.vk_api_url:
            if settings.app_env == "production":
                raise SettingsError("VK_API_URL is for development; remove it from .env, or set APP_ENV=development")
            self._look_at = f"does the sandbox run at {settings.vk_api_url}?"
            self._session.mount(f"{API_HOST}/", Elsewhere(settings.vk_api_url))
            self._session.trust_env = False  # a proxy has no way to an address of this machine

    def take_turn(self) -> None:
        """Return when the next call may begin."""
        if self._turns is not None:
            self._turns.take()

    def call(self, method: str, **values: Any) -> Any:
        """The `response` of an API method, at its turn. Raises `VkError`."""
        self.take_turn()
        return self._answer(method, values)["response"]

    def send(self, deliveries: Sequence[Delivery]) -> list[SendResult]:
        """Send up to 25 messages with one `execute`, whose turn it is: what became of each.

        Raises `VkError` when the call failed as a whole.
        """
        calls = ",".join(f"API.messages.{_method(row)}" for row in deliveries)
        answer = self._answer("execute", {"code": f"return [{calls}];"})
        results = answer["response"]
        if not isinstance(results, list) or len(results) != len(deliveries):
            raise _unreadable("execute")
        errors = _explained(results, answer.get("execute_errors", []))
        return [_send_result(result, errors) for result in results]

    def upload(self, peer_id: int, file: Mapping[str, Any]) -> str:
        """Give VK a file, `Delivery.upload`, for a message to the peer; returns its word for the attachment. Raises `VkError`."""
        kind, name = file["kind"], file["name"]
        try:
            content = Path(file["path"]).read_bytes() if "path" in file else base64.b64decode(file["data"])
        except OSError as error:
            raise VkError(f"a file to send cannot be read: {error.strerror} {error.filename}", OUR_FAULT) from None
        section, field = ("photos", "photo") if kind == "photo" else ("docs", "file")
        try:
            server = self.call(f"{section}.getMessagesUploadServer", peer_id=peer_id)
            taken = self._give(server["upload_url"], {field: (name, content)})
            if kind == "photo":
                (saved,) = self.call("photos.saveMessagesPhoto", **{key: taken[key] for key in ("server", "photo", "hash")})
            else:
                saved = self.call("docs.save", file=taken["file"], title=name)["doc"]
            key = f"_{saved['access_key']}" if saved.get("access_key") else ""
            return f"{kind}{saved['owner_id']}_{saved['id']}{key}"
        except (KeyError, TypeError, ValueError):
            raise _unreadable("an upload") from None

    def _give(self, url: str, files: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
        try:
            response = self._session.post(url, files=files)
            response.raise_for_status()
            taken = response.json()
        except (requests.RequestException, ValueError) as error:
            raise self._no_answer("an upload", error) from None
        if not isinstance(taken, dict):
            raise _unreadable("an upload")
        return taken

    def poll(self, server: str, key: str, ts: str, wait: int) -> dict[str, Any]:
        """What the long poll says within `wait` seconds: `{"ts", "updates"}` or `{"failed"}`. Raises `VkError`."""
        values = {"act": "a_check", "key": key, "ts": ts, "wait": str(wait)}
        try:
            response = self._session.get(server, params=values, timeout=(TIMEOUT[0], wait + POLL_LATE))
            response.raise_for_status()
            answer = response.json()
        except (requests.RequestException, ValueError) as error:
            raise self._no_answer("the long poll", error) from None
        if not isinstance(answer, dict) or not ("failed" in answer or {"ts", "updates"} <= answer.keys()):
            raise _unreadable("the long poll")
        return answer

    def _answer(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._api.method(method, values, raw=True)
        except ApiError as error:
            # vk_api's error carries the token, so it goes no further
            raise _refusal(error.code, str(error.error.get("error_msg"))) from None
        except (ApiHttpError, requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise self._no_answer(method, error) from None
        if not isinstance(answer, dict) or "response" not in answer:
            raise _unreadable(method)
        return answer

    def _no_answer(self, what: str, error: Exception) -> VkError:
        """One short line for an error of the network: the libraries' own texts hold addresses, keys and object numbers."""
        if isinstance(error, ApiHttpError):
            return VkError(f"VK answers {what} with HTTP status {error.response.status_code}", unsure=True)
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return VkError(f"VK answers {what} with HTTP status {error.response.status_code}")
        if isinstance(error, ValueError | KeyError | TypeError):
            return _unreadable(what)
        said = f"VK does not answer ({what}: {type(error).__name__})"
        reason = getattr(error.args[0], "reason", None) if error.args else None
        if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError):
            return VkError(f"{said}: {self._look_at}")
        return VkError(said, unsure=True)


def _refusal(code: int, text: str) -> VkError:
    error = VkError(f"VK error {code}: {text}", code)
    if error.fault is Fault.TOKEN:
        return VkError(f"VK refuses the token ({code}: {text}); put the community's token into the secret vk_token", code)
    return error


def _unreadable(what: str) -> VkError:
    return VkError(f"VK's answer to {what} cannot be read", unsure=True)


def _method(row: Delivery) -> str:
    """The call that sends it, as a script has it."""
    if row.press is None:
        return f"send({_literal(_send_values(row))})"
    values = {"peer_id": row.peer_id, **row.press}
    if row.text:
        values["event_data"] = _literal({"type": "show_snackbar", "text": row.text})
    return f"sendMessageEventAnswer({_literal(values)})"


def _send_values(row: Delivery) -> dict[str, Any]:
    """The list form, `peer_ids`, is the one whose answer has the `conversation_message_id`."""
    values = {"peer_ids": str(row.peer_id), "random_id": row.random_id, "message": row.text}
    for name, structure in (("keyboard", row.keyboard), ("template", row.template)):
        if structure is not None:
            values[name] = _literal(structure)
    if row.attachment:
        values["attachment"] = row.attachment
    return values


def _literal(value: Any) -> str:
    """A literal of VKScript. It is JSON: no text can end its string. The two line ends that JSON allows raw, scripts do not."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _explained(results: Sequence[Any], errors: Sequence[dict[str, Any]]) -> Iterator[VkError]:
    """Why each refused call of an `execute` was refused, in order. VK repeats the last error as that of `execute` itself."""
    errors = [error for error in errors if error.get("method") != "execute" and "error_code" in error]
    refused = sum(result is False for result in results)
    if len(errors) == refused:
        return (_refusal(error["error_code"], str(error.get("error_msg"))) for error in errors)
    # which of them VK does not explain cannot be known, and none may be given up for another's error
    return iter([VkError("VK gives no reason", unsure=True)] * refused)


def _send_result(result: Any, errors: Iterator[VkError]) -> SendResult:
    """One result of an `execute`. A refused call is `false`, and its error is the next one; or the error is inside."""
    if result is False:
        return next(errors)
    item = result[0] if isinstance(result, list) and result else {}
    if "error" in item:
        return _refusal(item["error"]["code"], str(item["error"].get("description")))
    return item.get("conversation_message_id") or None
