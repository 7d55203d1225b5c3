"""Every refusal and every code has its words in both languages."""

import re

import pytest

from app.models.code_lists import CODE_LISTS
from app.problems import Problem, all_problems
from app.wording import Language, texts

_BLANKS = re.compile(r"{(\w+)}")


@pytest.mark.parametrize("problem", sorted(set(all_problems()), key=str), ids=lambda p: p.__name__)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_problem_has_a_title_and_a_remedy(problem: type[Problem], language: Language) -> None:
    entry = texts(language)["problems"].get(problem.code)
    assert entry is not None, f"{problem.code} has no text in {language}"
    assert entry["title"]
    assert entry["detail"]


@pytest.mark.parametrize("kind", ["problems", "fields", "codes", "reasons", "messages"])
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
