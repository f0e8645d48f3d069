"""Conversations written into the database with the times they would have had."""

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from app.storage.models import Author, Conversation, ConversationStatus, Direction, Message

Line = tuple[int, Author, datetime]  # the conversation's peer, who wrote, when


def write(engine: Engine, lines: Iterable[Line], opened: dict[int, datetime] | None = None) -> None:
    """Store `lines` in their order; the conversations of `opened` are open since then, the others are with the bot."""
    by_peer: dict[int, list[tuple[Author, datetime]]] = defaultdict(list)
    for peer, author, at in lines:
        by_peer[peer].append((author, at))
    opened = opened or {}
    with Session(engine) as session, session.begin():
        rows = {
            peer: Conversation(
                peer_id=peer,
                status=ConversationStatus.OPEN if peer in opened else ConversationStatus.BOT,
                opened_at=opened.get(peer),
            )
            for peer in by_peer | opened
        }
        session.add_all(rows.values())
        session.flush()
        messages = [
            {
                "conversation_id": rows[peer].id,
                "direction": Direction.IN if author == Author.PERSON else Direction.OUT,
                "author": author,
                "created_at": at,
                "text": "Здравствуйте!",
                "attachments": [],
            }
            for peer, written in by_peer.items()
            for author, at in written
        ]
        if messages:
            session.execute(insert(Message), messages)


def believable(engine: Engine, until: datetime, days: int) -> None:
    """Days of a small community: busier on weekdays and in the evening, a third of the questions go to operators."""
    dice = random.Random(days)  # noqa: S311 - nothing secret
    lines: list[Line] = []
    opened: dict[int, datetime] = {}
    peer = 0
    for back in range(days - 1, -1, -1):
        day = until - timedelta(days=back)
        for _ in range(dice.randint(4, 9) if day.weekday() >= 5 else dice.randint(9, 22)):
            peer += 1
            at = day.replace(hour=0) + timedelta(hours=min(max(dice.gauss(15, 3.5), 0), 23.9))
            if at > until:
                continue
            lines += [(peer, Author.PERSON, at), (peer, Author.BOT, at + timedelta(seconds=1))]
            if dice.random() < 0.35:
                answered = at + timedelta(minutes=dice.lognormvariate(2.3, 0.9))
                if answered > until or (back < 2 and dice.random() < 0.2):
                    opened[peer] = at
                    continue
                lines += [(peer, Author.OPERATOR, answered)]
                if dice.random() < 0.5:
                    thanks = answered + timedelta(minutes=2)
                    lines += [(peer, Author.PERSON, thanks), (peer, Author.OPERATOR, thanks + timedelta(minutes=3))]
    write(engine, lines, opened)
