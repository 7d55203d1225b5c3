"""What the authorisation matrix is tried on: three places with a record of everything, and callers.

The places are a village, its town and their district. A caller of each role stands towards one
of them in each relation: it is her own, below hers, above hers, her neighbour's, in another
district, or she has nothing at all.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.models.disbursement.payout_runs import RunStatus
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.consents import Consent
from app.models.membership.members import Member
from app.models.organisation.associations import Association, AssociationStatus, Mode
from app.models.organisation.officers import Office
from app.models.privacy.privacy_notices import ConsentPurpose
from app.roles import Role
from tests.contract import records
from tests.contract.attempts import Attempt, Ids, attempts_on
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, SHISHAN, VILLAGE
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import known_id, make_payout
from tests.factories.disbursement.vouchers import make_vouchers
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import make_fund
from tests.factories.incentives.incentive_policies import make_policy
from tests.factories.lucky_draws.draws import enter_beacon, make_draw, make_tickets
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association
from tests.factories.organisation.facilities import make_facility
from tests.factories.organisation.officers import make_officer
from tests.factories.organisation.regulations import make_regulation

_HEALTH_DAY = datetime(2024, 2, 10, 1, tzinfo=UTC)
_OPERATION = text(
    "insert into operations (district_code, id, version, created_at, updated_at, kind, status,"
    " requested_by, arguments, done, attempts, cancel_requested) values (:district, :id,"
    " 1, :now, :now, 'import_members', 'queued', :subject, '{}', 0, 0, false)"
)
_SETTING = text(
    "insert into area_settings (district_code, area_code, key, effective_on, value, provenance,"
    " set_by, set_at) values (:district, :area, 'independent_min_staff', '2024-01-01', 1,"
    " 'assumed', 'o', :now)"
)
_ROW = text(
    "insert into import_rows (district_code, operation_id, row_no, outcome, notes)"
    " values (:district, :id, 1, 'created', '[]')"
)
_RETENTION = text(
    "insert into retention_runs (district_code, id, version, created_at, updated_at, position,"
    " counts, finished_at) values (:district, :id, 1, :now, :now, 0, '[]', :now)"
)


@dataclass
class Scene:
    """The places, by name, each with the ids of its records by what they are."""

    places: dict[str, Ids] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)


async def build(session: AsyncSession, keyring: Keyring) -> Scene:
    """Store the places and everybody's grants; the caller commits."""
    scene = Scene()
    held = [
        await make_round(session, 1),
        await make_round(session, 2, status="closed", closed_at=clock.now() - timedelta(days=400)),
    ]
    for number, (name, area) in enumerate(
        (("village", VILLAGE), ("town", SHISHAN), ("district", DISTRICT)), 1
    ):
        scene.places[name] = await _place(session, keyring, held, area=area, number=number)
    retention = {"district": DISTRICT, "id": clock.new_id(), "now": clock.now()}
    await session.execute(_RETENTION, retention)
    for ids in scene.places.values():
        ids["retention_run_id"] = str(retention["id"])
    scene.attempts = list(attempts_on(scene.places["village"]))
    for subject in {attempt.subject for attempt in scene.attempts if attempt.role is not None}:
        operation = await _operation(session, subject)
        for ids in scene.places.values():
            ids[f"operation_id of {subject}"] = operation
    return scene


async def store_grants(session: AsyncSession, scene: Scene) -> dict[Attempt, UUID]:
    """Grant each caller what she stands on; the caller commits."""
    grants = {}
    for attempt in scene.attempts:
        if attempt.role is None:
            continue
        grant = await make_grant(
            session,
            district_code=attempt.district_code,
            subject=attempt.subject,
            role=attempt.role.value,
            employer_linked=attempt.employer_linked,
            **({"areas": []} | attempt.reach),
        )
        grants[attempt] = grant.id
    return grants


async def _place(
    session: AsyncSession, keyring: Keyring, held: list[ExamRound], *, area: str, number: int
) -> Ids:
    facts = {"district": DISTRICT, "area": area, "now": clock.now()}
    await session.execute(_SETTING, facts)
    above = await make_association(session, Mode.VILLAGE, area_code=area)
    ours = await make_association(session, Mode.AFFILIATED, area_code=area, parent_id=above.id)
    below = await make_association(session, Mode.AFFILIATED, area_code=area, parent_id=ours.id)
    idle = await make_association(
        session, area_code=area, status=AssociationStatus.SUSPENDED.value, parent_id=None
    )
    member = await make_member_with_phone(session, keyring, ours, make_phone(number))
    fellow = await make_member(session, ours, name="另一会员")
    thanks = await _thanks(session, held, member, keyring, area=area)
    ids = {
        "code": area,
        "association_id": ours.id,
        "association_id above": above.id,
        "association_id below": below.id,
        "association_id idle": idle.id,
        "host_id": ours.host_id,
        "host_id free": (
            await make_association(session, area_code=area, status="dissolved")
        ).host_id,
        "officer_id": (await make_officer(session, ours, Office.PRESIDENT)).id,
        "facility_id": (await make_facility(session, ours)).id,
        "regulation_id": (
            await make_regulation(session, ours, adopted_on=None, published_on=None)
        ).id,
        "member_id": member.id,
        "member_id fellow": fellow.id,
        "round_id": held[0].id,
        "round_id closed": held[1].id,
        "phone": make_phone(number),
        **await _events(session, held[0], ours, member, fellow),
        **thanks,
        **await records.make_bank(session, keyring, held[0], member, thanks),
        **await records.make_gateway(session, keyring, held[0], member, thanks),
        "excuse_id": (await make_excuse(session, held[0], member_id=member.id)).id,
        "grant_id": (
            await make_grant(
                session,
                subject=f"staff of {area}",
                role=Role.EVENT_STAFF.value,
                area_code=area,
                areas=[],
            )
        ).id,
        "operation_id": await _operation(session, f"somebody of {area}"),
        "correction_id": (await make_correction(session, keyring, member)).id,
        **await records.make_months(session, ours),
        "fund_id other": (await make_fund(session, area_code=area, source="other")).id,
        "fund_id empty": (await make_fund(session, area_code=area, source="village")).id,
        "consent_id": await _consent(session, member),
        **await _draws(session, keyring, held, member, area=area, number=number),
        **await records.make_gifts(session, keyring, held[1], member, area=area),
    }
    return {name: str(value) for name, value in ids.items()}


