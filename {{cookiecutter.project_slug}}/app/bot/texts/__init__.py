"""What the bot says: `ru.toml` and `en.toml` beside this file. Edit them freely; a mistake is said at the start, not later."""

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.settings import SettingsError

# a list of choices fills one row each, and the last row leads back
_Choices = Field(min_length=1, max_length=9)
_Label = Annotated[str, Field(min_length=1, max_length=40)]
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Buttons(_Strict):
    """What is written on the buttons of the menu."""

    topics: _Label
    questions: _Label
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


class Texts(_Strict):
    """Everything that the bot says. To add a text, name it here and write it in both files."""

    greeting: _Text
    menu: _Text
    choose_topic: _Text
    choose_question: _Text
    handed_over: _Text
    unknown: _Text
    welcome: _Text
    buttons: Buttons
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
        raise SettingsError(f"{file}: {where}: {first['msg']}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
