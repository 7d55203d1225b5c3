"""Sealed fields stay sealed, and stay where they were put."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crypto import Keyring, Unreadable, decode, encode

_KEYS = Keyring(bytes(range(32)))


@given(st.text())
def test_a_field_comes_back_as_it_was(plain: str) -> None:
    sealed = _KEYS.encrypt(plain, place="members.phone:1")
    assert _KEYS.decrypt(sealed, place="members.phone:1") == plain


@given(st.text(min_size=4), st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_ciphertext_is_noticed(plain: str, at: int, by: int) -> None:
    sealed = bytearray(_KEYS.encrypt(plain, place="members.phone:1"))
    sealed[at % len(sealed)] ^= by
    with pytest.raises(Unreadable):
        _KEYS.decrypt(bytes(sealed), place="members.phone:1")


def test_a_ciphertext_moved_to_another_row_is_noticed() -> None:
    sealed = _KEYS.encrypt("13800138000", place="members.phone:1")
    with pytest.raises(Unreadable):
        _KEYS.decrypt(sealed, place="members.phone:2")
    with pytest.raises(Unreadable):
        Keyring(bytes(32)).decrypt(sealed, place="members.phone:1")


def test_equal_values_are_found_only_in_their_own_column() -> None:
    phone = _KEYS.blind_index("1", column="phone")
    assert phone == _KEYS.blind_index("1", column="phone")
    assert phone != _KEYS.blind_index("1", column="id_number")
    assert phone != Keyring(bytes(32)).blind_index("1", column="phone")


@given(st.binary())
def test_url_safe_text_comes_back(raw: bytes) -> None:
    assert decode(encode(raw)) == raw
