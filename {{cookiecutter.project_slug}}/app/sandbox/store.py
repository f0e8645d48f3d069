"""What the sandbox remembers: people, messages, pictures and events, in a SQLite file of its own.

Times are whole seconds since 1970, as VK has them. Nothing here is shared with the project's own database.
"""

import hashlib
import json
import secrets
import time
from typing import Any, ClassVar

from sqlalchemy import JSON, URL, Engine, ForeignKey, UniqueConstraint, delete, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.settings import Settings
from app.storage.engine import make_engine

API_VERSION = "5.199"
SHAPE = 1  # raise it when a table here changes
EVENTS_KEPT = 10_000
# VK forgets a random_id after an hour, or when a hundred newer messages stand in the dialog
RANDOM_ID_SECONDS = 3600
RANDOM_ID_MESSAGES = 100
FIRST_PERSON = 101  # so that a person's id is not taken for the number of a message in a log

NEWCOMERS = {
    "ru": [("Анна", "Смирнова"), ("Иван", "Петров")],
    "en": [("Anna", "Smith"), ("John", "Taylor")],
}
BUTTON_ACTIONS = ["text", "open_link", "callback"]
LANGUAGE_IDS = {"ru": 0, "en": 3}


class Base(DeclarativeBase):
    """The sandbox's tables. They have no migrations: those of another `SHAPE` are dropped, and the sandbox begins anew."""

    type_annotation_map: ClassVar = {dict[str, Any]: JSON(none_as_null=True), list[int]: JSON()}


class Memory(Base):
    """One value under a name: the long poll's key, the settings of the control API."""

    __tablename__ = "memory"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]


class Person(Base):
    """Somebody who can write to the community, and their dialog with it."""

    __tablename__ = "person"

    id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    allowed: Mapped[bool] = mapped_column(default=False)  # who writes first consents to answers
    last_cmid: Mapped[int] = mapped_column(default=0)
    in_read: Mapped[int] = mapped_column(default=0)  # id of the last message that the community has read


class Message(Base):
    """One message of a dialog. `cmid` numbers the messages of one dialog, `id` all of them."""

    __tablename__ = "message"
    __table_args__ = (UniqueConstraint("peer_id", "cmid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    peer_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    cmid: Mapped[int]
    from_id: Mapped[int]
    date: Mapped[int]
    text: Mapped[str]
    random_id: Mapped[int] = mapped_column(default=0)
    payload: Mapped[str | None]
    keyboard: Mapped[dict[str, Any] | None]
    photo_ids: Mapped[list[int]] = mapped_column(default=list)


class Photo(Base):
    """A picture that was uploaded. Saving it gives it an owner; only then can it be attached."""

    __tablename__ = "photo"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None]
    access_key: Mapped[str]
    date: Mapped[int]
    mimetype: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
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
    peer_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    answered: Mapped[bool] = mapped_column(default=False)
    answer: Mapped[dict[str, Any] | None]


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


def add_message(session: Session, person: Person, from_id: int, text: str, **more: Any) -> Message:
    """Put a message of the person, or of the community, into the dialog; it has its numbers at once."""
    person.last_cmid += 1
    message = Message(peer_id=person.id, cmid=person.last_cmid, from_id=from_id, date=int(time.time()), text=text, **more)
    session.add(message)
    session.flush()
    return message


def add_event(session: Session, kind: str, content: dict[str, Any]) -> Event:
    """An update for the long poll; the oldest are forgotten."""
    event = Event(type=kind, event_id=secrets.token_hex(20), object=content)
    session.add(event)
    session.flush()
    session.execute(delete(Event).where(Event.id <= event.id - EVENTS_KEPT))
    return event


def already_sent(session: Session, person: Person, random_id: int) -> Message | None:
    """The message that the community sent with this `random_id`, while VK would remember it."""
    return session.scalar(
        select(Message).where(
            Message.peer_id == person.id,
            Message.cmid > person.last_cmid - RANDOM_ID_MESSAGES,
            Message.from_id < 0,
            Message.random_id == random_id,
            Message.date > int(time.time()) - RANDOM_ID_SECONDS,
        )
    )


def newest_event(session: Session) -> int:
    """The `ts` of now."""
    return session.scalar(select(func.max(Event.id))) or 0


def message_object(session: Session, message: Message, base_url: str) -> dict[str, Any]:
    """VK's message. `base_url` ("http://host:port/") is where pictures are fetched from."""
    photos = [session.get_one(Photo, photo_id) for photo_id in message.photo_ids]
    shape: dict[str, Any] = {
        "id": message.id,
        "date": message.date,
        "from_id": message.from_id,
        "peer_id": message.peer_id,
        "conversation_message_id": message.cmid,
        "out": int(message.from_id < 0),
        "text": message.text,
        "attachments": [{"type": "photo", "photo": photo_object(photo, base_url)} for photo in photos],
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
    return shape


def photo_object(photo: Photo, base_url: str) -> dict[str, Any]:
    """VK's photo, with the one size that the sandbox keeps."""
    size = {"url": f"{base_url}photo/{photo.id}/{photo.access_key}", "width": photo.width, "height": photo.height}
    return {
        "id": photo.id,
        "album_id": -3,
        "owner_id": photo.owner_id,
        "date": photo.date,
        "access_key": photo.access_key,
        "text": "",
        "has_tags": False,
        "sizes": [{**size, "type": "x"}],
        "orig_photo": {**size, "type": "base"},
    }


def new_message_object(message: dict[str, Any], language: str) -> dict[str, Any]:
    """The object of `message_new`."""
    client = {
        "button_actions": BUTTON_ACTIONS,
        "keyboard": True,
        "inline_keyboard": True,
        "carousel": False,
        "lang_id": LANGUAGE_IDS[language],
    }
    return {"message": message, "client_info": client}


def upload_hash(photo: str) -> str:
    """The checksum that goes with an upload's `photo`, so that a mixed-up answer is noticed."""
    return hashlib.sha256(photo.encode()).hexdigest()[:18]


def compact(value: Any) -> str:
    """JSON as VK writes it: Cyrillic as it is, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
