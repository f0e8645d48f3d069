"""What the sandbox remembers: people, chats, messages, files and events, in a SQLite file of its own.

Times are whole seconds since 1970, as VK has them. Nothing here is shared with the project's own database.
"""

import hashlib
import io
import json
import mimetypes
import secrets
import time
from typing import Any, ClassVar

import imagesize  # type: ignore[import-untyped]  # it has no annotations
from sqlalchemy import JSON, URL, Engine, ForeignKey, UniqueConstraint, bindparam, delete, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.settings import Settings
from app.storage.engine import make_engine

API_VERSION = "5.199"
MESSAGE_WITH_CLIENT = (5, 103)  # the version since which `message_new` holds the message and the client
SHAPE = 3  # raise it when a table here changes
EVENTS_KEPT = 10_000
FIRST_PERSON = 101  # so that a person's id is not taken for the number of a message in a log
CHATS = 2_000_000_000  # a group chat's peer_id is this and its number

NEWCOMERS = {
    "ru": [("Анна", "Смирнова"), ("Иван", "Петров")],
    "en": [("Anna", "Smith"), ("John", "Taylor")],
}
BUTTON_ACTIONS = ["text", "open_link", "callback"]
LANGUAGE_IDS = {"ru": 0, "en": 3}
UNKNOWN_TYPE = 8  # of a document: VK knows archives, pictures and others, too


class Base(DeclarativeBase):
    """The sandbox's tables. They have no migrations: those of another `SHAPE` are dropped, and the sandbox begins anew."""

    type_annotation_map: ClassVar = {dict[str, Any]: JSON(none_as_null=True), list[int]: JSON()}


class Memory(Base):
    """One value under a name: the long poll's key, the settings of the control API."""

    __tablename__ = "memory"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]


class Peer(Base):
    """With whom the community has a dialog, and how far it is."""

    __tablename__ = "peer"
    __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012 - SQLAlchemy has it so

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    allowed: Mapped[bool] = mapped_column(default=False)  # who writes first consents to answers
    last_cmid: Mapped[int] = mapped_column(default=0)
    in_read: Mapped[int] = mapped_column(default=0)  # `Message.id` of the last message that the community has read


class Person(Peer):
    """Somebody who can write to the community."""

    __mapper_args__ = {"polymorphic_identity": "user"}  # noqa: RUF012 - SQLAlchemy has it so

    first_name: Mapped[str] = mapped_column(nullable=True)
    last_name: Mapped[str] = mapped_column(nullable=True)


class Chat(Peer):
    """A group chat that the community was invited to. The first of its members made it."""

    __mapper_args__ = {"polymorphic_identity": "chat"}  # noqa: RUF012 - SQLAlchemy has it so

    title: Mapped[str] = mapped_column(nullable=True)
    members: Mapped[list[int]] = mapped_column(nullable=True)


