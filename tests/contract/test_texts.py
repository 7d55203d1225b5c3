"""Every refusal and every code has its words in both languages."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from app.models.code_lists import CODE_LISTS
from app.problems import Problem, all_problems
from app.wording import Language, texts
from tests.contract.operations import document
from tests.factories.callers import Client

_BLANKS = re.compile(r"{(\w+)}")


@pytest.mark.parametrize("problem", sorted(set(all_problems()), key=str), ids=lambda p: p.__name__)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_problem_has_a_title_and_a_remedy(problem: type[Problem], language: Language) -> None:
    entry = texts(language)["problems"].get(problem.code)
    assert entry is not None, f"{problem.code} has no text in {language}"
    assert entry["title"]
    assert entry["detail"]


@pytest.mark.parametrize("kind", ["problems", "fields", "patterns", "codes", "reasons", "messages"])
def test_both_languages_say_the_same_things(kind: str) -> None:
    chinese, english = texts("zh")[kind], texts("en")[kind]
    assert chinese.keys() == english.keys()
    for code, entry in chinese.items():
        assert sorted(_BLANKS.findall(str(entry))) == sorted(_BLANKS.findall(str(english[code])))


@pytest.mark.parametrize("name", CODE_LISTS)
def test_a_code_list_has_words_for_every_value(name: str) -> None:
    values = {value.value for value in CODE_LISTS[name]}
    assert texts("zh")["codes"][name].keys() == values
    assert texts("en")["codes"][name].keys() == values


def _patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        yield from _patterns(each)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_pattern_is_said_in_words(language: Language) -> None:
    assert set(_patterns(document())) <= texts(language)["patterns"].keys()


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "zh",
            [
                "应为以下之一：preparing, active, suspended, dissolved。",
                "格式不符，应为：12 位区划代码，如 440605124000。",
            ],
        ),
        (
            "en",
            [
                "Must be one of: preparing, active, suspended, dissolved.",
                "Must be an area code of 12 digits, as 440605124000.",
            ],
        ),
    ],
)
async def test_a_clerk_reads_what_may_stand_there(
    officer: Client, language: Language, said: list[str]
) -> None:
    answer = await officer.get(
        "/v1/associations",
        params={"status": "closed", "area": "4406"},
        headers={"Accept-Language": language},
    )
    assert answer.status_code == 422
    assert sorted(error["detail"] for error in answer.json()["errors"]) == sorted(said)
