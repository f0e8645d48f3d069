"""Every text of every room is in its catalogue, translated, and compiled."""

import ast
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from jinja2 import Environment

PROJECT = Path(__file__).parents[1]
CATALOGUES = sorted(PROJECT.glob("app/*/translations/*/LC_MESSAGES/messages.po"))
TEMPLATES = sorted(PROJECT.glob("app/*/templates/**/*.html"))
NAMES = {"Ctrl+Enter", "vk.com/id", "openapi.json"}  # the same in every language
SILENT = ("code", "pre", "kbd", "script", "style")
KEYWORDS = DEFAULT_KEYWORDS | {"lazy_gettext": None}


@pytest.fixture(params=CATALOGUES, ids=lambda file: f"{file.parents[3].name}-{file.parents[1].name}")
def file(request: pytest.FixtureRequest) -> Path:
    """The catalogue of one room in one language."""
    found: Path = request.param
    return found


@pytest.fixture
def catalogue(file: Path) -> Catalog:
    return read_po(file.open("rb"), locale=file.parents[1].name)


def test_the_catalogue_has_exactly_the_texts_of_the_room(file: Path, catalogue: Catalog) -> None:
    methods, options = parse_mapping_cfg((PROJECT / "babel.cfg").open(encoding="utf-8"))
    found = extract_from_dir(file.parents[3], methods, options, keywords=KEYWORDS)
    texts = {text for _, _, text, _, _ in found}
    assert len(texts) > 3
    assert {message.id for message in catalogue if message.id} == texts, "run `make messages` and translate what is new"


def test_every_text_is_translated_with_the_same_places(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id:
            translations = message.string if isinstance(message.string, tuple) else (message.string,)
            assert all(translations), message.id
            assert not message.fuzzy, message.id
            assert not list(message.check(catalogue)), message.id


def test_the_compiled_catalogue_is_the_one_that_is_read(file: Path, catalogue: Catalog) -> None:
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    assert file.with_suffix(".mo").read_bytes() == compiled.getvalue(), "run `make messages`"


class _Texts(HTMLParser):
    """What people see of a page, or have read to them, but for code, keys, and what says itself that it has another language."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside: list[str] = []  # the element that is passed over, and those of its kind in it

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if self._inside:
            self._inside += [tag] if tag == self._inside[0] else []
        elif tag in SILENT or given.get("lang"):
            self._inside = [tag]
        else:
            self.texts += [given.get(name) or "" for name in ("title", "alt", "placeholder", "aria-label")]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[0]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.texts.append(data)


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: f"{file.parents[1].name}-{file.stem}")
def test_no_text_of_a_page_is_outside_the_catalogue(file: Path) -> None:
    source = re.sub(r"{% block kind %}.*?{% endblock %}", "", file.read_text(encoding="utf-8"))
    page = _Texts()
    page.feed("".join(value for _line, kind, value in Environment(autoescape=True).lex(source) if kind == "data"))
    page.close()
    words = {text.strip() for text in page.texts if re.search(r"[^\W\d_]", text)}
    assert {text for text in words if "=" not in text} <= NAMES, "write it as _(…)"  # a macro may give attributes


@pytest.mark.parametrize("room", ["web", "reports"])
def test_what_is_said_to_people_comes_from_the_catalogue(room: str) -> None:
    for file in (PROJECT / "app" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("abort", "flash", "error_page"):
                literals = [each.value for each in node.args if isinstance(each, ast.Constant)]
                assert not [text for text in literals if isinstance(text, str)], f"{file.name}:{node.lineno}"
