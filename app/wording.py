"""The words of the service, in Chinese and English, by code: `app/texts/` has them."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

Language = Literal["zh", "en"]


@lru_cache
def texts(language: Language) -> Mapping[str, Any]:
    """Read the texts of one language by kind and code."""
    catalogue: dict[str, dict[str, Any]] = {
        "problems": {},
        "fields": {},
        "patterns": {},
        "codes": {},
        "reasons": {},
        "messages": {},
    }
    for path in sorted((Path(__file__).parent / "texts" / language).glob("*.toml")):
        for kind, entries in tomllib.loads(path.read_text("utf-8")).items():
            catalogue[kind] |= entries
    return catalogue


def language_of(accept_language: str | None) -> Language:
    """Choose Chinese unless English is asked for first."""
    first = (accept_language or "").split(",")[0].strip().lower()
    return "en" if first.startswith("en") else "zh"


async def _asked_for(request: Request) -> Language:
    return language_of(request.headers.get("accept-language"))


Spoken = Annotated[Language, Depends(_asked_for)]
"""The language in which the caller is answered."""


class _Facts(dict[str, object]):
    """Facts for a text in which an unnamed one stays blank."""

    def __missing__(self, key: str) -> str:
        return ""


def say(
    language: Language,
    kind: Literal["problems", "fields", "reasons", "messages"],
    code: str,
    **facts: object,
) -> str:
    """Put facts into the text of a code; an unknown code is its own text.

    A regular expression is said in words.
    """
    entry = texts(language)[kind].get(code, code)
    template = entry["detail"] if isinstance(entry, dict) else entry
    if "pattern" in facts:
        facts["pattern"] = texts(language)["patterns"].get(str(facts["pattern"]), facts["pattern"])
    return str(template).format_map(_Facts(facts))
