"""The demo's people: invented members with their ties, streamed in the order of their ids."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, islice
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.ciphers import Cipher
from app.crypto import Keyring
from app.identifiers import resident_check_digit
from app.identity import DEMO
from app.models.membership.consents import Consent, ConsentMethod, ConsentState, NoticeLanguage
from app.models.membership.members import Member, Membership, MemberStatus, PersonKey
from app.models.organisation.associations import Mode
from app.models.privacy.data_keys import DataKey
from app.models.privacy.privacy_notices import ConsentPurpose
from app.services.demo_district.demo_facts import (
    CLOSED,
    CURRENT,
    DISTRICT,
    Kind,
    Progress,
    at,
    copy,
    demo_id,
    generator,
    person_name,
    record,
)
from app.services.demo_district.demo_places import Place
from app.services.privacy import data_keys, person_data

_CHUNK = 10_000
_CONSENTED, _WITH_ID_NUMBER, _WITH_PHONE = 0.97, 0.8, 0.95
_LATE, _MOVED, _LEFT = 0.15, 0.02, 0.015
_NUMBERED = {Mode.INDEPENDENT, Mode.PARK}


@dataclass(frozen=True)
class Person:
    """The rows of one member."""

    member: dict[str, Any]
    ties: list[dict[str, Any]]
    data_key: dict[str, Any] | None
    key: dict[str, Any] | None
    consents: list[dict[str, Any]]


def shares(places: Sequence[Place], total: int) -> list[int]:
    """Divide the members among the places by weight; largest remainders take the rest."""
    weights = sum(place.weight for place in places)
    exact = [total * place.weight / weights for place in places]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(places)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


async def store(
    session: AsyncSession,
    keyring: Keyring,
    places: Sequence[Place],
    *,
    total: int,
    progress: Progress,
) -> None:
    """Store the members chunk by chunk; only one chunk is ever held in memory."""
    stream = people(keyring, places, total=total)
    done = 0
    while chunk := list(islice(stream, _CHUNK)):
        await copy(session, Member, [person.member for person in chunk])
        await copy(session, Membership, [tie for person in chunk for tie in person.ties])
        await copy(session, DataKey, [person.data_key for person in chunk if person.data_key])
        await copy(session, PersonKey, [person.key for person in chunk if person.key])
        await copy(session, Consent, [each for person in chunk for each in person.consents])
        done += len(chunk)
        progress("members", done, total)


def people(keyring: Keyring, places: Sequence[Place], *, total: int) -> Iterator[Person]:
    """Invent the members, association by association."""
    random = generator("people")
    elsewhere = list(accumulate(place.weight for place in places))
    number = 0
    for place, how_many in zip(places, shares(places, total), strict=True):
        for _ in range(how_many):
            number += 1
            joined_on = _joined_on(random)
            ties = _ties(random, place, places, elsewhere, joined_on)
            yield _person(random, keyring, number, ties)


def _joined_on(random: Random) -> date:
    if random.random() < _LATE:
        return _between(random, CLOSED[0].starts_on, CURRENT.starts_on)
    return _between(random, date(2019, 4, 1), CLOSED[0].starts_on)


def _between(random: Random, first: date, last: date) -> date:
    return first + timedelta(days=random.randrange((last - first).days))


@dataclass(frozen=True)
class _Tie:
    """A time in one association."""

    place: Place
    joined_on: date
    left_on: date | None


def _ties(
    random: Random,
    home: Place,
    places: Sequence[Place],
    elsewhere: Sequence[int],
    joined_on: date,
) -> list[_Tie]:
    """Invent where she was: one place, two, or none now; moves fall on a quarter's first day."""
    luck = random.random()
    if luck < _MOVED:
        quarters = [each.starts_on for each in CLOSED[1:] if each.starts_on > joined_on]
        other = places[bisect(elsewhere, random.randrange(elsewhere[-1]))]
        if quarters and other is not home:
            moved_on = random.choice(quarters)
            return [_Tie(home, joined_on, moved_on), _Tie(other, moved_on, None)]
    if luck > 1 - _LEFT and joined_on < CLOSED[-2].starts_on:
        return [_Tie(home, joined_on, _between(random, CLOSED[-2].starts_on, CLOSED[-1].ends_on))]
    return [_Tie(home, joined_on, None)]


