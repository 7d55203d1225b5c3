"""The code of a voucher: fifteen random symbols and one that tells a slip of the pen.

Crockford's base 32 leaves out what is easily misread. Of five bits each, fifteen symbols are 75
random bits. The last one checks them: each symbol counts with a power of a primitive element of
GF(32), and no two with the same, so that any one wrong symbol, and any two that changed places,
are noticed.
"""

import unicodedata

from app import crypto
from app.crypto import Keyring
from app.problems import Invalid

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RANDOM = 15
"""How many symbols are random."""
_GROUP = 4
_MISREAD = str.maketrans("OIL", "011", "- ")
_TAIL = 4
_COLUMN = "voucher_code"


def make() -> str:
    """Make a code that nobody can guess, without its hyphens."""
    values = crypto.five_bits(RANDOM)
    return "".join(ALPHABET[value] for value in (*values, _check(values)))


def _check(values: list[int]) -> int:
    check = 0
    for value in values:
        check = _times(check ^ value)
    return check


def _times(value: int) -> int:
    """Multiply by the primitive element, modulo x^5 + x^2 + 1."""
    doubled = value << 1
    return doubled ^ 0b100101 if doubled & 32 else doubled


def read(given: str) -> str:
    """Read a code as people write it; raises Invalid where it cannot be one."""
    code = unicodedata.normalize("NFKC", given).upper().translate(_MISREAD)
    if len(code) != RANDOM + 1 or not set(code) <= set(ALPHABET):
        raise Invalid.at("/code", "voucher_code_mistyped")
    *values, check = (ALPHABET.index(symbol) for symbol in code)
    if _check(values) != check:
        raise Invalid.at("/code", "voucher_code_mistyped")
    return code


def written(code: str) -> str:
    """Write a code in groups."""
    return "-".join(code[at : at + _GROUP] for at in range(0, len(code), _GROUP))


def tail(code: str) -> str:
    """Give what is kept in clear of a code once it is worth nothing."""
    return code[-_TAIL:]


def masked(ending: str) -> str:
    """Write a code of which only the tail is known."""
    return f"****-****-****-{ending}"


def index(keyring: Keyring, code: str) -> bytes:
    """Give the hash by which a code is kept."""
    return keyring.blind_index(code, column=_COLUMN)


def indexes(keyring: Keyring, code: str) -> list[bytes]:
    """Give the hashes by which a code may be kept, while the index key is being replaced too."""
    return keyring.blind_indexes(code, column=_COLUMN)
