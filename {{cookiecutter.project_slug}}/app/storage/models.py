"""The tables. Times are UTC and carry their zone; people see them in the project's own."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    cast,
    func,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.log import request_id

BigKey = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in a column of type INTEGER
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def now() -> datetime:
    """This moment in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. SQLite forgets time zones, so naive values are refused on the way in and UTC is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC for the database; raises `ValueError` for a time without a zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables, with constraint names that migrations can rely on."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: UtcDateTime(), dict[str, Any]: Json, list[dict[str, Any]]: Json}


def _choice(choices: type[StrEnum]) -> Enum:
    """A column of words: readable in SQL, and a new word needs no migration."""
    return Enum(
        choices, native_enum=False, create_constraint=False, length=20, values_callable=lambda kind: [item.value for item in kind]
    )


def _index_words(name: str, text_of: str) -> Index:
    """An index of the groups of three letters in a text, for searches of any part of it. SQLite has none, and reads on."""
    words = text(f"lower({text_of}) gin_trgm_ops")
    return Index(name, words, postgresql_using="gin").ddl_if(dialect="postgresql")


def _index_where(condition: str, **indexes: list[str]) -> tuple[Index, ...]:
    """Indexes of the rows that meet `condition`. A query uses them if it has the condition in it, not as a parameter."""
    where = text(condition)
    return tuple(Index(name, *columns, postgresql_where=where, sqlite_where=where) for name, columns in indexes.items())


class ConversationStatus(StrEnum):
    """Who has the word: the bot, the operators, or nobody."""

    BOT = "bot"
    OPEN = "open"
    CLOSED = "closed"


class Direction(StrEnum):
    """From the community's side."""

    IN = "in"
    OUT = "out"


class Author(StrEnum):
    """Who wrote a message."""

    PERSON = "person"
    BOT = "bot"
    OPERATOR = "operator"


class EventState(StrEnum):
    """An event waits, is done, or was set aside with its reason."""

    NEW = "new"
    DONE = "done"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """A delivery waits, is being sent, was accepted by VK, was given up, or is held for a person to decide."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    HELD = "held"


class JobState(StrEnum):
    """A job waits, is being done, is done, was given up with its reason, or is not wanted any more."""

    NEW = "new"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Rhythm(StrEnum):
    """How often a report is sent: when a day, a week (from Monday) or a month is over."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Role(StrEnum):
    """What an operator may do."""

    OPERATOR = "operator"
    MANAGER = "manager"
    ADMIN = "admin"


class Person(Base):
    """Somebody who wrote to the community."""

    __tablename__ = "person"
    __table_args__ = (_index_words("ix_person_words", "first_name || ' ' || last_name"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    vk_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    first_name: Mapped[str] = mapped_column(String(200), default="")
    last_name: Mapped[str] = mapped_column(String(200), default="")
    # False after message_deny or error 901: sending is pointless until message_allow or a message of theirs
    reachable: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)

    @hybrid_property
    def name(self) -> str:
        """First and last name, or the VK id while they are unknown."""
        return f"{self.first_name} {self.last_name}".strip() or f"id{self.vk_id}"

    @name.inplace.expression
    @classmethod
    def _name(cls) -> ColumnElement[str]:
        known = func.trim(cls.first_name + " " + cls.last_name)
        return func.coalesce(func.nullif(known, ""), literal("id") + cast(cls.vk_id, String))


class Conversation(Base):
    """The dialog with one VK peer: a person, or a group chat (`peer_id` over 2000000000). It is reopened, never doubled."""

    __tablename__ = "conversation"
    __table_args__ = (
        Index(None, "status", "last_message_at", "id"),
        Index(None, "last_message_at", "id"),
        Index(None, "topic", "last_message_at", "id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    peer_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"), index=True)
    status: Mapped[ConversationStatus] = mapped_column(_choice(ConversationStatus), default=ConversationStatus.BOT)
    topic: Mapped[str | None] = mapped_column(String(100))
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"), index=True)
    # where the person is in the dialog (`app/bot/dialog.py`): the step's name, and what was answered so far
    step: Mapped[str | None] = mapped_column(String(100))
    form: Mapped[dict[str, Any]] = mapped_column(default=dict)
    # incoming messages since an operator last looked
    unread: Mapped[int] = mapped_column(default=0)
    last_message_at: Mapped[datetime] = mapped_column(default=now)
    # the beginning of the last message that a human wrote, a person or an operator
    last_message_text: Mapped[str] = mapped_column(String(200), default="")
    opened_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)

    person: Mapped[Person | None] = relationship()
    assignee: Mapped["Operator | None"] = relationship()

    @property
    def title(self) -> str:
        """What operators call it."""
        return self.person.name if self.person else f"chat {self.peer_id - GROUP_CHATS}"


