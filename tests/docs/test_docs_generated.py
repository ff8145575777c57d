"""The generated parts of the pages are what their generators write."""

import pages
import pytest

QUICK = [name for name, part in pages.PARTS.items() if part.quick]
HINT = "run python scripts/pages.py"


@pytest.mark.parametrize("name", QUICK)
def test_a_part_is_as_its_generator_writes_it(name):
    assert pages.read(name) == pages.PARTS[name].write(), HINT


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in pages.PARTS if name not in QUICK])
def test_a_slow_part_is_as_its_generator_writes_it(name):
    assert pages.read(name) == pages.PARTS[name].write(), f"{HINT} {name}"


def test_a_part_that_is_out_of_date_is_written(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(
        pages, "PARTS", {"one": pages.Part("page.md", lambda: "new"), "two": pages.Part("page.md", str)}
    )
    page.write_text("a\n<!-- generated: one -->\n\nold\n\n<!-- end: one -->\nb\n")
    assert pages.write("one")
    assert page.read_text() == "a\n<!-- generated: one -->\n\nnew\n\n<!-- end: one -->\nb\n"
    assert not pages.write("one")
    with pytest.raises(LookupError, match=r"docs/page.md has no part two"):
        pages.read("two")
