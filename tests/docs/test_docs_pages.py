"""What the pages say of the repository is so: links, models, targets of make."""

import re
from pathlib import Path

import pages
import pytest

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page.read_text())}


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_code_says_its_language(page: Path) -> None:
    """So that the tests find it. A block without a language shows what is printed, or a list of files."""
    found = pages.blocks(page)
    assert {block.language for block in found} <= {"", "sh", "python", "yaml"}
    assert not [str(block) for block in found if not block.language and "-m diffmamba." in block.text]
    assert page.read_text().count("<!-- not run") == sum(bool(block.not_run) for block in found)


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(pages.PAGES[0].read_text())}
    assert {f"docs/{page.name}" for page in pages.PAGES[1:]} <= linked


def test_every_model_in_the_table_of_models_exists() -> None:
    """A model that a user adds need not stand there."""
    table = (pages.ROOT / "docs" / "models.md").read_text().split("| `model=` | |")[1].split("\n\n")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    assert len(listed) >= 9
    assert listed <= {path.stem for path in (pages.ROOT / "conf" / "model").glob("*.yaml")}


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(), re.M))
    named = {name for page in pages.PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named <= targets
