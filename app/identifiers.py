"""Chinese identifiers: normal forms and check digits of GB 11643, GB 32100 and area codes."""

import re
import unicodedata
from datetime import date
from operator import mul

import phonenumbers

_RESIDENT_ID = re.compile(r"[1-9][0-9]{16}[0-9X]")
_RESIDENT_WEIGHTS = tuple(pow(2, 17 - i, 11) for i in range(17))
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC = re.compile(rf"[159NYA][{_USCC_ALPHABET}][0-9]{{6}}[{_USCC_ALPHABET}]{{10}}")
_USCC_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))
# The old mobile ranges need no look-up, and are nearly all of a roster.
_MOBILE = re.compile(r"1(?:[38][0-9]|[59][0-35-9])[0-9]{8}")
_CARD = re.compile(r"[1-9][0-9]{12,18}")
_LONG_NUMBER = re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){10,18}[Xx]?(?![0-9A-Za-z])")
_SHORTEST_PERSONAL = 11
_ANY_MOBILE = re.compile(r"(?:86)?1[3-9][0-9]{9}")
_ANY_CARD = re.compile(r"[3-6][0-9]{15,18}")
_OTHER_DIGITS = re.compile(r"[^\D0-9]")
_AREA_LENGTHS = (2, 4, 6, 9, 12)
AREA_CODE_LENGTH = 12
AREA_CODE = re.compile(rf"[1-9][0-9]{{{AREA_CODE_LENGTH - 1}}}")


def normalise(text: str) -> str:
    """Fold wide forms and every script's digits, drop blanks, use capitals, as people type them."""
    return re.sub(r"[\s\u200b\u3000-]", "", _folded(text)).upper()


def _folded(text: str) -> str:
    # One number is kept in one form, whatever script its digits are typed in.
    wide = unicodedata.normalize("NFKC", text)
    return wide if wide.isascii() else _OTHER_DIGITS.sub(_ascii_digit, wide)


def _ascii_digit(digit: re.Match[str]) -> str:
    return str(unicodedata.decimal(digit[0]))


def resident_id(text: str, *, today: date) -> str:
    """Give the normal form of an 18-character resident ID number (GB 11643).

    Raises ValueError with the code of what is wrong: `id_number_form`, `id_number_birth_date`
    or `id_number_check_digit`. The region is not looked up: codes come and go, and residence
    permits use regions of their own.
    """
    number = text if text.isascii() and _RESIDENT_ID.fullmatch(text) else normalise(text)
    if not _RESIDENT_ID.fullmatch(number):
        raise ValueError("id_number_form")
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise ValueError("id_number_birth_date") from None
    if not date(1900, 1, 1) <= born <= today:
        raise ValueError("id_number_birth_date")
    if resident_check_digit(number[:17]) != number[17]:
        raise ValueError("id_number_check_digit")
    return number


def resident_check_digit(first17: str) -> str:
    """Compute the last character of a resident ID number (ISO 7064 MOD 11-2)."""
    return "10X98765432"[sum(map(mul, map(int, first17), _RESIDENT_WEIGHTS)) % 11]


def holds_personal_number(text: str) -> bool:
    """Tell whether a text holds a resident ID number, a mobile number or a bank card's number.

    These have fields of their own, sealed and with a consent; nowhere else are they written.
    """
    folded = _folded(text)
    if len(folded) < _SHORTEST_PERSONAL:
        return False
    return any(_is_personal(normalise(match[0])) for match in _LONG_NUMBER.finditer(folded))


def _is_personal(number: str) -> bool:
    is_resident = _RESIDENT_ID.fullmatch(number) and resident_check_digit(number[:17]) == number[17]
    is_card = _ANY_CARD.fullmatch(number) and _has_luhn_digit(number)
    return bool(is_resident or is_card or _ANY_MOBILE.fullmatch(number))


def _has_luhn_digit(number: str) -> bool:
    """Check the last digit of a card's number (ISO/IEC 7812-1)."""
    doubled = (2 * int(digit) for digit in number[-2::-2])
    return (sum(map(int, number[::-2])) + sum(n // 10 + n % 10 for n in doubled)) % 10 == 0


def uscc(text: str) -> str:
    """Give the normal form of a unified social credit code (GB 32100-2015).

    Raises ValueError with `uscc_form` or `uscc_check_digit`.
    """
    code = normalise(text)
    if not _USCC.fullmatch(code):
        raise ValueError("uscc_form")
    if uscc_check_digit(code[:17]) != code[17]:
        raise ValueError("uscc_check_digit")
    return code


def uscc_check_digit(first17: str) -> str:
    """Compute the last character of a unified social credit code (MOD 31)."""
    total = sum(
        _USCC_ALPHABET.index(char) * weight
        for char, weight in zip(first17, _USCC_WEIGHTS, strict=True)
    )
    return _USCC_ALPHABET[-total % 31]


def phone(text: str) -> str:
    """Give the E.164 form of a phone number, China assumed.

    Raises ValueError with `phone_form`.
    """
    if _MOBILE.fullmatch(text):
        return f"+86{text}"
    try:
        number = phonenumbers.parse(_folded(text), "CN")
    except phonenumbers.NumberParseException:
        raise ValueError("phone_form") from None
    if not phonenumbers.is_valid_number(number):
        raise ValueError("phone_form")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def bank_card(text: str) -> str:
    """Give the digits of a bank card's number (ISO/IEC 7812).

    Raises ValueError with `card_form` or `card_check_digit`.
    """
    number = normalise(text)
    if not _CARD.fullmatch(number):
        raise ValueError("card_form")
    if not _has_luhn_digit(number):
        raise ValueError("card_check_digit")
    return number


def mask_resident_id(number: str) -> str:
    """Show the region and the last four characters only."""
    return f"{number[:6]}********{number[-4:]}"


def mask_phone(e164: str) -> str:
    """Show the first three and the last four digits of a national number only."""
    national = e164.removeprefix("+86")
    return f"{national[:3]}****{national[-4:]}"


def mask_account(number: str) -> str:
    """Show the last four characters only, of a short one the last two."""
    return f"****{number[-4 if len(number) > 8 else -2 :]}"


def mask_name(name: str) -> str:
    """Show the first character only."""
    return f"{name[:1]}**"


def area_range(code: str) -> tuple[str, str]:
    """Give the lowest and highest 12-digit code of an area and all below it."""
    prefix = area_prefix(code)
    return code, prefix + "9" * (AREA_CODE_LENGTH - len(prefix))


def area_prefix(code: str) -> str:
    """Give the significant digits of an area code: 2, 4, 6, 9 or 12 of them."""
    for length in _AREA_LENGTHS:
        if code[length:].strip("0") == "":
            return code[:length]
    return code


def district_of(code: str) -> str:
    """Give the district that an area of district level or below belongs to."""
    return code[:6] + "000000"


def area_lineage(code: str) -> list[str]:
    """Give an area of a district and all above it, from the district down."""
    return sorted({code, code[:9] + "000", district_of(code)})