class Message(Base):
    """One message of a dialog. `cmid` numbers the messages of one dialog, `id` all of them."""

    __tablename__ = "message"
    __table_args__ = (UniqueConstraint("peer_id", "cmid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    peer_id: Mapped[int] = mapped_column(ForeignKey("peer.id"))
    cmid: Mapped[int]
    from_id: Mapped[int]
    date: Mapped[int]
    text: Mapped[str]
    random_id: Mapped[int] = mapped_column(default=0)
    payload: Mapped[str | None]
    keyboard: Mapped[dict[str, Any] | None]
    template: Mapped[dict[str, Any] | None]
    action: Mapped[dict[str, Any] | None]
    file_ids: Mapped[list[int]] = mapped_column(default=list)

    @property
    def public_id(self) -> int:
        """The `id` that a community is told: none in group chats."""
        return 0 if self.peer_id > CHATS else self.id


class File(Base):
    """A picture (`photo`) or another file (`doc`). Saving an upload gives it an owner; only then can it be attached."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[int | None]
    access_key: Mapped[str]
    date: Mapped[int]
    name: Mapped[str]
    mimetype: Mapped[str]
    width: Mapped[int] = mapped_column(default=0)
    height: Mapped[int] = mapped_column(default=0)
    content: Mapped[bytes]


class Event(Base):
    """An update of the long poll; its id is the `ts` after it. Ids are never used again."""

    __tablename__ = "event"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    event_id: Mapped[str]
    object: Mapped[dict[str, Any]]


class Press(Base):
    """A press of a callback button, and what the community answered to it."""

    __tablename__ = "press"

    event_id: Mapped[str] = mapped_column(primary_key=True)
    peer_id: Mapped[int] = mapped_column(ForeignKey("peer.id"))
    user_id: Mapped[int]
    answered: Mapped[bool] = mapped_column(default=False)
    answer: Mapped[dict[str, Any] | None]


# built once: it is asked with every message that is sent
SENT = select(Message).where(
    Message.peer_id == bindparam("peer"),
    Message.cmid > bindparam("cmid"),
    Message.from_id < 0,
    Message.random_id == bindparam("random_id"),
    Message.date > bindparam("date"),
)


def open_store(settings: Settings) -> Engine:
    """The sandbox's own file, made and filled with two people at the first start."""
    engine = make_engine(URL.create("sqlite", database=str(settings.data_dir / "sandbox.db")), pool_size=16)
    with Session(engine) as session, session.begin():
        connection = session.connection()
        if connection.exec_driver_sql("PRAGMA user_version").scalar() != SHAPE:
            Base.metadata.drop_all(connection)
            Base.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SHAPE}")
            session.add(Memory(name="longpoll", value={"key": secrets.token_hex(20)}))
            for first_name, last_name in NEWCOMERS[settings.app_language]:
                add_person(session, first_name, last_name)
    return engine


def add_person(session: Session, first_name: str, last_name: str) -> Person:
    """A new person, who has not written yet."""
    newest = session.scalar(select(func.max(Person.id)))
    person = Person(id=FIRST_PERSON if newest is None else newest + 1, first_name=first_name, last_name=last_name)
    session.add(person)
    session.flush()
    return person


def add_chat(session: Session, title: str, members: list[int]) -> Chat:
    """A new group chat, into which its first member has invited the community."""
    newest = session.scalar(select(func.max(Chat.id)))
    chat = Chat(id=(newest or CHATS) + 1, title=title, members=members, allowed=True)
    session.add(chat)
    session.flush()
    return chat


def add_message(session: Session, peer: Peer, from_id: int, text: str, **more: Any) -> Message:
    """Put a message of a person, or of the community, into the dialog; it has its numbers at once.

    It is written with the others of an `execute`: their numbers are known, for nobody else writes meanwhile.
    """
    peer.last_cmid += 1
    if "messages" not in session.info:
        session.info["messages"] = session.scalar(select(func.max(Message.id))) or 0
    session.info["messages"] += 1
    numbers = {"id": session.info["messages"], "peer_id": peer.id, "cmid": peer.last_cmid}
    more = {"random_id": 0, "file_ids": [], **more}
    message = Message(**numbers, from_id=from_id, date=int(time.time()), text=text, **more)
    session.add(message)
    return message


def add_file(session: Session, kind: str, name: str, content: bytes, owner_id: int | None = None) -> File | None:
    """A file; None when it was to be a picture and is none."""
    width, height = imagesize.get(io.BytesIO(content)) if kind == "photo" else (0, 0)
    if kind == "photo" and width <= 0:
        return None
    mimetype = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind == "photo" and not mimetype.startswith("image/"):
        mimetype = "image/jpeg"
    file = File(
        kind=kind,
        owner_id=owner_id,
        access_key=secrets.token_hex(9),
        date=int(time.time()),
        name=name,
        mimetype=mimetype,
        width=width,
        height=height,
        content=content,
    )
    session.add(file)
    session.flush()
    return file


def add_event(session: Session, kind: str, content: dict[str, Any]) -> Event:
    """An update for the long poll; the oldest are forgotten."""
    event = Event(type=kind, event_id=secrets.token_hex(20), object=content)
    session.add(event)
    session.flush()
    session.execute(delete(Event).where(Event.id <= event.id - EVENTS_KEPT))
    return event


def forget_events(session: Session) -> None:
    """What VK does with events that are too old, done to all of them now. Their numbers are not used again."""
    session.execute(delete(Event))


def already_sent(session: Session, peer: Peer, random_id: int, seconds: int, messages: int) -> Message | None:
    """The message that the community sent with this `random_id`, while VK would remember it.

    That is for so many seconds, and until so many newer messages stand in the dialog.
    """
    if any(isinstance(row, Message) and row.peer_id == peer.id for row in session.new):
        session.flush()
    since = {"cmid": peer.last_cmid - messages, "date": int(time.time()) - seconds}
    return session.scalar(SENT, {"peer": peer.id, "random_id": random_id, **since})


def newest_event(session: Session) -> int:
    """The `ts` of now."""
    return session.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'event'")) or 0


def update_object(event: Event, group_id: int, version: str) -> dict[str, Any]:
    """An event as the long poll and the Callback API bring it. Before 5.103 `message_new` held the bare message."""
    content = event.object
    if event.type == "message_new" and tuple(map(int, version.split("."))) < MESSAGE_WITH_CLIENT:
        content = content["message"]
    return {"type": event.type, "group_id": group_id, "event_id": event.event_id, "v": version, "object": content}


def message_object(session: Session, message: Message, base_url: str) -> dict[str, Any]:
    """VK's message. `base_url` ("http://host:port/") is where pictures are fetched from."""
    files = [session.get_one(File, file_id) for file_id in message.file_ids]
    shape: dict[str, Any] = {
        "id": message.public_id,
        "date": message.date,
        "from_id": message.from_id,
        "peer_id": message.peer_id,
        "conversation_message_id": message.cmid,
        "out": int(message.from_id < 0),
        "text": message.text,
        "attachments": [attachment_object(file, base_url) for file in files],
        "fwd_messages": [],
        "random_id": message.random_id,
        "important": False,
        "is_hidden": False,
        "version": 10_000_000 + message.id,
    }
    if message.payload is not None:
        shape["payload"] = message.payload
    if message.keyboard is not None:
        shape["keyboard"] = message.keyboard
    if message.template is not None:
        cards = [_card_object(session, card, base_url) for card in message.template["elements"]]
        shape["template"] = {**message.template, "elements": cards}
    if message.action is not None:
        shape["action"] = message.action
    return shape


def attachment_object(file: File, base_url: str) -> dict[str, Any]:
    """VK's attachment: `{"type": "photo", "photo": …}` or `{"type": "doc", "doc": …}`, with an address at the sandbox."""
    url = f"{base_url}{file.kind}/{file.id}/{file.access_key}"
    shape: dict[str, Any] = {"id": file.id, "owner_id": file.owner_id, "date": file.date, "access_key": file.access_key}
    if file.kind == "photo":
        size = {"url": url, "width": file.width, "height": file.height}
        shape |= {
            "album_id": -3,
            "text": "",
            "has_tags": False,
            "sizes": [{**size, "type": "x"}],
            "orig_photo": {**size, "type": "base"},
        }
    else:
        ending = file.name.rpartition(".")[2].lower() if "." in file.name else ""
        shape |= {"title": file.name, "size": len(file.content), "ext": ending, "type": UNKNOWN_TYPE, "url": url}
    return {"type": file.kind, file.kind: shape}


def _card_object(session: Session, card: dict[str, Any], base_url: str) -> dict[str, Any]:
    """VK's element of a carousel, with the picture itself instead of its name."""
    shown = {name: value for name, value in card.items() if name != "photo_id"}
    if "photo_id" in card:
        photo = session.get_one(File, int(card["photo_id"].partition("_")[2]))
        shown["photo"] = attachment_object(photo, base_url)["photo"]
    return shown


def new_message_object(message: dict[str, Any], language: str) -> dict[str, Any]:
    """The object of `message_new`."""
    client = {
        "button_actions": BUTTON_ACTIONS,
        "keyboard": True,
        "inline_keyboard": True,
        "carousel": True,
        "lang_id": LANGUAGE_IDS[language],
    }
    return {"message": message, "client_info": client}


def upload_hash(described: str) -> str:
    """The checksum that goes with what an upload answers, so that a mixed-up answer is noticed."""
    return hashlib.sha256(described.encode()).hexdigest()[:18]


def compact(value: Any) -> str:
    """JSON as VK writes it: Cyrillic as it is, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
