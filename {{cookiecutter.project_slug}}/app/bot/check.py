"""Asks VK whether everything is set up as the bot needs it: `python -m app.bot check`, `make vk-check`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from app.bot.vk import API_VERSION, Fault, Vk, VkError
from app.settings import Settings

SANDBOX_TOKEN = "sandbox"  # noqa: S105 - the word that stands in secrets/vk_token while there is no token
DENIED = 15  # VK's error for what is switched off or not allowed
OLDEST = (5, 103)  # since this version of VK's API `message_new` holds what the bot reads


class Words(NamedTuple):
    """A text in the languages of the project."""

    en: str
    ru: str

    def choose(self, language: str) -> str:
        """The text in one of them."""
        return self.ru if language == "ru" else self.en


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is right, and what there is to say. `cure`: what to do where it is wrong."""

    name: str
    right: bool
    text: str
    cure: str | None = None


# the rights of a key, as VK calls them for programs and for people, and what the bot needs them for
RIGHTS = {
    "messages": (Words("community messages", "сообщения сообщества"), Words("to answer", "чтобы отвечать")),
    "manage": (Words("community management", "управление сообществом"), Words("for the long poll", "для Long Poll")),
    "photos": (Words("photos", "фотографии"), Words("to send pictures", "чтобы отправлять картинки")),
    "docs": (Words("files", "документы"), Words("to send documents", "чтобы отправлять документы")),
}
ALL_RIGHTS = Words(*(", ".join(names) for names in zip(*(right for right, _why in RIGHTS.values()), strict=True)))
EVENTS = {
    "message_new": Words("Incoming message", "Входящее сообщение"),
    "message_event": Words("Message action", "Действие с сообщением"),
    "message_allow": Words("Permission granted to send messages", "Разрешение на получение"),
    "message_deny": Words("Permission denied to send messages", "Запрет на получение"),
}
CALLBACK = "/vk/callback"  # where the web takes VK's calls

