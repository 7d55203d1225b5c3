"""`docs/tour.md` has a line for each file, so that a newcomer finds the room from the word."""

import re
from collections import Counter
from pathlib import Path

import pytest

_TOUR = Path("docs/tour.md").read_text("utf-8")
_FILES = [
    path
    for folder in ("", "routers", "services", "models")
    for path in sorted((Path("app") / folder).glob("**/*.py" if folder else "*.py"))
    if path.stem != "__init__"
]


@pytest.mark.parametrize("path", _FILES, ids=str)
def test_a_file_has_its_line(path: Path) -> None:
    word = path.name if path.parent.name == "app" else path.stem
    family = f"{word.split('_')[0]}_…"
    named = any(f"{quote}{word}`" in _TOUR for quote in ("`", "`app/"))
    assert named or f"`{word}.py`" in _TOUR or f"`{family}`" in _TOUR, f"give {path} a line"


def test_no_word_has_two_rows() -> None:
    firsts = [row.split("|")[1] for row in _TOUR.splitlines() if row.startswith("| `")]
    named = Counter(word for first in firsts for word in re.findall(r"`([^`]+)`", first))
    assert not {word for word, rows in named.items() if rows > 1}