def _person(random: Random, keyring: Keyring, number: int, ties: Sequence[_Tie]) -> Person:
    last = ties[-1]
    since = at(ties[0].joined_on, 10)
    member_id = demo_id(Kind.MEMBER, number)
    consented = random.random() < _CONSENTED
    id_number = (
        _id_number(random, number) if consented and random.random() < _WITH_ID_NUMBER else None
    )
    phone = _phone(number) if consented and random.random() < _WITH_PHONE else None
    key, data_key = _data_key(keyring, member_id)
    member = record(
        Kind.MEMBER,
        number,
        since=since,
        association_id=demo_id(Kind.ASSOCIATION, last.place.number),
        area_code=last.place.area_code,
        status=(MemberStatus.LEFT if last.left_on else MemberStatus.ACTIVE).value,
        name=person_name(random),
        employee_no=f"{number:07d}" if last.place.mode in _NUMBERED else None,
        first_joined_on=ties[0].joined_on,
        **_consented(ties[0].joined_on, identity=id_number, contact=phone, thanks=consented),
        id_number_sealed=id_number and person_data.seal_id_number(key, member_id, id_number),
        id_number_index=id_number and person_data.id_number_index(keyring, id_number),
        phone_sealed=phone and person_data.seal_phone(key, member_id, phone),
        phone_index=phone and person_data.phone_index(keyring, phone),
        erased_at=None,
    )
    person_key = id_number and {
        "identity_hash": person_data.identity_hash(keyring, id_number),
        "district_code": DISTRICT,
        "member_id": member_id,
    }
    return Person(
        member,
        [_membership(member_id, tie, ties) for tie in ties],
        data_key if id_number or phone else None,
        person_key or None,
        _consents(member, number),
    )


def _consented(on: date, **given: object) -> dict[str, date | None]:
    """Give since when she consents to what; nobody of the demo has a payout account."""
    dates = {f"{each}_consented_on": on if given.get(each) else None for each in ConsentPurpose}
    nothing = ("thanks_withdrawn_on", "payout_account_sealed", "payout_account_index")
    return dates | dict.fromkeys((*nothing, "phone_unconfirmed_since"))


def _consents(member: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Give the events by which she came to consent, each on the day that her row says."""
    return [
        {
            "district_code": DISTRICT,
            "member_id": member["id"],
            "purpose": purpose.value,
            "id": demo_id(Kind.CONSENT, number * len(ConsentPurpose) + place),
            "state": ConsentState.GIVEN.value,
            "notice_number": 1,
            "language": NoticeLanguage.ZH.value,
            "method": ConsentMethod.PAPER.value,
            "acted_on": member[f"{purpose}_consented_on"],
            "recorded_at": member["created_at"],
            "recorded_by": DEMO,
            "withdraws": None,
        }
        for place, purpose in enumerate(ConsentPurpose)
        if member[f"{purpose}_consented_on"] is not None
    ]


def _data_key(keyring: Keyring, member_id: UUID) -> tuple[Cipher, dict[str, Any]]:
    key, wrapped = data_keys.make(keyring, member_id)
    return key, {
        "district_code": DISTRICT,
        "member_id": member_id,
        "wrapped": wrapped.sealed,
        "master_version": wrapped.master_version,
    }


def _id_number(random: Random, number: int) -> str:
    """Give an ID number with a valid check digit, of a region that there is not (99)."""
    born = _between(random, date(1977, 1, 1), date(2008, 1, 1))
    first17 = f"99{number // 1000:04d}{born:%Y%m%d}{number % 1000:03d}"
    return first17 + resident_check_digit(first17)


def _phone(number: int) -> str:
    """Give a number of satellite phones, which pass every check and ring in no pocket."""
    return f"+861740{number % 6_000_000:07d}"


def _membership(member_id: UUID, tie: _Tie, ties: Sequence[_Tie]) -> dict[str, Any]:
    return {
        "district_code": DISTRICT,
        "member_id": member_id,
        "joined_on": tie.joined_on,
        "association_id": demo_id(Kind.ASSOCIATION, tie.place.number),
        "left_on": tie.left_on,
        "reason": None
        if tie.left_on is None
        else "换了工作"
        if tie is not ties[-1]
        else "离开本地",
        "recorded_at": at(tie.joined_on, 9),
        "left_recorded_at": None if tie.left_on is None else at(tie.left_on, 9),
        "was_left": None,
    }