TEXTS = {
    "sandbox": Words("Asked: the sandbox at {url}, not VK", "Отвечает песочница по адресу {url}, а не ВКонтакте"),
    "no key": Words(
        "There is no key yet: secrets/vk_token holds the word sandbox", "Ключа ещё нет: в secrets/vk_token слово sandbox"
    ),
    "refused": Words("{why}", "ВКонтакте не принимает ключ. {why}"),
    "away": Words("{why}", "ВКонтакте недоступен. {why}"),
    "silent": Words("VK refuses to say. {why}", "ВКонтакте отказывается отвечать. {why}"),
    "key": Words("The key is valid", "Ключ действует"),
    "right": Words("The key allows: {right}", "Ключ разрешает: {right}"),
    "no right": Words("The key does not allow: {right}, needed {why}", "Ключ не разрешает: {right}. Это нужно, {why}"),
    "group": Words("The community: {name}, number {id}", "Сообщество: {name}, номер {id}"),
    "other group": Words(
        "The key belongs to {name}, number {id}; VK_GROUP_ID is {ours}", "Ключ от {name}, номер {id}; VK_GROUP_ID — {ours}"
    ),
    "messages": Words("Messages are on", "Сообщения сообщества включены"),
    "no messages": Words("Messages are off", "Сообщения сообщества выключены"),
    "longpoll": Words("The long poll is on", "Long Poll API включён"),
    "no longpoll": Words("The long poll is off", "Long Poll API выключен"),
    "callback": Words("VK calls {url}", "ВКонтакте обращается к {url}"),
    "no callback": Words("VK knows no confirmed address …{path}", "ВКонтакте не знает подтверждённого адреса …{path}"),
    "version": Words("API version {version}", "Версия API: {version}"),
    "old version": Words("API version {version} is too old", "Версия API {version} слишком старая"),
    "event": Words("VK tells of: {event} ({name})", "ВКонтакте сообщает: {event} ({name})"),
    "no event": Words("VK does not tell of: {event} ({name})", "ВКонтакте не сообщает: {event} ({name})"),
}
_KEY = Words("Manage → API usage → Access tokens → Create token", "Управление → Работа с API → Ключи доступа → Создать ключ")
_NEW_KEY = Words(
    _KEY.en + ". Tick: {rights}. Write the key into secrets/vk_token",
    _KEY.ru + ". Отметьте: {rights}. Запишите ключ в secrets/vk_token",
)
_LATER = Words("Look at the network of this machine, try again in a minute", "Проверьте сеть этой машины, повторите через минуту")
# what to switch on, and where, in the words of VK's own pages
CURES = {
    "no key": _NEW_KEY,
    "refused": _NEW_KEY,
    "away": _LATER,
    "silent": _LATER,
    "no right": Words(
        _KEY.en
        + ". A key gets no new rights: tick {right} and all that the old one allows, write the new one into secrets/vk_token",
        _KEY.ru
        + ". Готовому ключу прав не добавить: отметьте «{right}» и всё, что разрешал прежний; новый запишите в secrets/vk_token",
    ),
    "other group": Words(
        "Write VK_GROUP_ID={id} into .env, or make a key in the right community",
        "Запишите VK_GROUP_ID={id} в .env или создайте ключ в нужном сообществе",
    ),
    "no messages": Words(
        "Manage → Messages → Community messages: Enabled", "Управление → Сообщения → Сообщения сообщества: Включены"
    ),
    "no longpoll": Words(
        "Manage → API usage → Long Poll API → Settings: Enabled",
        "Управление → Работа с API → Long Poll API → Настройки: Включено",
    ),
    "no callback": Words(
        "Manage → API usage → Callback API → Server settings: write the address and the secret key, press Confirm",
        "Управление → Работа с API → Callback API → Настройки сервера: впишите адрес и секретный ключ, нажмите «Подтвердить»",
    ),
    "old version": Words(
        "Manage → API usage → {page}: API version {wanted}", "Управление → Работа с API → {page}: версия API {wanted}"
    ),
    "no event": Words(
        "Manage → API usage → {page} → Event types: tick {event}",
        "Управление → Работа с API → {page} → Типы событий: отметьте «{event}»",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What was found, before it is put into words: `kind` is its name in `TEXTS` and `CURES`, `words` fill their places."""

    name: str
    right: bool
    kind: str
    words: Mapping[str, object]

    def said(self, language: str) -> Check:
        """The same in a language."""
        words = {name: word.choose(language) if isinstance(word, Words) else word for name, word in self.words.items()}
        text, cure = TEXTS[self.kind], None if self.right else CURES[self.kind]
        return Check(self.name, self.right, text.choose(language).format(**words), cure and cure.choose(language).format(**words))


def check(settings: Settings) -> int:
    """Print what is right and what is not. The exit code: 0 when all is right, else 1."""
    found = checks(settings)
    for each in found:
        print(f" {'✓' if each.right else '✗'} {each.text}")
        if each.cure:
            print(f"   → {each.cure}")
    return 0 if all(each.right for each in found) else 1


def checks(settings: Settings) -> list[Check]:
    """All that can be said, in order, in the project's language. Raises what `findings` raises."""
    return [finding.said(settings.app_language) for finding in findings(settings, lambda: Vk(settings))]


def findings(settings: Settings, line: Callable[[], Vk]) -> list[Finding]:
    """All that can be found, in order; what cannot be asked, because of something wrong before it, is left out. `line` opens VK.

    Raises `SettingsError` when there is no token, or the sandbox is to be asked in production.
    """
    asking, found = _Asking(settings, line), []
    try:
        for each in asking.all():
            found.append(each)  # one by one: what was found before an error counts
    except VkError as error:
        found.append(asking.failed(error))
    return found


class _Asking:
    def __init__(self, settings: Settings, line: Callable[[], Vk]) -> None:
        self._settings = settings
        self._line = line

    @cached_property
    def _vk(self) -> Vk:
        """Made when the first call is: in production there is none with the word that stands for a missing key."""
        return self._line()

    def all(self) -> Iterator[Finding]:
        """Raises `VkError` when VK does not answer, or refuses what it does not refuse to others."""
        if url := self._settings.vk_api_url:
            yield self._right("sandbox", "sandbox", url=url)
        elif self._settings.secret("vk_token") == SANDBOX_TOKEN:
            yield self._wrong("token", "no key", rights=ALL_RIGHTS)
            return
        rights = {item["name"] for item in self._vk.call("groups.getTokenPermissions")["permissions"]}
        yield self._right("token", "key")
        for name, (right, why) in RIGHTS.items():
            words = {"right": right, "why": why}
            yield self._right(name, "right", **words) if name in rights else self._wrong(name, "no right", **words)
        (group,) = self._vk.call("groups.getById")["groups"]
        ours = group["id"] == self._settings.vk_group_id
        about = {"id": group["id"], "name": group["name"], "ours": self._settings.vk_group_id}
        yield self._right("group", "group", **about) if ours else self._wrong("group", "other group", **about)
        if "messages" in rights:
            yield self._messages()
        if ours and "manage" in rights:
            yield from self._callback() if self._settings.vk_transport == "callback" else self._longpoll()

    def failed(self, error: VkError) -> Finding:
        """What it means that VK did not answer as it should."""
        if error.fault is Fault.TOKEN:
            return self._wrong("token", "refused", why=error, rights=ALL_RIGHTS)
        return self._wrong("vk", "away" if error.code is None else "silent", why=error)

    def _messages(self) -> Finding:
        try:
            self._vk.call("messages.getConversations", count=1)
        except VkError as error:
            if error.code != DENIED:
                raise
            return self._wrong("messages_on", "no messages")
        return self._right("messages_on", "messages")

    def _longpoll(self) -> Iterator[Finding]:
        longpoll = self._vk.call("groups.getLongPollSettings", group_id=self._settings.vk_group_id)
        if longpoll["is_enabled"]:
            yield self._right("longpoll", "longpoll")
            yield from self._told("Long Poll API", longpoll)
        else:
            yield self._wrong("longpoll", "no longpoll")

    def _callback(self) -> Iterator[Finding]:
        servers = self._vk.call("groups.getCallbackServers", group_id=self._settings.vk_group_id)["items"]
        server = next((each for each in servers if each["url"].endswith(CALLBACK) and each["status"] == "ok"), None)
        if server is None:
            yield self._wrong("callback", "no callback", path=CALLBACK)
            return
        yield self._right("callback", "callback", url=server["url"])
        group_id = self._settings.vk_group_id
        yield from self._told(
            "Callback API", self._vk.call("groups.getCallbackSettings", group_id=group_id, server_id=server["id"])
        )

    def _told(self, page: str, settings: dict[str, Any]) -> Iterator[Finding]:
        """Whether VK tells all that the bot needs to know, in a form that it can read."""
        version = str(settings["api_version"])
        old = tuple(map(int, version.split("."))) < OLDEST
        words = {"version": version, "wanted": API_VERSION, "page": page}
        yield self._wrong("version", "old version", **words) if old else self._right("version", "version", **words)
        for name, event in EVENTS.items():
            about = {"name": name, "event": event, "page": page}
            yield self._right(name, "event", **about) if settings["events"].get(name) else self._wrong(name, "no event", **about)

    def _right(self, name: str, kind: str, /, **words: object) -> Finding:
        return Finding(name, True, kind, words)

    def _wrong(self, name: str, kind: str, /, **words: object) -> Finding:
        return Finding(name, False, kind, words)
