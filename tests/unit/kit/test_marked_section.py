"""Sections of a document that programs write."""

import pytest

from poolmgr.kit.marked_section import replace_section

DOCUMENT = "# Title\n\n<!-- bench:a -->\nold\n<!-- /bench:a -->\n\nBetween.\n\n<!-- bench:b -->\nb\n<!-- /bench:b -->\n"


def test_replaces_its_section_and_no_other_byte() -> None:
    assert replace_section(DOCUMENT, "a", "new\n") == DOCUMENT.replace("old", "new")


def test_is_the_same_when_done_twice() -> None:
    once = replace_section(DOCUMENT, "b", "| \\1 | x |")
    assert replace_section(once, "b", "| \\1 | x |") == once
    assert "| \\1 | x |" in once


def test_appends_a_section_that_is_not_there() -> None:
    assert replace_section("# T\n", "c", "text") == "# T\n\n<!-- bench:c -->\ntext\n<!-- /bench:c -->\n"
    assert replace_section("", "c", "text") == "<!-- bench:c -->\ntext\n<!-- /bench:c -->\n"


@pytest.mark.parametrize(
    "broken",
    [
        "<!-- bench:a -->\nnever ended",
        "<!-- bench:a -->\n<!-- /bench:a -->\n<!-- bench:a -->\n<!-- /bench:a -->",
        "<!-- /bench:a -->\n<!-- bench:a -->",
    ],
)
def test_refuses_a_document_it_could_damage(broken: str) -> None:
    with pytest.raises(ValueError, match="bench:a"):
        replace_section(broken, "a", "text")
