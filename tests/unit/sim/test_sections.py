"""A benchmark rewrites its own section of the report and no other."""

from poolmgr.sim.sections import with_section


def test_section_is_added_once_and_replaced_afterwards() -> None:
    text = with_section(with_section("# Title\n", "a", "one"), "b", "two")
    changed = with_section(text, "a", "three")
    assert changed.count("<!-- a: begin -->") == 1
    assert "one" not in changed
    assert changed.index("three") < changed.index("two")


def test_what_others_wrote_stays() -> None:
    text = "# Title\n\n<!-- hook: begin -->\nmeasured by hand\n<!-- hook: end -->\n\nafter\n"
    changed = with_section(text, "scale", "fast")
    assert changed.startswith(text.rstrip())
    assert changed.endswith("<!-- scale: begin -->\nfast\n<!-- scale: end -->\n")
