"""Links between the pages lead somewhere, and files that they name are there."""

import re

import pytest
from docs_pages import PAGES, ROOT, anchors, commands, links, prose, words_of

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in links(page):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_files_are_there(page):
    for name in re.findall(r"`((?:pgrun|tests|scripts|docs)/[\w/.-]*)`", prose(page)):
        assert (ROOT / name).exists(), name


def test_every_page_is_linked_from_the_front_page():
    linked = {target.partition("#")[0] for target in links(ROOT / "README.md")}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_scripts_have_the_flags_that_they_are_called_with(page):
    called = [*commands(page), *re.findall(r"`(python scripts/[^`]*)`", prose(page))]
    for line in called:
        program, *words = words_of(line)
        if program == "pytest":
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), line
        elif program == "python" and words[0].startswith("scripts/"):
            source = (ROOT / words[0]).read_text()
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), line
