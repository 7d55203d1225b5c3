"""The dice of the demo, in SQL: a hash of a member and an occasion falls the same everywhere."""

_SIDES = 2**24


def hashed(*parts: str) -> str:
    """Hash SQL expressions into a row of ten dice, of three bytes each."""
    joined = " || ':' || ".join(f"cast({part} as text)" for part in parts)
    return f"sha256(convert_to({joined}, 'UTF8'))"


def die(row: str, number: int) -> str:
    """Read one of the ten dice of a row, 0 to 9."""
    first = number * 3
    return (
        f"(get_byte({row}, {first}) * 65536 + get_byte({row}, {first + 1}) * 256"
        f" + get_byte({row}, {first + 2}))"
    )


def share(part: float) -> int:
    """Give the number that a die falls below in this share of all throws."""
    return int(part * _SIDES)
