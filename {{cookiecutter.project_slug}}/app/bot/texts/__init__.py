"""What the bot says: `ru.toml` and `en.toml` beside this file. Edit them freely; a mistake is said at the start, not later."""

import re
import tomllib
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.settings import SettingsError

PLACE = re.compile(r"\{(\w+)\}")


def fill(text: str, /, **values: object) -> str:
    """`text` with each `{name}` replaced by the value of that name. What people wrote may hold braces; they stay."""
    return PLACE.sub(lambda found: str(values.get(found[1], found[0])), text)


def _with(*names: str) -> AfterValidator:
    def check(text: str) -> str:
        for name in PLACE.findall(text):
            if name not in names:
                known = " or ".join(f"{{{name}}}" for name in names) or "nothing in braces"
                raise ValueError(f"{{{name}}} means nothing here, only {known} does")
        return text

    return AfterValidator(check)


# a list of choices fills one row each, and the last row leads back
_Choices = Field(min_length=1, max_length=9)
_Label = Annotated[str, Field(min_length=1, max_length=40), _with()]
_Words = Annotated[str, Field(min_length=1)]
_Text = Annotated[_Words, _with()]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Buttons(_Strict):
    """What is written on the buttons of the menu."""

    topics: _Label
    questions: _Label
    request: _Label
    human: _Label
    back: _Label


class Topic(_Strict):
    """Something that operators deal with; `ask` says what they need to know."""

    title: _Label
    ask: _Text


class Question(_Strict):
    """A frequent question. It is answered when its button is pressed, or when a word in a message begins with one of `words`."""

    title: _Label
    words: list[_Text] = Field(default_factory=list)
    answer: _Text

    def asked_in(self, text: str) -> bool:
        """Whether `text` holds one of the words."""
        return any(re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE) for word in self.words)


class FormTexts(_Strict):
    """What every form says (`talk.Form`)."""

    back: _Label
    cancel: _Label
    skip: _Label
    words: _Text
    shorter: _Text
    choose: _Text
    left: _Text
    over: _Text


class RequestTexts(_Strict):
    """The example's form: a request to call back."""

    name: Annotated[_Words, _with("name")]
    phone: _Text
    wrong_phone: _Text
    comment: _Text
    confirm: Annotated[_Words, _with("name", "phone", "comment")]
    no_comment: _Text
    send: _Label
    done: _Text
    cancelled: _Text


class Hours(_Strict):
    """When the operators work, in the project's time zone, and how their return is told."""

    weekdays: Annotated[set[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1)]  # 1 is Monday
    opens: time
    closes: time
    today: _Text
    tomorrow: _Text
    days: Annotated[list[_Text], Field(min_length=7, max_length=7)]  # "on Monday" …
    back: Annotated[_Words, _with("day", "time")]
    away: Annotated[_Words, _with("back")]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.opens >= self.closes:
            raise ValueError("opens has to be before closes, on the same day")
        return self

    def open(self, at: datetime) -> bool:
        """Whether operators are there at the local time `at`."""
        return at.isoweekday() in self.weekdays and self.opens <= at.time() < self.closes

    def next_opening(self, at: datetime) -> datetime:
        """When operators are back after the local time `at`, at which they are not there."""
        days = (at.date() + timedelta(days=number) for number in range(8))
        openings = (datetime.combine(day, self.opens, at.tzinfo) for day in days if day.isoweekday() in self.weekdays)
        return next(opening for opening in openings if opening > at)

    def notice(self, at: datetime) -> str:
        """What to add to a hand-over at the local time `at`: when operators are back, or nothing while they are there."""
        if self.open(at):
            return ""
        opening = self.next_opening(at)
        near = {0: self.today, 1: self.tomorrow}
        day = near.get((opening.date() - at.date()).days, self.days[opening.weekday()])
        return fill(self.away, back=fill(self.back, day=day, time=f"{opening:%H:%M}"))


class OperatorsTexts(_Strict):
    """What is said in the operators' chat."""

    peer: Annotated[_Words, _with("peer_id")]
    help: _Text
    new: Annotated[_Words, _with("id", "name", "topic", "text")]
    nameless: _Text
    no_topic: _Text
    take: _Label
    taken: Annotated[_Words, _with("id", "name", "operator")]
    already: Annotated[_Words, _with("id", "name", "operator")]
    closed: Annotated[_Words, _with("id", "name")]
    stranger: Annotated[_Words, _with("id", "name", "vk_id")]
    gone: _Text
    report: Annotated[_Words, _with("date", "received", "sent", "open", "oldest")]
    oldest: Annotated[_Words, _with("hours", "minutes", "name")]


class Texts(_Strict):
    """Everything that the bot says. To add a text, name it here and write it in both files."""

    greeting: Annotated[_Words, _with("name")]
    menu: _Text
    choose_topic: _Text
    choose_question: _Text
    handed_over: _Text
    unknown: _Text
    newcomer: Annotated[_Words, _with("name")]
    welcome: _Text
    closed: _Text
    buttons: Buttons
    form: FormTexts
    request: RequestTexts
    hours: Hours | None = None
    operators: OperatorsTexts
    topics: list[Topic] = _Choices
    questions: list[Question] = _Choices


def load_texts(language: str, folder: Path = Path(__file__).parent) -> Texts:
    """The texts in `language`. Raises `SettingsError` with one line that names the file and the mistake."""
    file = folder / f"{language}.toml"
    try:
        return Texts.model_validate(tomllib.loads(file.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
