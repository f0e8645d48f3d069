"""Every text of every room is in its catalogue, translated, and compiled."""

from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

PROJECT = Path(__file__).parents[1]
CATALOGUES = sorted(PROJECT.glob("app/*/translations/*/LC_MESSAGES/messages.po"))
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
