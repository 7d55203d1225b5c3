"""Roles, and the rights that each has: the one table of who may do what."""

from enum import StrEnum


class Role(StrEnum):
    """The offices that people and machines hold towards the service."""

    MEMBER = "member"
    EVENT_STAFF = "event_staff"
    SECRETARY = "association_secretary"
    GUIDE = "guide"
    TOWN_OFFICER = "town_officer"
    DISTRICT_OFFICER = "district_officer"
    FINANCE_CLERK = "finance_clerk"
    FINANCE_APPROVER = "finance_approver"
    AUDITOR = "auditor"
    DATA_PLATFORM = "data_platform"
    OPERATIONS = "operations"


class Right(StrEnum):
    """What may be done, as `resource:action`."""

    READ_AREAS = "areas:read"
    SET_AREAS = "areas:write"
    READ_ASSOCIATIONS = "associations:read"
    WRITE_ASSOCIATIONS = "associations:write"
    GOVERN_ASSOCIATIONS = "associations:govern"
    READ_MEMBERS = "members:read"
    WRITE_MEMBERS = "members:write"
    REVEAL_MEMBERS = "members:reveal"
    ERASE_MEMBERS = "members:erase"
    EXPORT_MEMBERS = "members:export"
    READ_EVENTS = "events:read"
    WRITE_EVENTS = "events:write"
    READ_ROUNDS = "rounds:read"
    WRITE_ROUNDS = "rounds:write"
    REGISTER = "registrations:write"
    READ_REGISTRATIONS = "registrations:read"
    READ_ATTENDANCES = "attendances:read"
    CHECK_IN = "attendances:write"
    CHECK_IN_SELF = "attendances:self"
    VOID_ATTENDANCES = "attendances:void"
    READ_POLICIES = "policies:read"
    WRITE_POLICIES = "policies:write"
    READ_ELIGIBILITY = "eligibility:read"
    READ_PAYOUTS = "payouts:read"
    PREPARE_PAYOUTS = "payouts:prepare"
    SUBMIT_PAYOUTS = "payouts:submit"
    APPROVE_PAYOUTS = "payouts:approve"
    DISBURSE_PAYOUTS = "payouts:disburse"
    ANSWER_DISPUTES = "disputes:answer"
    READ_FUNDS = "funds:read"
    WRITE_FUNDS = "funds:write"
    READ_DRAWS = "draws:read"
    WRITE_DRAWS = "draws:write"
    CONFIRM_DRAWS = "draws:confirm"
    READ_STATIONS = "stations:read"
    WRITE_STATIONS = "stations:write"
    REDEEM_VOUCHERS = "vouchers:redeem"
    READ_GIFTS = "gifts:read"
    WRITE_GIFTS = "gifts:write"
    HAND_OUT_GIFTS = "gifts:hand_out"
    MOVE_STOCK = "stock:write"
    CONFIRM_STOCK = "stock:confirm"
    READ_FORECASTS = "forecasts:read"
    CLOSE_MONTHS = "months:close"
    READ_OPERATIONS = "operations:read"
    READ_GRANTS = "grants:read"
    WRITE_GRANTS = "grants:write"
    READ_CORRECTIONS = "corrections:read"
    ANSWER_CORRECTIONS = "corrections:answer"
    READ_RETENTION = "retention:read"
    READ_NOTICES = "notices:read"
    PUBLISH_NOTICES = "notices:write"
    READ_OWN = "me:read"
    WRITE_OWN = "me:write"
    READ_AUDIT = "audit:read"
    READ_SIGHTINGS = "sightings:read"
    READ_FLAGS = "flags:read"
    COMPUTE_FLAGS = "flags:compute"


