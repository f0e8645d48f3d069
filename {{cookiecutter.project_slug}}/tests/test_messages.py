"""Every text that people see is translated, in every room, and what is compiled is what is written."""

import io
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

PROJECT = Path(__file__).parent.parent
CATALOGUES = sorted(PROJECT.glob("app/*/translations/*/LC_MESSAGES/messages.po"))


def catalogue(file: Path) -> Catalog:
    with file.open("rb") as stream:
        return read_po(stream, locale=file.parent.parent.name)


@pytest.mark.parametrize("file", CATALOGUES, ids=lambda file: file.relative_to(PROJECT / "app").parts[0])
class TestCatalogue:
    def test_every_text_is_in_it(self, file: Path) -> None:
        with (PROJECT / "babel.cfg").open() as stream:
            methods, options = parse_mapping_cfg(stream)
        room = file.parents[3]
        found = extract_from_dir(room, methods, options, keywords=DEFAULT_KEYWORDS | {"lazy_gettext": None})
        texts = {(message[0] if isinstance(message, tuple) else message, context) for _, _, message, _, context in found}
        assert texts
        assert texts == {(row.id[0] if isinstance(row.id, tuple) else row.id, row.context) for row in catalogue(file) if row.id}

    def test_every_text_is_translated(self, file: Path) -> None:
        for message in catalogue(file):
            words = message.string if isinstance(message.string, tuple) else (message.string,)
            assert all(words), f"{message.id!r}: translate it, then `make messages`"
            assert not message.id or not message.fuzzy, f"{message.id!r}: look at it and take the word fuzzy away"
            assert not list(message.check())

    def test_the_compiled_file_is_fresh(self, file: Path) -> None:
        compiled = io.BytesIO()
        write_mo(compiled, catalogue(file))
        assert file.with_suffix(".mo").read_bytes() == compiled.getvalue(), "run `make messages`"
