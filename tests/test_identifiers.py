"""Identifiers of China, held against an independent implementation."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric
from stdnum.cn import uscc as independent_uscc

from app import identifiers
from tests.factories.membership.members import make_id_number

_TODAY = date(2026, 10, 1)
_DIGITS = st.text("0123456789", min_size=3, max_size=3)


def _resident_id(born: date, order: str) -> str:
    first17 = f"440605{born:%Y%m%d}{order}"
    return first17 + identifiers.resident_check_digit(first17)


@given(st.dates(date(1900, 1, 1), _TODAY), _DIGITS)
def test_resident_ids_agree_with_an_independent_implementation(born: date, order: str) -> None:
    number = _resident_id(born, order)
    assert ric.calc_check_digit(number) == number[-1]
    assert identifiers.resident_id(number.lower(), today=_TODAY) == number


@given(st.dates(date(1900, 1, 1), _TODAY), _DIGITS, st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_noticed(born: date, order: str, at: int, by: int) -> None:
    number = _resident_id(born, order)
    wrong = number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :]
    with pytest.raises(ValueError, match="id_number_"):
        identifiers.resident_id(wrong, today=_TODAY)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("", "id_number_form"),
        ("440605199001010", "id_number_form"),
        ("440605199013010017", "id_number_birth_date"),
        ("440605209901010017", "id_number_birth_date"),
        ("11010519491231002X1", "id_number_form"),
    ],
)
def test_a_wrong_resident_id_is_refused_by_what_is_wrong(typed: str, code: str) -> None:
    with pytest.raises(ValueError, match=code):
        identifiers.resident_id(typed, today=_TODAY)


def test_full_width_digits_blanks_and_hyphens_are_folded() -> None:
    typed = " １１０１０５-1949 1231　002x "
    assert identifiers.resident_id(typed, today=_TODAY) == "11010519491231002X"


_SCRIPTS = {
    "wide": "０１２３４５６７８９",
    "arabic": "٠١٢٣٤٥٦٧٨٩",
    "devanagari": "०१२३४५६७८९",
}


@pytest.mark.parametrize("digits", _SCRIPTS.values(), ids=_SCRIPTS)
def test_a_number_in_digits_of_another_script_is_kept_in_the_one_form(digits: str) -> None:
    in_script = str.maketrans("0123456789", digits)
    id_number, code = make_id_number(7), "91350100M000100Y43"
    assert identifiers.resident_id(id_number.translate(in_script), today=_TODAY) == id_number
    assert identifiers.uscc(code.translate(in_script)) == code
    card = "6225880137465283"
    assert identifiers.bank_card(card.translate(in_script)) == card
    assert identifiers.phone("13800138000".translate(in_script)) == "+8613800138000"
    assert identifiers.holds_personal_number(f"证件{id_number.translate(in_script)}。")


@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=9, max_size=9))
def test_credit_codes_agree_with_an_independent_implementation(tail: str) -> None:
    first17 = "91440605" + tail
    code = first17 + identifiers.uscc_check_digit(first17)
    assert identifiers.uscc(code.lower()) == code
    assert independent_uscc.calc_check_digit(code) == code[-1]


def test_a_credit_code_with_a_wrong_check_digit_is_refused() -> None:
    assert identifiers.uscc("91350100M000100Y43") == "91350100M000100Y43"
    with pytest.raises(ValueError, match="uscc_check_digit"):
        identifiers.uscc("91350100M000100Y44")


def test_phones_are_stored_in_one_form_and_shown_masked() -> None:
    assert identifiers.phone("138 0013 8000") == identifiers.phone("+8613800138000")
    assert identifiers.mask_phone("+8613800138000") == "138****8000"
    with pytest.raises(ValueError, match="phone_form"):
        identifiers.phone("12345")


@pytest.mark.parametrize(
    ("code", "high"),
    [
        ("440000000000", "449999999999"),
        ("440600000000", "440699999999"),
        ("440605000000", "440605999999"),
        ("440605124000", "440605124999"),
        ("440605124201", "440605124201"),
    ],
)
def test_an_area_is_a_range_of_codes(code: str, high: str) -> None:
    assert identifiers.area_range(code) == (code, high)


@pytest.mark.parametrize(
    "text",
    [
        make_id_number(7),
        f"证件{make_id_number(8)}。",
        "１３８８７６５４３２１",
        "联系 138 8765 4321",
        "+86-13887654321",
        "卡号6225880137465283",
        "4111 1111 1111 1111",
    ],
)
def test_a_persons_number_is_found_in_a_text(text: str) -> None:
    assert identifiers.holds_personal_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "第13期 2026-01-01 09:00",
        "440605124201",
        "91440605MA0000001C",
        "电话 0757-86281234",
        "440605198203078937",
        "6225880137465284",
        "01993a2f-7c10-7c4e-9d55-2f1a60b3c0aa",
        "G13887654321",
        "12356",
    ],
)
def test_other_numbers_are_no_persons(text: str) -> None:
    assert not identifiers.holds_personal_number(text)
