"""Members' login: a code to the phone, the same answer for every phone, a token for the code."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text

from app import crypto, identifiers
from app.crypto import Keyring
from app.database import Door, Statements, named, note
from app.identity import PHONE_LOGIN
from app.member_issuer import MemberIssuer
from app.models.access.grants import GrantProvide
from app.models.membership.logins import (
    AccessToken,
    LoginChoice,
    LoginChoose,
    LoginCreate,
    LoginOutcome,
    LoginRead,
    LoginVerify,
)
from app.models.privacy.phone_codes import CodePurpose
from app.problems import Invalid, Problem
from app.roles import Role
from app.services.access import grant_history, grants
from app.services.organisation import areas
from app.services.privacy import person_data, phone_codes
from app.services.privacy.phone_codes import (
    OF_ADDRESS,
    OF_PHONE,
    CodeRefused,
    CodesPaused,
    Count,
    TooManyCodes,
    TooManyTries,
)
from app.settings import Settings
from app.sms import Message
from app.tokens import OF_MEMBERS, subject_of
from app.wording import Language, say

_ON_FILE = (
    "exists (select from members"
    " where district_code = :district_code and phone_index = any(:phone_indexes){})"
)
# Nobody is let in by a phone for which only the employer's side vouches; it is told what to do.
_KNOWN = text(
    f"select {_ON_FILE.format(' and phone_unconfirmed_since is null')} as is_known,"
    f" {_ON_FILE.format('')} as is_on_file"
)
_PEOPLE = (
    "select m.id, m.name, m.first_joined_on, a.name as association_name from members m"
    " join associations a on a.district_code = :district_code and a.id = m.association_id"
    " where m.district_code = :district_code and m.phone_index = any(:phone_indexes)"
    " and m.phone_unconfirmed_since is null order by m.id limit 50"
)
# Whose a phone is, and whose the phone is that a code was for: what a refusal is noted with.
_OF_PHONE = (
    "select id from members where district_code = :district_code"
    " and phone_index = any(:phone_indexes) order by id limit 50"
)
_OF_CODE = (
    "select m.id from phone_codes c join members m on m.district_code = :district_code"
    " and m.phone_index in (c.phone_index, c.former_index)"
    " where c.district_code = :district_code and c.id = :id"
    " and c.purpose = 'login' order by m.id limit 50"
)
# A ticket is good once, for one of the members whose phone it still is.
_CHOOSE = (
    "update phone_codes set chosen_at = :now where district_code = :district_code and id = :id"
    " and used_at is not null and chosen_at is null and expires_at > :now"
    " and exists (select from members m where m.district_code = :district_code"
    " and m.id = :member_id and m.phone_index in"
    " (phone_codes.phone_index, phone_codes.former_index)"
    " and m.phone_unconfirmed_since is null) returning phone_index, former_index"
)
# Of two logins at once the second sees the grant of the first; and meanwhile nobody is erased, and
# no phone is taken away.
_HOLD = text(
    "select id from members where district_code = :district_code and id = :member_id"
    " and erased_at is null and phone_index = any(:phone_indexes)"
    " and phone_unconfirmed_since is null for update"
)
_WAS_GRANTED = text(
    "select exists (select from grants where district_code = :district_code"
    " and subject = :subject and member_id = :member_id)"
)
# Of the one member whose code was right, or whom its ticket chooses; of several none is chosen yet.
_HER_GRANTS = (
    "exists (select from grants g where g.district_code = :district_code and g.member_id = m.id"
    f" and g.subject = '{OF_MEMBERS}' || m.id{{}})"
)
_IN_FORCE = " and g.revoked_at is null and (g.ends_at is null or g.ends_at > :now)"
_TAKEN_BACK = (
    f"select count(*) = 1 and bool_and({_HER_GRANTS.format('')}"
    f" and not {_HER_GRANTS.format(_IN_FORCE)})"
    " from phone_codes c join members m on m.district_code = :district_code"
    " and m.phone_index in (c.phone_index, c.former_index) and m.phone_unconfirmed_since is null"
    " where c.district_code = :district_code and c.id = :id and c.purpose = 'login'"
    " and c.used_at is not null and c.chosen_at is null and c.expires_at > :now"
    " and m.id = coalesce(cast(:member_id as uuid), m.id)"
)
_log = structlog.get_logger()


class LoginTakenBack(Problem):
    """An office took back that the member logs in; said to nobody but who has the right code."""

    code, status = "login_taken_back", 403


async def ask(
    door: Door,
    keyring: Keyring,
    settings: Settings,
    *,
    body: LoginCreate,
    address: str,
    language: Language,
    now: datetime,
) -> tuple[LoginRead, Message | None]:
    """Begin a login; the message is for the phone, or none where it is nobody's.

    A phone that no office has confirmed is told so instead of a code. Each way runs the same
    statements. Raises TooManyCodes or CodesPaused.
    """
    phone = person_data.normal_phone(body.phone)
    district_code = await district_of(door, body.district_code)
    hashes = phone_codes.hashes_of(keyring, phone)
    params = {"district_code": district_code, "phone_indexes": hashes.all}
    async with _noting(door, _OF_PHONE, params, now), door.transaction(district_code) as session:
        is_known, is_on_file = (await session.execute(_KNOWN, params)).one()
        issued = await phone_codes.issue(
            session,
            keyring,
            district_code=district_code,
            purpose=CodePurpose.LOGIN,
            phone=hashes,
            counts=[
                Count(OF_ADDRESS, phone_codes.address_key(keyring, address)),
                Count(OF_PHONE, hashes.index),
                Count(phone_codes.sent_a_day(settings.sms_daily_limit), units=int(is_on_file)),
            ],
            now=now,
        )
        note(session, [])
    words = _words(issued.code, settings, language, is_known=is_known)
    message = Message(phone, words, str(issued.id))
    answer = LoginRead(id=issued.id, expires_at=issued.expires_at, resend_at=issued.resend_at)
    return answer, message if is_on_file else None


def _words(digits: str, settings: Settings, language: Language, *, is_known: bool) -> str:
    facts = {"digits": digits, "signature": settings.sms_signature}
    code = say(language, "messages", "login_code", **facts)
    unconfirmed = say("zh", "messages", "phone_unconfirmed", **facts)
    return code if is_known else unconfirmed


@asynccontextmanager
async def _noting(
    door: Door, whose: str, params: Mapping[str, Any], now: datetime
) -> AsyncIterator[None]:
    """Tell the audit of who was refused at the door, with whom the phone belongs to, if anybody.

    The same statements run for a phone of nobody.
    """
    try:
        yield
    except (CodeRefused, CodesPaused, LoginTakenBack, TooManyCodes, TooManyTries) as refusal:
        district_code = params["district_code"]
        statements = door.statements(district_code)
        if await phone_codes.is_to_be_noted(
            statements, refusal, district_code=district_code, now=now
        ):
            named(door.act).refusal = refusal.code
            await statements.fetch(whose, params, about="id")
        raise


async def district_of(door: Door, wanted: str | None) -> str:
    """Give the district that was named, or the only one; raises Invalid."""
    found = await areas.list_districts(door.looking, code=wanted, most=2)
    if len(found) == 1:
        return found[0]
    raise Invalid.at("/district_code", "missing" if wanted is None else "unknown_reference")


async def verify(
    door: Door,
    keyring: Keyring,
    settings: Settings,
    *,
    login_id: UUID,
    body: LoginVerify,
    address: str,
    now: datetime,
) -> LoginOutcome:
    """Give a token for the right code, or whom to choose from.

    Raises CodeRefused, TooManyTries, CodesPaused or LoginTakenBack.
    """
    district_code = await district_of(door, body.district_code)
    of_code = {"district_code": district_code, "id": login_id}
    async with _noting(door, _OF_CODE, of_code, now):
        return await _verify(
            door,
            keyring,
            settings,
            district_code=district_code,
            login_id=login_id,
            code=body.code,
            address=address,
            now=now,
        )


async def _verify(
    door: Door,
    keyring: Keyring,
    settings: Settings,
    *,
    district_code: str,
    login_id: UUID,
    code: str,
    address: str,
    now: datetime,
) -> LoginOutcome:
    statements = door.statements(district_code)
    hashes = await phone_codes.redeem(
        statements,
        keyring,
        district_code=district_code,
        code_id=login_id,
        code=code,
        purpose=CodePurpose.LOGIN,
        tried_by=phone_codes.network_key(keyring, address),
        most_wrong=settings.wrong_codes_hourly_limit,
        now=now,
    )
    params = {"district_code": district_code, "id": login_id, "now": now}
    await _require_grant(statements, params | {"member_id": None})
    params = {"district_code": district_code, "phone_indexes": hashes.all}
    people = await statements.fetch(_PEOPLE, params, about="id")
    if not people:
        raise CodeRefused
    if len(people) == 1:
        issuer = MemberIssuer(settings, keyring)
        token = await _admit(door, issuer, {**params, "member_id": people[0]["id"]}, now)
        return LoginOutcome(token=token, ticket=None, choices=[])
    ticket = _ticket(keyring, district_code, login_id)
    return LoginOutcome(token=None, ticket=ticket, choices=[_choice(row) for row in people])


async def _require_grant(statements: Statements, params: Mapping[str, Any]) -> None:
    """Raise LoginTakenBack where she would get a token that is good for nothing."""
    if await statements.fetch_value(_TAKEN_BACK, params):
        raise LoginTakenBack


def _choice(row: Mapping[str, Any]) -> LoginChoice:
    return LoginChoice(
        member_id=row["id"],
        name_masked=identifiers.mask_name(row["name"]),
        association_name=row["association_name"],
        first_joined_on=row["first_joined_on"],
    )


async def _admit(
    door: Door, issuer: MemberIssuer, whom: Mapping[str, Any], now: datetime
) -> AccessToken:
    """Give a member her token, and at her first login the grant to be herself.

    Later logins give none: a grant that was taken back stays so until an office gives another.
    """
    district_code, member_id = whom["district_code"], whom["member_id"]
    subject = subject_of(member_id)
    params = {**whom, "subject": subject}
    async with door.transaction(district_code) as session:
        if await session.scalar(_HOLD, params) is None:
            raise CodeRefused
        await grant_history.hold(session, district_code=district_code, subject=subject)
        if not await session.scalar(_WAS_GRANTED, params):
            body = GrantProvide(subject=subject, role=Role.MEMBER, member_id=member_id)
            granted = await grants.provide(
                session, district_code=district_code, body=body, granted_by=PHONE_LOGIN, now=now
            )
            act = replace(
                named(door.act),
                name="provide_grant",
                object_kind="grants",
                object_ids=(str(granted),),
            )
            note(session, [member_id], act=act)
    _log.info("logged_in", way="phone_code")
    return AccessToken(
        access_token=issuer.token(member_id=member_id, now=now),
        token_type="Bearer",  # noqa: S106  (the scheme of RFC 6750, not a secret)
        expires_in=int(issuer.lifetime.total_seconds()),
    )


def _ticket(keyring: Keyring, district_code: str, login_id: UUID) -> str:
    message = f"{district_code}/{login_id}".encode()
    return crypto.encode(keyring.sign(message, purpose="login-ticket"))


async def choose(
    door: Door,
    keyring: Keyring,
    settings: Settings,
    *,
    login_id: UUID,
    body: LoginChoose,
    now: datetime,
) -> AccessToken:
    """Give the token of one of several members on a phone; raises CodeRefused or LoginTakenBack."""
    district_code = await district_of(door, body.district_code)
    ticket = _ticket(keyring, district_code, login_id)
    params = {"district_code": district_code, "id": login_id}
    async with _noting(door, _OF_CODE, params, now):
        if not crypto.same(ticket.encode(), body.ticket.encode()):
            raise CodeRefused
        choice = params | {"member_id": body.member_id, "now": now}
        statements = door.statements(district_code)
        await _require_grant(statements, choice)
        chosen = await statements.fetch_row(_CHOOSE, choice, about=[body.member_id])
        if chosen is None:
            raise CodeRefused
        issuer = MemberIssuer(settings, keyring)
        phones = [chosen[name] for name in ("phone_index", "former_index") if chosen[name]]
        whom = {"district_code": district_code, "member_id": body.member_id}
        return await _admit(door, issuer, whom | {"phone_indexes": phones}, now)
