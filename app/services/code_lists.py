"""The words of every enumeration, in Chinese and English."""

from app import paging
from app.crypto import Keyring
from app.models.code_lists import CODE_LISTS, CodeListFilters, CodeListRead, CodeRead
from app.paging import Slice
from app.problems import NotFound
from app.wording import texts


def list_code_lists(keyring: Keyring, *, filters: CodeListFilters) -> Slice:
    """Give a page of the names of all code lists, by name."""
    return paging.of_names(keyring, sorted(CODE_LISTS), filters=filters)


def find(name: str) -> CodeListRead:
    """Give one code list, or refuse with NotFound."""
    if name not in CODE_LISTS:
        raise NotFound
    zh, en = texts("zh")["codes"][name], texts("en")["codes"][name]
    codes = [CodeRead(code=v.value, zh=zh[v.value], en=en[v.value]) for v in CODE_LISTS[name]]
    return CodeListRead(name=name, codes=codes)