_READ_PUBLIC = {
    Right.READ_AREAS,
    Right.READ_ASSOCIATIONS,
    Right.READ_EVENTS,
    Right.READ_ROUNDS,
    Right.READ_NOTICES,
    Right.READ_DRAWS,
    Right.READ_STATIONS,
}
_READ_ALL = _READ_PUBLIC | {
    Right.READ_MEMBERS,
    Right.READ_REGISTRATIONS,
    Right.READ_ATTENDANCES,
    Right.READ_POLICIES,
    Right.READ_ELIGIBILITY,
    Right.READ_PAYOUTS,
    Right.READ_FUNDS,
    Right.READ_GIFTS,
    Right.READ_FORECASTS,
    Right.READ_OPERATIONS,
}
_OF_FINANCE = _READ_ALL - {Right.READ_REGISTRATIONS}
"""Money follows who came: who meant to come is none of its business."""
_OFFICER = _READ_ALL | {
    Right.WRITE_ASSOCIATIONS,
    Right.GOVERN_ASSOCIATIONS,
    Right.WRITE_MEMBERS,
    Right.REVEAL_MEMBERS,
    Right.ERASE_MEMBERS,
    Right.EXPORT_MEMBERS,
    Right.WRITE_EVENTS,
    Right.WRITE_ROUNDS,
    Right.REGISTER,
    Right.CHECK_IN,
    Right.VOID_ATTENDANCES,
    Right.WRITE_POLICIES,
    Right.PREPARE_PAYOUTS,
    Right.SUBMIT_PAYOUTS,
    Right.WRITE_DRAWS,
    Right.ANSWER_DISPUTES,
    Right.WRITE_STATIONS,
    Right.HAND_OUT_GIFTS,
    Right.READ_GRANTS,
    Right.WRITE_GRANTS,
    Right.READ_SIGHTINGS,
    Right.READ_CORRECTIONS,
    Right.ANSWER_CORRECTIONS,
}
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.MEMBER: frozenset(
        _READ_PUBLIC
        | {
            Right.READ_MEMBERS,
            Right.ERASE_MEMBERS,
            Right.EXPORT_MEMBERS,
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN_SELF,
            Right.READ_ELIGIBILITY,
            Right.READ_OWN,
            Right.WRITE_OWN,
        }
    ),
    Role.EVENT_STAFF: frozenset(
        _READ_PUBLIC
        | {
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN,
            Right.HAND_OUT_GIFTS,
        }
    ),
    Role.SECRETARY: frozenset(
        _READ_PUBLIC
        | {
            Right.WRITE_ASSOCIATIONS,
            Right.READ_MEMBERS,
            Right.WRITE_MEMBERS,
            Right.WRITE_EVENTS,
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN,
            Right.HAND_OUT_GIFTS,
            Right.READ_POLICIES,
            Right.READ_OPERATIONS,
            Right.READ_CORRECTIONS,
            Right.ANSWER_CORRECTIONS,
        }
    ),
    # Who keeps a station's desk grants, pays and settles nothing, and reads of no member.
    Role.GUIDE: frozenset(_READ_PUBLIC | {Right.REDEEM_VOUCHERS}),
    Role.TOWN_OFFICER: frozenset(_OFFICER),
    Role.DISTRICT_OFFICER: frozenset(
        _OFFICER
        | {
            Right.SET_AREAS,
            Right.WRITE_GIFTS,
            Right.PUBLISH_NOTICES,
            Right.READ_RETENTION,
            Right.READ_FLAGS,
            Right.COMPUTE_FLAGS,
        }
    ),
    Role.FINANCE_CLERK: frozenset(
        _OF_FINANCE
        | {
            Right.REVEAL_MEMBERS,
            Right.PREPARE_PAYOUTS,
            Right.SUBMIT_PAYOUTS,
            Right.DISBURSE_PAYOUTS,
            Right.ANSWER_DISPUTES,
            Right.WRITE_FUNDS,
            Right.MOVE_STOCK,
            Right.HAND_OUT_GIFTS,
        }
    ),
    Role.FINANCE_APPROVER: frozenset(
        _OF_FINANCE
        | {
            Right.APPROVE_PAYOUTS,
            Right.CONFIRM_DRAWS,
            Right.ANSWER_DISPUTES,
            Right.CONFIRM_STOCK,
            Right.CLOSE_MONTHS,
        }
    ),
    Role.AUDITOR: frozenset(
        _READ_ALL
        | {
            Right.READ_GRANTS,
            Right.READ_CORRECTIONS,
            Right.READ_RETENTION,
            Right.READ_AUDIT,
            Right.READ_SIGHTINGS,
            Right.READ_FLAGS,
        }
    ),
    Role.DATA_PLATFORM: frozenset(_READ_PUBLIC),
    Role.OPERATIONS: frozenset(),
}
NOT_FOR_EMPLOYERS = {
    Right.SET_AREAS,
    Right.READ_OWN,
    Right.WRITE_OWN,
    Right.CHECK_IN_SELF,
    Right.REVEAL_MEMBERS,
    Right.ERASE_MEMBERS,
    Right.WRITE_ROUNDS,
    Right.WRITE_POLICIES,
    Right.READ_ELIGIBILITY,
    Right.READ_PAYOUTS,
    Right.PREPARE_PAYOUTS,
    Right.SUBMIT_PAYOUTS,
    Right.APPROVE_PAYOUTS,
    Right.DISBURSE_PAYOUTS,
    Right.ANSWER_DISPUTES,
    Right.READ_FUNDS,
    Right.WRITE_FUNDS,
    Right.WRITE_DRAWS,
    Right.REDEEM_VOUCHERS,
    Right.READ_GIFTS,
    Right.WRITE_GIFTS,
    Right.MOVE_STOCK,
    Right.CONFIRM_STOCK,
    Right.READ_FORECASTS,
    Right.CLOSE_MONTHS,
    Right.READ_RETENTION,
    Right.READ_AUDIT,
    Right.READ_SIGHTINGS,
    Right.READ_FLAGS,
    Right.COMPUTE_FLAGS,
}
"""Rights whose answers say, person by person or of all at once, who was at a health check.

Refusals say it as well: what is still to be paid to her forbids erasing her, and who came is not
excused. A forecast of gifts counts streaks: it is one less without her if she came last. What
retention let go counts rows that health checks left. Who writes rules and draws can weigh them so
that a total tells of a few. And nobody at a personnel office needs the service to tell her in full
the ID numbers and phones that she keeps herself, still less where members are paid; what an area
sets decides from how many on somebody looks.
"""
