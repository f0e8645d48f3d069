"""The list of conversations and the posting of an answer as FastAPI's and SQLAlchemy's guides have it, on the same tables.

Async ORM over asyncpg, eager loading, dependencies, response models; the same fields, the same order, the same keyset, and a
bearer token looked up in the database at every request, as ours does.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from secrets import randbelow
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, ForeignKey, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=20, pool_pre_ping=True)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    """The tables, as far as they are needed."""

    type_annotation_map = {datetime: DateTime(timezone=True), int: BigInteger}  # noqa: RUF012


class Person(Base):
    """Somebody who wrote."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str]
    last_name: Mapped[str]

    @property
    def name(self) -> str:
        """First and last."""
        return f"{self.first_name} {self.last_name}".strip()


class Operator(Base):
    """Somebody who answers."""

    __tablename__ = "operator"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    active: Mapped[bool]


class Token(Base):
    """Lets a program in."""

    __tablename__ = "api_token"
    id: Mapped[int] = mapped_column(primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"))
    digest: Mapped[str]
    revoked_at: Mapped[datetime | None]
    operator: Mapped[Operator] = relationship()


class Conversation(Base):
    """The dialog with a person."""

    __tablename__ = "conversation"
    id: Mapped[int] = mapped_column(primary_key=True)
    peer_id: Mapped[int]
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    status: Mapped[str]
    topic: Mapped[str | None]
    unread: Mapped[int]
    opened_at: Mapped[datetime | None]
    last_message_at: Mapped[datetime]
    last_message_text: Mapped[str]
    person: Mapped[Person | None] = relationship()
    assignee: Mapped[Operator | None] = relationship()

    @property
    def person_name(self) -> str | None:
        """Whose it is."""
        return self.person.name if self.person else None

    @property
    def assignee_name(self) -> str | None:
        """Who has taken it."""
        return self.assignee.name if self.assignee else None


class Message(Base):
    """One message."""

    __tablename__ = "message"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column(ForeignKey("conversation.id"))
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"))
    direction: Mapped[str]
    author: Mapped[str]
    text: Mapped[str]
    attachments: Mapped[list[dict]] = mapped_column(JSONB)
    created_at: Mapped[datetime]


class Delivery(Base):
    """A row of the outbox."""

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    peer_id: Mapped[int]
    text: Mapped[str]
    random_id: Mapped[int]
    state: Mapped[str]
    attempts: Mapped[int]
    next_try_at: Mapped[datetime]
    created_at: Mapped[datetime]


class ConversationOut(BaseModel):
    """A conversation in the list."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    peer_id: int
    status: str
    topic: str | None
    unread: int
    assignee_id: int | None
    last_message_at: datetime
    last_message_text: str
    person: str | None = Field(validation_alias="person_name")
    assignee: str | None = Field(validation_alias="assignee_name")


class PageOut(BaseModel):
    """A page of the list."""

    items: list[ConversationOut]
    next: str | None


class AnswerIn(BaseModel):
    """What to say."""

    text: str


class MessageOut(BaseModel):
    """A message."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    direction: str
    author: str
    text: str
    attachments: list[dict]
    created_at: datetime


async def session() -> AsyncIterator[AsyncSession]:
    """A session for the request."""
    async with sessions() as opened:
        yield opened


Opened = Annotated[AsyncSession, Depends(session)]


async def operator(opened: Opened, sent: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> Operator:
    """Whose token it is."""
    digest = sha256(sent.credentials.encode()).hexdigest()
    query = select(Token).options(joinedload(Token.operator)).where(Token.digest == digest, Token.revoked_at.is_(None))
    token = await opened.scalar(query)
    if token is None or not token.operator.active:
        raise HTTPException(401)
    return token.operator


Whose = Annotated[Operator, Depends(operator)]


@app.get("/api/v1/conversations", response_model=PageOut)
async def list_conversations(opened: Opened, _operator: Whose, before: str | None = None) -> dict:
    """The newest first."""
    query = (
        select(Conversation)
        .options(joinedload(Conversation.person), joinedload(Conversation.assignee))
        .order_by(Conversation.last_message_at.desc(), Conversation.id.desc())
        .limit(51)
    )
    if before:
        at, number = before.split("_")
        query = query.where(tuple_(Conversation.last_message_at, Conversation.id) < (datetime.fromisoformat(at), int(number)))
    rows = (await opened.scalars(query)).all()
    following = f"{rows[49].last_message_at.isoformat()}_{rows[49].id}" if len(rows) > 50 else None
    return {"items": rows[:50], "next": following}


@app.post("/api/v1/conversations/{conversation_id}/messages", response_model=MessageOut, status_code=201)
async def send_message(opened: Opened, whose: Whose, conversation_id: int, body: AnswerIn) -> Message:
    """Into the conversation and the outbox."""
    now = datetime.now(UTC)
    conversation = await opened.get(Conversation, conversation_id, with_for_update=True)
    if conversation is None:
        raise HTTPException(404)
    if conversation.status != "open":
        conversation.status, conversation.opened_at = "open", now
    conversation.assignee_id = conversation.assignee_id or whose.id
    conversation.unread, conversation.last_message_at, conversation.last_message_text = 0, now, body.text[:200]
    message = Message(
        conversation_id=conversation_id,
        operator_id=whose.id,
        direction="out",
        author="operator",
        text=body.text,
        attachments=[],
        created_at=now,
    )
    opened.add(message)
    await opened.flush()
    delivery = Delivery(
        message_id=message.id,
        peer_id=conversation.peer_id,
        text=body.text,
        random_id=randbelow(2**31 - 1) + 1,
        state="pending",
        attempts=0,
        next_try_at=now,
        created_at=now,
    )
    opened.add(delivery)
    await opened.commit()
    return message
