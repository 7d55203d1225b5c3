"""Codes of vouchers: random, readable, and wrong where a single symbol is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems import Invalid
from app.services.disbursement import voucher_codes
from app.services.disbursement.voucher_codes import ALPHABET, RANDOM

_CODES = st.lists(st.sampled_from(range(32)), min_size=RANDOM, max_size=RANDOM).map(
    lambda values: "".join(ALPHABET[each] for each in (*values, voucher_codes._check(values)))
)


@given(_CODES)
def test_a_code_is_read_as_it_is_written_and_as_people_write_it(code: str) -> None:
    written = voucher_codes.written(code)
    assert voucher_codes.read(written) == code
    assert voucher_codes.read(f" {written.lower().replace('-', '  ')}\u3000".strip()) == code
    careless = written.replace("0", "o").replace("1", "l")
    assert voucher_codes.read(careless) == code


@given(_CODES, st.integers(0, RANDOM), st.sampled_from(ALPHABET))
def test_any_one_wrong_symbol_is_noticed(code: str, at: int, symbol: str) -> None:
    wrong = code[:at] + symbol + code[at + 1 :]
    if wrong == code:
        assert voucher_codes.read(wrong) == code
        return
    with pytest.raises(Invalid):
        voucher_codes.read(wrong)


@given(_CODES, st.integers(0, RANDOM), st.integers(0, RANDOM))
def test_any_two_that_changed_places_are_noticed(code: str, one: int, other: int) -> None:
    symbols = list(code)
    symbols[one], symbols[other] = symbols[other], symbols[one]
    wrong = "".join(symbols)
    if wrong == code:
        return
    with pytest.raises(Invalid):
        voucher_codes.read(wrong)


def test_no_two_codes_are_alike_and_every_symbol_occurs() -> None:
    codes = {voucher_codes.make() for _ in range(2000)}
    assert len(codes) == 2000
    assert set("".join(codes)) == set(ALPHABET)


def test_a_mask_shows_the_last_four() -> None:
    code = voucher_codes.make()
    shown = voucher_codes.masked(voucher_codes.tail(code))
    assert shown == f"****-****-****-{code[-4:]}"
    assert len(voucher_codes.written(code)) == len(shown)
