"""What the authorisation matrix is tried on: three places with a record of everything, and callers.

The places are a village, its town and their district. A caller of each role stands towards one
of them in each relation: it is her own, below hers, above hers, her neighbour's, in another
district, or she has nothing at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.identity import Role
from app.models.associations import Association, AssociationStatus, Mode
from app.models.consents import Consent
from app.models.exam_rounds import ExamRound
from app.models.members import Member
from app.models.officers import Office
from app.models.payout_runs import RunStatus
from app.models.payouts import payout_id
from app.models.privacy_notices import ConsentPurpose
from app.models.service_events import ServiceEvent
from tests.factories.associations import make_association
from tests.factories.attendances import make_attendance
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE
from tests.factories.corrections import make_correction
from tests.factories.exam_rounds import make_round
from tests.factories.excuses import make_excuse
from tests.factories.facilities import make_facility
from tests.factories.funds import make_fund
from tests.factories.grants import make_grant
from tests.factories.incentive_policies import make_policy
from tests.factories.logins import make_member_with_phone
from tests.factories.members import make_member, make_phone
from tests.factories.officers import make_officer
from tests.factories.payout_runs import make_run
from tests.factories.payouts import make_payout
from tests.factories.registrations import make_registration
from tests.factories.regulations import make_regulation
from tests.factories.service_events import make_event

ELSEWHERE = "440606000000"
_NEXT_VILLAGE = "440605124202"
_FAR_VILLAGE, _FAR_TOWN = "440606101201", "440606101000"
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
Ids = dict[str, str]


@dataclass(frozen=True)
class Attempt:
    """Who calls: the column of the table, the relation, and her grant; None for nobody."""

    column: str
    relation: str
    place: str
    role: Role | None = None
    reach: dict[str, Any] = field(default_factory=dict, hash=False)
    district_code: str = DISTRICT
    employer_linked: bool = False

    def __str__(self) -> str:
        """Say who she is, for a message."""
        linked = ", employer-linked" if self.employer_linked else ""
        return f"{self.column}/{self.relation}{linked}"

    @property
    def subject(self) -> str:
        """Give whom her token names: one subject a role, who acts under many grants."""
        return f"{self.column}-of-the-matrix"


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
    scene.attempts = list(_attempts(scene.places["village"]))
    for column in {attempt.column for attempt in scene.attempts if attempt.role is not None}:
        subject = next(a.subject for a in scene.attempts if a.column == column)
        operation = await _operation(session, subject)
        for ids in scene.places.values():
            ids[f"operation_id of {column}"] = operation
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
        **await _thanks(session, held, member, area=area),
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
        "fund_id": (await make_fund(session, 1000, area_code=area)).id,
        "fund_id other": (await make_fund(session, area_code=area, source="other")).id,
        "fund_id empty": (await make_fund(session, area_code=area, source="village")).id,
        "consent_id": await _consent(session, member),
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
    for event in (running, checks[0]):
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
        "event_id neighbour": (await make_event(session, **facts)).id,
    }


async def _thanks(
    session: AsyncSession, held: list[ExamRound], member: Member, *, area: str
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
        days = {"calculated_at": now} if status is not RunStatus.DRAFT else {}
        run = await make_run(session, held[1], policy, status, **days)
        ids[f"run_id {status}"] = run.id
    run = await make_run(session, held[1], policy)
    payout = await make_payout(session, run, member, rule)
    run.payout_count, run.amount_fen = 1, payout.amount_fen
    await session.flush()
    ids |= {"run_id": run.id, "payout_id": payout_id(run.id, payout.line_no)}
    return ids


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


def _attempts(village: Ids) -> Iterator[Attempt]:
    yield Attempt("public", "nobody", "village")
    yield Attempt("public", "expired", "village")
    yield Attempt("public", "forged", "village")
    yield Attempt("public", "unsigned", "village")
    yield Attempt("public", "another's audience", "village")
    yield from _members(village)
    yield from _of_records(village)
    for column, role, places in _OFFICES:
        for relation, (place, areas) in places.items():
            yield from _linked(column, relation, place, role, areas=areas)
    yield Attempt("operations", "own", "town", Role.OPERATIONS, {"areas": [SHISHAN]})
    yield Attempt("operations", "none", "town", Role.OPERATIONS)


def _members(village: Ids) -> Iterator[Attempt]:
    self, fellow = UUID(village["member_id"]), UUID(village["member_id fellow"])
    for relation, member_id, district in (
        ("self", self, DISTRICT),
        ("fellow", fellow, DISTRICT),
        ("far", clock.new_id(), ELSEWHERE),
    ):
        reach = {"member_id": member_id}
        yield Attempt("member", relation, "village", Role.MEMBER, reach, district)


def _of_records(village: Ids) -> Iterator[Attempt]:
    """Give those whose reach is events or associations."""
    events = [UUID(value) for name, value in village.items() if name.startswith("event_id")]
    neighbour = UUID(village["event_id neighbour"])
    for relation, chosen in (
        ("own", [event for event in events if event != neighbour]),
        ("sibling", [neighbour]),
        ("far", [clock.new_id()]),
        ("none", []),
    ):
        yield from _linked("staff", relation, "village", Role.EVENT_STAFF, event_ids=chosen)
    for relation, name in (
        ("own", "association_id"),
        ("below", "association_id above"),
        ("above", "association_id below"),
        ("sibling", "association_id idle"),
        ("far", ""),
        ("none", None),
    ):
        own = [] if name is None else [UUID(village[name]) if name else clock.new_id()]
        yield from _linked("secretary", relation, "village", Role.SECRETARY, association_ids=own)


def _linked(column: str, relation: str, place: str, role: Role, **reach: Any) -> Iterator[Attempt]:
    district = ELSEWHERE if relation == "far" else DISTRICT
    for employer_linked in (False, True):
        yield Attempt(column, relation, place, role, reach, district, employer_linked)


_TOWN = {
    "own": ("town", [SHISHAN]),
    "below": ("village", [SHISHAN]),
    "above": ("district", [SHISHAN]),
    "sibling": ("town", [GUICHENG]),
    "far": ("town", [_FAR_TOWN]),
    "none": ("town", []),
}
_AUDITED = _TOWN | {"whole": ("town", [DISTRICT])}
_WITHOUT_LEVELS = {name: _TOWN[name] for name in ("own", "sibling", "far", "none")}
_OFFICES: tuple[tuple[str, Role, dict[str, tuple[str, list[str]]]], ...] = (
    ("guide", Role.GUIDE, _WITHOUT_LEVELS),
    (
        "village",
        Role.TOWN_OFFICER,
        {
            "own": ("village", [VILLAGE]),
            "above": ("town", [VILLAGE]),
            "sibling": ("village", [_NEXT_VILLAGE]),
            "far": ("village", [_FAR_VILLAGE]),
            "none": ("village", []),
        },
    ),
    ("town", Role.TOWN_OFFICER, _TOWN),
    (
        "district",
        Role.DISTRICT_OFFICER,
        {
            "own": ("district", [DISTRICT]),
            "below": ("village", [DISTRICT]),
            "far": ("district", [ELSEWHERE]),
            "none": ("district", []),
        },
    ),
    ("clerk", Role.FINANCE_CLERK, _TOWN),
    ("approver", Role.FINANCE_APPROVER, _TOWN),
    ("auditor", Role.AUDITOR, _AUDITED),
    ("platform", Role.DATA_PLATFORM, _WITHOUT_LEVELS),
)