async def _events(
    session: AsyncSession,
    held: ExamRound,
    association: Association,
    member: Member,
    fellow: Member,
) -> dict[str, Any]:
    """Store an event in each state, a health check, and a neighbour's event."""
    facts: dict[str, Any] = {"area_code": association.area_code, "association_id": association.id}
    soon = clock.now() + timedelta(days=7)
    running = await make_event(session, **facts)
    planned: dict[str, Any] = {"starts_at": soon, "ends_at": soon + timedelta(hours=2)}
    draft = await make_event(session, status="draft", **planned, **facts)
    published = await make_event(session, status="published", **planned, **facts)
    checks: list[ServiceEvent] = []
    for status in ("in_progress", "draft", "published"):
        day = {"starts_at": _HEALTH_DAY, "ends_at": _HEALTH_DAY + timedelta(hours=8)}
        checks.append(await make_event(session, held, status=status, **day, **facts))
    guard = await make_event(session, kind="health_guard", **facts)
    for event in (running, checks[0], guard):
        await make_attendance(session, event, member)
        await make_registration(session, event, member)
    await make_registration(session, published, member)
    voided = {"voided_at": clock.now(), "voided_by": "o", "void_reason": "误"}
    for event in (running,):
        await make_attendance(session, event, fellow, **voided)
    return {
        "event_id": running.id,
        "event_id draft": draft.id,
        "event_id published": published.id,
        "event_id health": checks[0].id,
        "event_id health draft": checks[1].id,
        "event_id health published": checks[2].id,
        "event_id health today": guard.id,
        "event_id neighbour": (await make_event(session, **facts)).id,
    }


async def _thanks(
    session: AsyncSession, held: list[ExamRound], member: Member, keyring: Keyring, *, area: str
) -> dict[str, Any]:
    """Store a policy, and a run of it in each state."""
    policy = await make_policy(session, area_code=area)
    rule = await session.scalar(
        text("select rule_id from incentive_rules where policy_id = :id"), {"id": policy.id}
    )
    ids: dict[str, Any] = {"policy_id": policy.id, "rule_id": rule}
    now = clock.now()
    for status in (
        RunStatus.DRAFT,
        RunStatus.CALCULATED,
        RunStatus.SUBMITTED,
        RunStatus.APPROVED,
        RunStatus.DISBURSING,
    ):
        # What grants nothing is not submitted.
        facts = {} if status is RunStatus.DRAFT else {"calculated_at": now, "payout_count": 1}
        run = await make_run(session, held[1], policy, status, **facts)
        ids[f"run_id {status}"] = run.id
    run = await make_run(session, held[1], policy)
    payout = await make_payout(session, run, member, rule)
    run.payout_count, run.amount_fen = 1, payout.amount_fen
    await session.flush()
    ids |= {"run_id": run.id, "payout_id": known_id(keyring, run.id, payout.line_no)}
    ids |= await records.make_cases(session, keyring, held[1], policy, member=member, rule=rule)
    return ids | await make_vouchers(session, keyring, run, member, area_code=area)


async def _draws(
    session: AsyncSession,
    keyring: Keyring,
    held: list[ExamRound],
    member: Member,
    *,
    area: str,
    number: int,
) -> dict[str, Any]:
    """Store a draw before each step, and one that the member has won."""
    draft = await make_draw(session, held[1], DrawStatus.DRAFT, area_code=area)
    over = clock.now() - timedelta(minutes=1)
    opened = await make_draw(session, held[0], keyring=keyring, area_code=area, closes_at=over)
    tickets = [(ticket, member) for ticket in make_tickets(2, start=10 * number)]
    closed = await make_draw(
        session, held[0], DrawStatus.CLOSED, tickets=tickets[:1], keyring=keyring, area_code=area
    )
    enter_beacon(closed)
    drawn = await make_draw(session, held[0], DrawStatus.DRAWN, tickets=tickets[1:], area_code=area)
    await session.flush()
    return {
        "draw_id": opened.id,
        "draw_id draft": draft.id,
        "draw_id closed": closed.id,
        "draw_id drawn": drawn.id,
        "ticket": tickets[1][0],
    }


async def _consent(session: AsyncSession, member: Member) -> UUID:
    """Give the member's consent to one purpose; it is stored with her when she has a phone."""
    contact = col(Consent.purpose) == ConsentPurpose.CONTACT
    found = await session.scalars(
        select(Consent).where(col(Consent.member_id) == member.id, contact)
    )
    return found.one().id


async def _operation(session: AsyncSession, subject: str) -> str:
    """Store an import that somebody asked for, with a row of it."""
    facts = {"district": DISTRICT, "id": clock.new_id(), "now": clock.now(), "subject": subject}
    await session.execute(_OPERATION, facts)
    await session.execute(_ROW, facts)
    return str(facts["id"])
