"""The words of every enumeration, in Chinese and English."""

from app.models.code_lists import CODE_LISTS, CodeListRead, CodeRead
from app.problems import NotFound
from app.wording import texts


def list_code_lists() -> list[str]:
    """Give the names of all code lists."""
    return sorted(CODE_LISTS)


def find(name: str) -> CodeListRead:
    """Give one code list, or refuse with NotFound."""
    if name not in CODE_LISTS:
        raise NotFound
    zh, en = texts("zh")["codes"][name], texts("en")["codes"][name]
    codes = [CodeRead(code=v.value, zh=zh[v.value], en=en[v.value]) for v in CODE_LISTS[name]]
    return CodeListRead(name=name, codes=codes)
