"""Consents recorded: each event as it happened, what holds by now, and what a withdrawal takes."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import district_wide, named
from app.identity import Caller
from app.models.membership.consents import Consent, ConsentMethod, ConsentState, NoticeLanguage
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldField
from app.models.privacy.privacy_notices import ConsentPurpose
from app.problems import Invalid
from app.services.privacy import (
    bank_discards,
    correction_texts,
    data_keys,
    person_data,
    person_storage,
    privacy_notices,
)
from app.services.privacy.person_data import PersonData

NOT_BY_EMPLOYERS, WITHDRAWN_SINCE = "not_given_again_by_employers", "withdrawn_since"
BY_HERSELF = (
    "(c.method = 'app' and not exists (select from consents g where"
    " g.district_code = :district_code and g.member_id = c.member_id and g.purpose = c.purpose"
    " and g.state = 'given' and (g.recorded_at, g.id) > (c.recorded_at, c.id)))"
)
"""Whether a withdrawal `c` is one that the member made herself and that stands."""
_WITHDRAWN = text(
    "select c.purpose, max(c.acted_on) as acted_on, bool_or(" + BY_HERSELF + ") as by_herself"
    " from consents c where c.district_code = :district_code and c.member_id = :member_id"
    " and c.withdraws is not null group by c.purpose"
)
OF_NAMESAKES = (
    "from consents c join members m on m.district_code = :district_code and m.id = c.member_id"
    " where c.district_code = :district_code and c.withdraws is not null"
    f" and c.purpose in ('{ConsentPurpose.IDENTITY}', '{ConsentPurpose.CONTACT}')"
    " and m.status = 'active'"
)
"""Withdrawals `c` of active members `m`; of two of one name two ID numbers make two persons."""
_WITHDRAWN_BY_NAMESAKES = text(
    f"select c.purpose, max(c.acted_on) as acted_on {OF_NAMESAKES}"
    " and m.association_id = :association_id and m.name = :name"
    " and (m.id_number_index is null or not :has_number) group by c.purpose"
)
_STANDING = text(
    "select c.id, c.notice_number, c.language from consents c"
    " where c.district_code = :district_code and c.member_id = :member_id"
    " and c.purpose = :purpose and c.state = 'given'"
    " order by c.recorded_at desc, c.id desc limit 1"
)
LATER = (
    "greatest(cast({at} as timestamptz), (select max(l.recorded_at) + interval '1 microsecond'"
    " from consents l where l.district_code = :district_code and l.member_id = {member}))"
)
"""When an event of a locked member counts as recorded: after hers, though its request is older."""
_LATER = text(f"select {LATER.format(at=':at', member=':member_id')}")


def held_sql(member: str) -> str:
    """Write the list of what a member consents to by now, as a column of the statement."""
    cases = (
        f"case when {member}.{purpose}_consented_on is not null then '{purpose}' end"
        for purpose in ConsentPurpose
    )
    return f"array_remove(array[{', '.join(cases)}], null)"


def given_on(member: Member, purpose: ConsentPurpose) -> date | None:
    """Give since when a consent holds; None when it does not."""
    found: date | None = getattr(member, f"{purpose}_consented_on")
    return found


def held(member: Member) -> list[ConsentPurpose]:
    """Give what a member consents to by now."""
    return [purpose for purpose in ConsentPurpose if given_on(member, purpose) is not None]


def entered(
    on: date | None, named: Collection[ConsentPurpose] | None, data: PersonData
) -> list[ConsentPurpose]:
    """Give what a new member consents to; raises Invalid for what is given without it."""
    if on is None:
        if named:
            raise Invalid.at("/consented_on", "missing")
        purposes = []
    elif named is None:
        purposes = covering(data)
    else:
        purposes = list(dict.fromkeys(named))
    person_data.require_consent(data, purposes)
    return purposes


def covering(data: PersonData) -> list[ConsentPurpose]:
    """Give the consents without which ID number and phone are not stored."""
    values = {ConsentPurpose.IDENTITY: data.id_number, ConsentPurpose.CONTACT: data.phone}
    return [purpose for purpose, value in values.items() if value is not None]


@dataclass(frozen=True)
class Act:
    """How, when and by whom something is said of consents."""

    method: ConsentMethod
    on: date
    by: str
    at: datetime
    language: NoticeLanguage | None = None
    by_employer: bool = False
    pointer: str = "/given_on"
    """Which field of the request holds the day."""
    about: str = "/purpose"
    """Which one says that there is a consent."""


def on_paper(caller: Caller, on: date, now: datetime) -> Act:
    """Give what an office enters with a number that it enters, as signed on paper."""
    where = "/consented_on"
    by, is_employers = caller.subject, caller.employer_linked
    return Act(ConsentMethod.PAPER, on, by, now, None, is_employers, where, about=where)


def mark(member: Member, purposes: Iterable[ConsentPurpose], on: date) -> list[ConsentPurpose]:
    """Note in her row that she consents from a day on; gives what is new, to be recorded."""
    fresh = [purpose for purpose in purposes if given_on(member, purpose) != on]
    for purpose in fresh:
        setattr(member, f"{purpose}_consented_on", on)
        if purpose is ConsentPurpose.THANKS:
            member.thanks_withdrawn_on = None
    return fresh


async def record(
    session: AsyncSession, member: Member, purposes: Sequence[ConsentPurpose], act: Act
) -> list[Consent]:
    """Add the event of each consent that was marked to a member who is stored and shown.

    Raises Invalid for a consent that goes against its withdrawal.
    """
    if not purposes:
        return []
    # The audit tells her which consents an office entered, also with a number or a name.
    under_way = named(session.info.get("act"))
    said = (*under_way.fields, *(purpose.value for purpose in purposes))
    under_way.fields = tuple(dict.fromkeys(said))
    await refuse_withdrawn(session, member, purposes, act)
    numbers = await privacy_notices.numbers_on(
        session, district_code=member.district_code, on=act.on
    )
    act = await _in_turn(session, member, act)
    events = [
        _event(member, purpose, act, ConsentState.GIVEN, numbers.get(purpose))
        for purpose in purposes
    ]
    session.add_all(events)
    await session.flush()
    return events


async def refuse_withdrawn(
    session: AsyncSession, member: Member, purposes: Sequence[ConsentPurpose], act: Act
) -> None:
    """Raise Invalid where a consent that is new goes against what she took back.

    What an office enters is of a later day than the withdrawal, as a day does not say which came
    first. What she withdrew herself is given again by herself or on a form that she signed, and
    nothing that was ever withdrawn by the employer's side.
    """
    if not purposes:
        return
    if act.by_employer and act.method is not ConsentMethod.PAPER:
        raise Invalid.at("/method", "signed_form_needed")
    found = await session.execute(_WITHDRAWN, member.key)
    for withdrawn in (row for row in found if row.purpose in purposes):
        if act.by_employer:
            raise Invalid.at(act.about, NOT_BY_EMPLOYERS)
        if withdrawn.by_herself and act.method is ConsentMethod.OFFICER:
            raise Invalid.at("/method", "signed_form_needed")
        if act.method is not ConsentMethod.APP and withdrawn.acted_on >= act.on:
            raise Invalid.at(act.pointer, WITHDRAWN_SINCE)


async def refuse_of_namesakes(
    session: AsyncSession, member: Member, purposes: Sequence[ConsentPurpose], act: Act
) -> None:
    """Raise Invalid where a new member may be one who is there and took back what she gives.

    Enrolled a second time, what she took back would be stored again under her name.
    """
    if not purposes:
        return
    whose = member.model_dump(include={"district_code", "association_id", "name"})
    whose["has_number"] = ConsentPurpose.IDENTITY in purposes
    # Whoever enrols has the association in reach, but was shown nobody of it.
    async with district_wide(session):
        found = (await session.execute(_WITHDRAWN_BY_NAMESAKES, whose)).all()
    for withdrawn in (row for row in found if row.purpose in purposes):
        if act.by_employer:
            raise Invalid.at("/name", NOT_BY_EMPLOYERS)
        if withdrawn.acted_on >= act.on:
            raise Invalid.at(act.pointer, WITHDRAWN_SINCE)


async def _in_turn(session: AsyncSession, member: Member, act: Act) -> Act:
    """Have what a locked member says be recorded after all that was recorded of her.

    A request may begin before another one and have to wait for it.
    """
    at = await session.scalar(_LATER, member.key | {"at": act.at})
    return replace(act, at=cast("datetime", at))


def _event(
    member: Member,
    purpose: ConsentPurpose,
    act: Act,
    state: ConsentState,
    notice_number: int | None,
    **facts: Any,
) -> Consent:
    return Consent(
        district_code=member.district_code,
        member_id=member.id,
        purpose=purpose.value,
        id=clock.new_id(),
        state=state.value,
        notice_number=notice_number,
        language=facts.get("language", act.language),
        method=act.method.value,
        acted_on=act.on,
        recorded_at=act.at,
        recorded_by=act.by,
        withdraws=facts.get("withdraws"),
    )


async def withdraw(
    session: AsyncSession,
    keyring: Keyring,
    member: Member,
    purposes: Sequence[ConsentPurpose],
    act: Act,
) -> list[Consent]:
    """End consents that hold of a member who is locked, with all that they covered, district-wide.

    What was collected is gone from her row, and her key with the last of it. What she wrote in
    corrections outlasts the key.
    """
    events = []
    with session.no_autoflush:
        said = await _in_turn(session, member, act)
        for purpose in purposes:
            key = member.key | {"purpose": purpose.value}
            given = (await session.execute(_STANDING, key)).one()
            facts = {"language": given.language, "withdraws": given.id}
            number = given.notice_number
            events.append(_event(member, purpose, said, ConsentState.WITHDRAWN, number, **facts))
            setattr(member, f"{purpose}_consented_on", None)
        await _clear(session, keyring, member, purposes, act)
    session.add_all(events)
    await session.flush()
    await person_storage.forget_answers(session, member)
    await person_storage.drop_idle_key(session, keyring, member, now=act.at)
    return events


async def _clear(
    session: AsyncSession,
    keyring: Keyring,
    member: Member,
    purposes: Collection[ConsentPurpose],
    act: Act,
) -> None:
    if ConsentPurpose.IDENTITY in purposes:
        key = await data_keys.find_of(session, keyring, member)
        await person_storage.clear_id_number(session, keyring, key=key, member=member)
        await correction_texts.end_id_number(session, member, now=act.at)
    if ConsentPurpose.CONTACT in purposes:
        person_storage.clear_phone(member)
        # Of no change could anybody be told any more.
        await data_keys.give_up_waiting(session, member, *HeldField, now=act.at)
    if {ConsentPurpose.IDENTITY, ConsentPurpose.CONTACT} & set(purposes):
        await person_storage.forget_rejected(session, member)
    if ConsentPurpose.PAYMENT in purposes:
        person_storage.clear_account(member)
        await bank_discards.discard(session, **member.key, now=act.at)
        await data_keys.give_up_waiting(session, member, HeldField.PAYOUT_ACCOUNT, now=act.at)
    if ConsentPurpose.THANKS in purposes:
        member.thanks_withdrawn_on = act.on