GROUP_CHATS = 2_000_000_000


class Message(Base):
    """One message of a conversation, in the order of `id`. `created_at` is VK's own time for what came in."""

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("conversation_id", "cmid"),
        Index(None, "conversation_id", "id"),
        Index(None, "created_at"),
        _index_words("ix_message_words", "text"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"))
    direction: Mapped[Direction] = mapped_column(_choice(Direction))
    author: Mapped[Author] = mapped_column(_choice(Author))
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    # VK's number of the message within its dialog (`conversation_message_id`); an answer gets it when it is delivered
    cmid: Mapped[int | None] = mapped_column(BigInteger)
    # what its sender calls it: a form that is posted twice makes one answer
    key: Mapped[str | None] = mapped_column(String(64), unique=True)
    text: Mapped[str] = mapped_column(Text, default="")
    attachments: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)

    conversation: Mapped[Conversation] = relationship()
    operator: Mapped["Operator | None"] = relationship()
    deliveries: Mapped[list["Delivery"]] = relationship(back_populates="message", order_by="Delivery.id")


class Event(Base):
    """The inbox: everything VK told us, as it was told, before anything is done with it."""

    __tablename__ = "event"
    __table_args__ = (
        # the same message may come twice: by the long poll and from the history that fills a gap, which has no event_id
        UniqueConstraint("type", "peer_id", "cmid"),
        # a queue is looked at often, and is short beside all that was ever in it
        *_index_where("state = 'new'", ix_event_new=["id"], ix_event_new_of_peer=["peer_id", "id"]),
        *_index_where("state = 'failed'", ix_event_failed=["id"]),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    event_id: Mapped[str | None] = mapped_column(String(100), unique=True)
    type: Mapped[str] = mapped_column(String(50))
    peer_id: Mapped[int | None] = mapped_column(BigInteger)
    cmid: Mapped[int | None] = mapped_column(BigInteger)
    raw: Mapped[dict[str, Any]]
    state: Mapped[EventState] = mapped_column(_choice(EventState), default=EventState.NEW)
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    received_at: Mapped[datetime] = mapped_column(default=now)
    done_at: Mapped[datetime | None]


class Delivery(Base):
    """The outbox: what is to be sent to VK. The stored `random_id` makes a repeat harmless (VK remembers it for an hour)."""

    __tablename__ = "delivery"
    __table_args__ = (
        *_index_where(
            "state IN ('pending', 'sending')", ix_delivery_unfinished=["id"], ix_delivery_unfinished_of_peer=["peer_id", "id"]
        ),
        # operators are told of these
        *_index_where("state = 'failed'", ix_delivery_failed=["next_try_at"]),
        *_index_where("state = 'held'", ix_delivery_held=["id"]),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    message_id: Mapped[int | None] = mapped_column(ForeignKey("message.id", ondelete="CASCADE"), index=True)
    peer_id: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(Text, default="")
    keyboard: Mapped[dict[str, Any] | None] = mapped_column(Json)
    template: Mapped[dict[str, Any] | None] = mapped_column(Json)
    attachment: Mapped[str | None] = mapped_column(Text)
    # a file that VK has to be given before it can be attached: {"kind": "photo" | "doc", "name", "path" or "data" in base64},
    # and of what an operator sends "file", its number in `File`, and "size"
    upload: Mapped[dict[str, Any] | None] = mapped_column(Json)
    # not a message but the answer to the press of a callback button: {"event_id", "user_id"}; `text` is shown for a moment
    press: Mapped[dict[str, Any] | None] = mapped_column(Json)
    random_id: Mapped[int]
    state: Mapped[DeliveryState] = mapped_column(_choice(DeliveryState), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    # while SENDING: when another worker may take it over from one that died
    next_try_at: Mapped[datetime] = mapped_column(default=now)
    first_tried_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    error_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    # of the web's request that it comes from, to be found again in the logs of both
    request_id: Mapped[str | None] = mapped_column(String(64), default=request_id)

    message: Mapped[Message | None] = relationship(back_populates="deliveries")


class File(Base):
    """What an operator sent along with an answer, kept for the thread; the bot has its own copy in `Delivery.upload`."""

    __tablename__ = "file"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    # what its content is, not what its sender called it: "image/png", "application/pdf"
    type: Mapped[str] = mapped_column(String(100))
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Note(Base):
    """What operators tell each other about a conversation. It is no message: nothing sends it, no report counts it."""

    __tablename__ = "note"
    __table_args__ = (Index(None, "conversation_id", "after_id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"))
    # the number of the message below which it stands: the last one when it was written, 0 if there was none
    after_id: Mapped[int] = mapped_column(BigInteger)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"))
    key: Mapped[str | None] = mapped_column(String(64), unique=True)  # as in `Message`
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class CannedAnswer(Base):
    """A text that operators need often; "/" and its `shortcut` write it into an answer."""

    __tablename__ = "canned_answer"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    shortcut: Mapped[str] = mapped_column(String(50), unique=True)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Cursor(Base):
    """Where a reader of something endless has got to: the long poll's `ts`, under its community's number.

    `epoch` fences the writes: a new leader raises it, and a deposed one can no longer write.
    """

    __tablename__ = "cursor"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[str] = mapped_column(String(100))
    epoch: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Ticket(Base):
    """The right to call VK once, and again when it is free again (`app/storage/pace.py`)."""

    __tablename__ = "ticket"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # seconds since 1970, for there is no arithmetic with times that both databases know
    free_at: Mapped[float]


class Heartbeat(Base):
    """A sign of life of each part that has no address to ask: who, when, and how it is."""

    __tablename__ = "heartbeat"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    problem: Mapped[str | None] = mapped_column(Text)


class Operator(Base):
    """Somebody who answers. Raising `session_version` ends all their sessions."""

    __tablename__ = "operator"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    login: Mapped[str] = mapped_column(String(100), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[Role] = mapped_column(_choice(Role), default=Role.OPERATOR)
    # who they are in the operators' chat
    vk_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    language: Mapped[str | None] = mapped_column(String(10))
    active: Mapped[bool] = mapped_column(default=True)
    session_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Audit(Base):
    """Who did what, when, and from where. Rows are only ever added."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "operator_id", "id"), Index(None, "action", "id"))

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    action: Mapped[str] = mapped_column(String(100))
    target: Mapped[str | None] = mapped_column(String(200))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    address: Mapped[str | None] = mapped_column(String(100))
    request_id: Mapped[str | None] = mapped_column(String(64))


class ApiToken(Base):
    """Lets a program use the JSON API as an operator, within `scopes`. The token itself is kept by nobody but its owner."""

    __tablename__ = "api_token"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    # SHA-256 in hex: a token is too long to be guessed, so there is no need of a slow hash
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    # words with spaces between them
    scopes: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=now)
    # to the minute
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiReply(Base):
    """What a request with an idempotency key was answered: a repeat is answered the same, and does nothing again."""

    __tablename__ = "api_reply"

    # of the key and whose it is, and of the request itself: SHA-256 in hex
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class Throttle(Base):
    """How many passwords were tried of late for an account, or from an address or a browser (`app/web/throttle.py`)."""

    __tablename__ = "throttle"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    tries: Mapped[int]
    # when counting begins anew
    until: Mapped[datetime] = mapped_column(index=True)


class Checkup(Base):
    """What the bot found when it asked VK how it is set up (`app/bot/check.py`), for the web, which cannot ask VK itself."""

    __tablename__ = "checkup"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    # a look is wanted while this is later than the last one
    asked_at: Mapped[datetime] = mapped_column(default=now)
    done_at: Mapped[datetime | None]
    # [{"name", "right", "en": {"text", "cure"}, "ru": {"text", "cure"}}], in order
    found: Mapped[list[dict[str, Any]]] = mapped_column(default=list)


class ReportSubscription(Base):
    """A report that goes to a person or a chat when a period is over and it is `hour` o'clock in the project's zone."""

    __tablename__ = "report_subscription"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    peer_id: Mapped[int] = mapped_column(BigInteger)
    rhythm: Mapped[Rhythm] = mapped_column(_choice(Rhythm))
    hour: Mapped[int]
    language: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(default=now)


class ReportJob(Base):
    """Something that the reports are to make: a file to be fetched, or a picture for a chat.

    A subscription's job for a period is there once, whoever puts it there: (`subscription_id`, `period`) is its slot.
    """

    __tablename__ = "report_job"
    __table_args__ = (
        UniqueConstraint("subscription_id", "period"),
        *_index_where("state IN ('new', 'running')", ix_report_job_unfinished=["id"]),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    # the operator who asked for it, and who alone may fetch it; None for what goes to a chat
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    # the chat or the person that gets it
    peer_id: Mapped[int | None] = mapped_column(BigInteger)
    subscription_id: Mapped[int | None] = mapped_column(ForeignKey("report_subscription.id", ondelete="SET NULL"))
    # the first day of what a subscription's job is about
    period: Mapped[date | None]
    state: Mapped[JobState] = mapped_column(_choice(JobState), default=JobState.NEW)
    attempts: Mapped[int] = mapped_column(default=0)
    # while RUNNING: when another worker may take it over from one that died
    lease_until: Mapped[datetime | None]
    # of `total` rows or steps; None while nobody knows how many there are
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int | None]
    # a name in the reports' folder, until it is too old or there are too many
    file: Mapped[str | None] = mapped_column(String(200))
    size: Mapped[int | None] = mapped_column(BigInteger)
    # how it went to the chat
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("delivery.id", ondelete="SET NULL"))
    # what the reader has to know: that not everything is in it, or why there is none
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Alert(Base):
    """Something that operators have to look at. Of a rule there is one at a time; it ends when nothing is wrong any more."""

    __tablename__ = "alert"
    __table_args__ = (
        Index(
            "uq_alert_open", "rule", unique=True, postgresql_where=text("ended_at IS NULL"), sqlite_where=text("ended_at IS NULL")
        ),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    rule: Mapped[str] = mapped_column(String(50))
    # in the project's language, as it is told in the operators' chat
    words: Mapped[str] = mapped_column(Text)
    began_at: Mapped[datetime] = mapped_column(default=now)
    # when it was last so
    seen_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    end_told_at: Mapped[datetime | None]


class Sample(Base):
    """How much there was of something at a moment: what the lines on the health page are drawn from, for a day."""

    __tablename__ = "sample"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    value: Mapped[float]


class Request(Base):
    """One time that the operators had the word in a conversation. Triggers write it down (`app/storage/triggers.py`).

    A conversation knows only the last time; the reports count all of them. `operator_id` is whose it was last.
    """

    __tablename__ = "request"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id", ondelete="CASCADE"), index=True)
    topic: Mapped[str | None] = mapped_column(String(100))
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    opened_at: Mapped[datetime] = mapped_column(index=True)
    closed_at: Mapped[datetime | None] = mapped_column(index=True)


class Changed(Base):
    """What the reports have to count anew, put down by triggers in the very transaction that changes it.

    A message: `at`, `conversation_id` and `message_id`. All messages of a conversation: its number alone. Anything else: the
    hours from `at` to `until`. Rows are only added here, and taken away by the reports, so that no writer waits for another.
    """

    __tablename__ = "changed"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    at: Mapped[datetime | None]
    until: Mapped[datetime | None]
    # no foreign keys: it may have been deleted, which is what has to be counted
    conversation_id: Mapped[int | None] = mapped_column(BigInteger)
    message_id: Mapped[int | None] = mapped_column(BigInteger)


class DirtyHour(Base):
    """An hour whose figures are to be counted anew from what is there."""

    __tablename__ = "dirty_hour"

    at: Mapped[datetime] = mapped_column(primary_key=True)


class Figure(Base):
    """A sum that the reports have ready: how many of `bucket` there were of `metric` in the hour, day or week that begins `at`.

    `of` is empty for all, "topic:…" or "operator:…". What the metrics and their buckets are stands in `app/reports/rollup.py`.
    """

    __tablename__ = "figure"
    __table_args__ = (Index(None, "grain", "at"),)

    grain: Mapped[str] = mapped_column(String(10), primary_key=True)
    metric: Mapped[str] = mapped_column(String(20), primary_key=True)
    of: Mapped[str] = mapped_column(String(120), primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(BigInteger)


class Rollup(Base):
    """How far the figures are: one row, which is there as soon as anybody keeps them. Without it nothing is marked as changed."""

    __tablename__ = "rollup"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # what the figures were made by; when that changes, they are made anew
    definition: Mapped[str] = mapped_column(String(100))
    # up to which hour time has been followed; None until all that is there has been taken up
    hour: Mapped[datetime | None]
    # how many hours the last complete count began with
    hours: Mapped[int] = mapped_column(default=0)
    # at this moment there was nothing left to count
    fresh_at: Mapped[datetime | None]
