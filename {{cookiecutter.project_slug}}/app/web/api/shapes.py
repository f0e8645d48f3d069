"""What goes over the API and what comes in. The fields of an answer stand in the order of the columns that fill them."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from app.storage.models import Author, ConversationStatus, Direction, Role
from app.web.deeds import ANSWER_LIMIT, TOPIC_LIMIT
from app.web.form import NAME_LIMIT
from app.web.operators import LOGIN

T = TypeVar("T")
NO_NUL = r"^[^\x00]*$"  # PostgreSQL cannot keep one
SOMETHING = r"^[^\x00]*[^\x00\s][^\x00]*$"
END = r"$(?!\n)"  # for Python "$" alone is before a last line end too
MOST = 10**18 - 1  # no row has a larger number
Number = Annotated[int, Meta(ge=1, le=MOST)]
Text = Annotated[str, Meta(min_length=1, max_length=ANSWER_LIMIT, pattern=SOMETHING)]
Search = Annotated[str, Meta(max_length=200, pattern=NO_NUL)]
Place = Annotated[str, Meta(max_length=40, pattern=r"^([0-9]{1,16}-[0-9]{1,18})?$", description="`next` of the page before")]


class Page(Struct, Generic[T]):
    """Some of many. `next` is what to ask for to get those that follow; null at the end."""

    items: list[T]
    next: str | None


class Me(Struct):
    """Whose token it is, and what it is good for."""

    id: int
    login: str
    name: str
    role: Role
    scopes: list[str]


class Conversation(Struct):
    """`person` is null for a group chat; `assignee` is the operator who has taken it."""

    id: int
    peer_id: int
    status: ConversationStatus
    topic: str | None
    unread: int
    assignee_id: int | None
    last_message_at: datetime
    last_message_text: str
    person: str | None
    assignee: str | None


class Message(Struct):
    """`attachments` are VK's own; `state` of an answer is "waiting", "sent", "failed" or "held", and `reason` why."""

    id: int
    direction: Direction
    author: Author
    text: str
    attachments: list[dict[str, Any]]
    created_at: datetime
    operator: str | None
    state: str | None
    reason: str | None


class Note(Struct):
    """What an operator wrote for colleagues; it stands after the message `after_id`, 0: before all."""

    id: int
    after_id: int
    text: str
    created_at: datetime
    operator: str


class Person(Struct):
    """Somebody who wrote to the community; `reachable`: whether it may write to them."""

    id: int
    vk_id: int
    name: str
    reachable: bool
    created_at: datetime


class CannedAnswer(Struct):
    """A text that is needed often, and the word that stands for it."""

    id: int
    shortcut: str
    text: str


class Colleague(Struct):
    """An operator, as all may know them."""

    id: int
    name: str


class Operator(Struct):
    """An operator, as admins see them."""

    id: int
    login: str
    name: str
    role: Role
    vk_id: int | None
    language: str | None
    active: bool
    created_at: datetime


class Invitation(Struct):
    """An address at which the operator `id` chooses a password: it works once, and for three days."""

    id: int
    address: str


class SetAside(Struct):
    """An event that the bot could not deal with: why, and as VK sent it."""

    id: int
    type: str
    peer_id: int | None
    raw: dict[str, Any]
    error: str | None
    received_at: datetime
    person: str | None
    conversation_id: int | None


class Deed(Struct):
    """Who did what, when, and from where."""

    id: int
    at: datetime
    operator_id: int | None
    action: str
    target: str | None
    details: dict[str, Any]
    address: str | None
    request_id: str | None
    operator: str | None


class Light(Struct):
    """How one part of the desk is: "good", "doubtful" or "bad", in the operator's language, and what to do about it."""

    name: str
    level: str
    words: str
    detail: str | None
    cure: str | None


class Health(Struct):
    """How the desk is."""

    lights: list[Light]


class Done(Struct):
    """It is done."""

    id: int


# what is asked


class Listing(Struct, forbid_unknown_fields=True):
    """Which conversations: a view, words to look for in names and messages (the longest of 3 letters or more), a topic."""

    view: Literal["new", "mine", "all", "closed"] = "all"
    q: Search = ""
    topic: Annotated[str, Meta(max_length=TOPIC_LIMIT, pattern=NO_NUL)] = ""
    before: Place = ""


class Before(Struct, forbid_unknown_fields=True):
    """Those with lower numbers than `before`; the newest without it."""

    before: Number = MOST


class Lines(Struct, forbid_unknown_fields=True):
    """The newest messages, or those before the number `before`, or the first after the number `after`."""

    before: Number = MOST
    after: Annotated[int, Meta(ge=0, le=MOST)] | UnsetType = UNSET


class People(Struct, forbid_unknown_fields=True):
    """People whose name has all these words, of 3 letters or more; those with lower numbers than `before`."""

    q: Search = ""
    before: Number = MOST


class Answer(Struct, forbid_unknown_fields=True):
    """What to say to the person, or to note for colleagues."""

    text: Text


class Change(Struct, forbid_unknown_fields=True):
    """What is to be otherwise. `assignee_id`: whose it is, null: nobody's; `topic`; `status`: "closed" gives it to the bot."""

    assignee_id: Number | UnsetType | None = UNSET
    topic: Annotated[str, Meta(max_length=TOPIC_LIMIT, pattern=NO_NUL)] | UnsetType | None = UNSET
    status: Literal["closed"] | UnsetType = UNSET


class Seen(Struct, forbid_unknown_fields=True):
    """How many unread messages were seen: those that came meanwhile stay unread."""

    unread: Annotated[int, Meta(ge=0, lt=10**9)]


class Again(Struct, forbid_unknown_fields=True):
    """`held`: also what may have arrived already."""

    held: bool = False


class Canned(Struct, forbid_unknown_fields=True):
    """A canned answer."""

    shortcut: Annotated[str, Meta(pattern=rf"^[a-z0-9а-яё_-]{{1,50}}{END}")]
    text: Annotated[str, Meta(min_length=1, max_length=4000, pattern=SOMETHING)]


Name = Annotated[str, Meta(max_length=NAME_LIMIT, pattern=SOMETHING)]
Language = Literal["ru", "en"]


class NewOperator(Struct, forbid_unknown_fields=True):
    """Who is to be let in, and as what. `vk_id` is who they are in the operators' chat."""

    login: Annotated[str, Meta(pattern=f"^{LOGIN.pattern}{END}")]
    name: Name
    role: Role = Role.OPERATOR
    vk_id: Number | None = None
    language: Language | None = None


class OperatorChange(Struct, forbid_unknown_fields=True):
    """What is to be otherwise. `active`: whether they may sign in."""

    name: Name | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    vk_id: Number | UnsetType | None = UNSET
    language: Language | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
