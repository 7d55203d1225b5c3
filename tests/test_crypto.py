"""Sealed fields stay sealed, stay where they were put, and outlive the keys that wrapped theirs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ciphers import Cipher, Profile, Unreadable, keyed_hash
from app.crypto import IndexKey, Keyring, MasterKeyMissing, Wrapped, decode, encode, load_keyring
from app.settings import Settings

_ROOT, _OLD, _NEW = bytes(range(32)), b"o" * 32, b"n" * 32
_PLACE, _KEY_PLACE = "members.phone:1", "data_keys.wrapped:1"
_PHONE = b"+8613800138000"
_BOTH = pytest.mark.parametrize("profile", list(Profile))


def _old_index(profile: Profile = Profile.INTERNATIONAL) -> IndexKey:
    return IndexKey(1, _OLD, profile)


def _new_index(profile: Profile = Profile.INTERNATIONAL) -> IndexKey:
    return IndexKey(2, _NEW, profile)


@_BOTH
@given(plain=st.binary())
def test_a_value_comes_back_as_it_was(profile: Profile, plain: bytes) -> None:
    cipher = Cipher(_ROOT, profile)
    assert cipher.open(cipher.seal(plain, place=_PLACE), place=_PLACE) == plain


@_BOTH
def test_every_flipped_bit_is_noticed(profile: Profile) -> None:
    cipher = Cipher(_ROOT, profile)
    sealed = cipher.seal(_PHONE, place=_PLACE)
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Unreadable):
            cipher.open(bytes(changed), place=_PLACE)


@_BOTH
def test_every_truncation_and_addition_is_noticed(profile: Profile) -> None:
    cipher = Cipher(_ROOT, profile)
    sealed = cipher.seal(_PHONE, place=_PLACE)
    for length in range(len(sealed)):
        with pytest.raises(Unreadable):
            cipher.open(sealed[:length], place=_PLACE)
    with pytest.raises(Unreadable):
        cipher.open(sealed + b"\x00", place=_PLACE)


@_BOTH
@pytest.mark.parametrize(
    "place", ["members.phone:2", "members.id_number:1", "officers.phone:1", "", _PLACE + " "]
)
def test_a_ciphertext_moved_to_another_row_column_or_table_is_noticed(
    profile: Profile, place: str
) -> None:
    cipher = Cipher(_ROOT, profile)
    sealed = cipher.seal(_PHONE, place=_PLACE)
    with pytest.raises(Unreadable):
        cipher.open(sealed, place=place)


@_BOTH
def test_two_people_s_ciphertexts_cannot_be_swapped(profile: Profile) -> None:
    keyring = Keyring(_ROOT, profile=profile)
    hers, _ = keyring.new_key(place="data_keys.wrapped:1")
    others, _ = keyring.new_key(place="data_keys.wrapped:2")
    with pytest.raises(Unreadable):
        others.open(hers.seal(_PHONE, place=_PLACE), place=_PLACE)


@_BOTH
def test_equal_values_are_sealed_differently(profile: Profile) -> None:
    cipher = Cipher(_ROOT, profile)
    assert len({cipher.seal(_PHONE, place=_PLACE) for _ in range(100)}) == 100


def test_either_profile_reads_what_the_other_sealed() -> None:
    aes, sm4 = Cipher(_ROOT, Profile.INTERNATIONAL), Cipher(_ROOT, Profile.GUOMI)
    by_aes, by_sm4 = aes.seal(_PHONE, place=_PLACE), sm4.seal(_PHONE, place=_PLACE)
    assert (by_aes[0], by_sm4[0]) == (1, 2)
    assert sm4.open(by_aes, place=_PLACE) == aes.open(by_sm4, place=_PLACE) == _PHONE
    with pytest.raises(Unreadable):
        aes.open(b"\x02" + by_aes[1:], place=_PLACE)


def test_the_hashes_are_those_of_the_standards() -> None:
    # RFC 4231, test case 2; GM/T 0042 gives no short vector, so SM3's is of this construction.
    message = b"what do ya want for nothing?"
    assert keyed_hash(b"Jefe", message, Profile.INTERNATIONAL).hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    assert keyed_hash(b"Jefe", message, Profile.GUOMI) == _hmac_by_hand(b"Jefe", message)


def _hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """HMAC of RFC 2104 written out over the plain hash."""
    from cryptography.hazmat.primitives.hashes import SM3, Hash  # noqa: PLC0415  (the oracle's own)

    def sm3(data: bytes) -> bytes:
        digest = Hash(SM3())
        digest.update(data)
        return digest.finalize()

    padded = key.ljust(64, b"\x00")
    inner = sm3(bytes(byte ^ 0x36 for byte in padded) + message)
    return sm3(bytes(byte ^ 0x5C for byte in padded) + inner)


@_BOTH
def test_a_data_key_survives_the_rotation_of_the_master_key(profile: Profile) -> None:
    before = Keyring(_ROOT, masters={1: _OLD}, profile=profile)
    during = Keyring(_ROOT, masters={2: _NEW, 1: _OLD}, profile=profile)
    after = Keyring(_ROOT, masters={2: _NEW}, profile=profile)
    key, old = before.new_key(place=_KEY_PLACE)
    sealed = key.seal(_PHONE, place=_PLACE)

    new = during.rewrap(old, place=_KEY_PLACE)
    assert (old.master_version, new.master_version) == (1, 2)
    for wrapped in (old, new):
        assert during.open_key(wrapped, place=_KEY_PLACE).open(sealed, place=_PLACE) == _PHONE
    assert after.open_key(new, place=_KEY_PLACE).open(sealed, place=_PLACE) == _PHONE


def test_a_master_key_that_is_gone_is_named_and_opens_nothing() -> None:
    _, old = Keyring(_ROOT, masters={1: _OLD}).new_key(place=_KEY_PLACE)
    after = Keyring(_ROOT, masters={2: _NEW})
    with pytest.raises(MasterKeyMissing, match="1"):
        after.open_key(old, place=_KEY_PLACE)
    with pytest.raises(Unreadable):
        after.open_key(Wrapped(old.sealed, 2), place=_KEY_PLACE)


def test_a_wrapped_key_cannot_be_given_to_another_member() -> None:
    keyring = Keyring(_ROOT)
    _, wrapped = keyring.new_key(place=_KEY_PLACE)
    with pytest.raises(Unreadable):
        keyring.open_key(wrapped, place="data_keys.wrapped:2")


def test_equal_values_are_found_only_in_their_own_column() -> None:
    keyring = Keyring(_ROOT)
    phone = keyring.blind_index("1", column="phone")
    assert phone == keyring.blind_index("1", column="phone")
    assert phone != keyring.blind_index("1", column="id_number")
    assert phone != Keyring(bytes(32)).blind_index("1", column="phone")


def test_an_index_says_its_version_and_is_found_under_both() -> None:
    before = Keyring(_ROOT, indexes=[_old_index()])
    during = Keyring(_ROOT, indexes=[_new_index(), _old_index()])
    old, new = before.blind_index("1", column="phone"), during.blind_index("1", column="phone")

    assert (old[0], new[0]) == (1, 2)
    assert old[1:] != new[1:]
    assert during.blind_indexes("1", column="phone") == [new, old]
    assert during.former_index("1", column="phone") == old
    assert before.former_index("1", column="phone") is None


def test_an_index_made_under_the_other_profile_is_found_again() -> None:
    before = Keyring(_ROOT, indexes=[_old_index()])
    during = Keyring(
        _ROOT, indexes=[_new_index(Profile.GUOMI), _old_index()], profile=Profile.GUOMI
    )
    assert before.blind_index("1", column="phone") in during.blind_indexes("1", column="phone")
    assert during.blind_index("1", column="phone") != Keyring(
        _ROOT, indexes=[_new_index()]
    ).blind_index("1", column="phone")


def test_the_first_key_listed_makes_what_is_new(tmp_path: Path) -> None:
    old, new = _OLD.hex(), _NEW.hex()
    keyring = load_keyring(
        Settings(
            data_dir=tmp_path,
            crypto_profile="guomi",
            master_keys=f"7:{new},3:{old}",  # type: ignore[arg-type]  # as from a variable
            index_keys=f"2:{new}, 1:{old}:international",  # type: ignore[arg-type]  # as above
        )
    )
    assert keyring.master_version == 7
    assert keyring.index_versions == (2, 1)
    assert keyring.former_index("1", column="phone") == Keyring(
        _ROOT, indexes=[_old_index()]
    ).blind_index("1", column="phone")
    _, wrapped = keyring.new_key(place=_KEY_PLACE)
    assert (wrapped.sealed[0], wrapped.master_version) == (2, 7)


def test_a_machine_makes_its_keys_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    key, wrapped = load_keyring(settings).new_key(place=_KEY_PLACE)
    again = load_keyring(settings).open_key(wrapped, place=_KEY_PLACE)
    assert again.open(key.seal(_PHONE, place=_PLACE), place=_PLACE) == _PHONE
    files = sorted((tmp_path / "keys").iterdir())
    assert [file.name for file in files] == ["index.key", "master.key", "root.key"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("master_keys", "no key"),
        ("master_keys", "00" * 32),
        ("master_keys", f"0:{'00' * 32}"),
        ("master_keys", f"256:{'00' * 32}"),
        ("master_keys", f"1:{'00' * 32},1:{'01' * 32}"),
        ("index_keys", f"1:{'00' * 32}:sm3"),
        ("index_keys", f"1:{'00' * 32},2:{'01' * 32},3:{'02' * 32}"),
        ("crypto_profile", "rot13"),
    ],
)
def test_keys_that_are_none_are_refused_and_not_repeated(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        Settings.model_validate({name: value})
    assert value not in str(refused.value)


@given(st.binary())
def test_url_safe_text_comes_back(raw: bytes) -> None:
    assert decode(encode(raw)) == raw
