"""Who looked at the calling member's record: which office, how and what for, in plain words."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from app.crypto import Keyring
from app.database import Statements
from app.identity import PHONE_LOGIN, Caller
from app.models.audit.audit_entries import LookupFilters, Use
from app.models.membership.consents import ConsentMethod
from app.models.privacy.privacy_notices import ConsentPurpose
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.roles import Role
from app.tokens import subject_of
from app.wording import Language, say, texts

_OF_CONSENTS = "e.refusal is null and e.act in ('create_consent', 'withdraw_consent')"
_WITH_CONSENTS = (
    f"({_OF_CONSENTS} or e.refusal is null and e.act in ('create_member', 'update_member'))"
)
_OF_IMPORTS = "e.refusal is null and e.act = 'run_import_members'"
# An entry of a consent that had been entered before, or withdrawn, names none.
KINDS: Mapping[Use, Collection[str]] = {
    Use.PAID: {
        *("payouts", "payout-runs", "payout_runs", "cash-list", "results", "bank-files", "content"),
        *("payout-disputes", "dispute", "payout-decisions", "vouchers", "station-settlements"),
        *("basis", "mismatches", "reconciliation"),
    },
    Use.DRAWN: {"draws", "winners"},
    Use.DISCARDED: {"retention_runs"},
    Use.GRANTED: {"grants"},
    Use.CORRECTED: {"corrections"},
    Use.REGISTERED: {"registrations", "service-events"},
    Use.CHECKED_IN: {"attendances", "check-in"},
    Use.CHANGED: {"members", "me", "phone", "payout-account", "operations", "excuses"}
    | {"associations", "officers"},
}
"""What was done by the kind of its object, where nothing more is known of it."""
OF_HELD_CHANGES: Mapping[Use, Collection[str]] = {
    Use.PHONE_NOTICED: {"tell_old_phone", "tell_cleared_phone"},
    Use.PHONE_PUT_IN_FORCE: {"put_phone_in_force", "put_untold_phone_in_force"},
    Use.PHONE_GIVEN_UP: {"give_up_untold_phone", "give_up_telling_cleared_phone"},
    Use.ACCOUNT_NOTICED: {"tell_of_new_payout_account"},
    Use.ACCOUNT_PUT_IN_FORCE: {"put_payout_account_in_force"},
    Use.ACCOUNT_GIVEN_UP: {"give_up_untold_payout_account"},
}
"""What the service itself does with a new phone or payout account, by the acts of its clock."""
ABOUT_NOBODY = {
    *("accounts", "allocations", "consents", "depots", "exam-rounds", "facilities", "funds"),
    *("gifts", "host-organisations", "incentive-policies", "logins", "month-closes"),
    *("privacy-notices", "receipts", "regulations", "service-stations", "settings", "counts"),
    *("stock-movements", "stock-takes", "versions", "withdrawals", "export", "held_changes"),
}
"""Kinds whose acts name no member, or are told by more than their kind."""


def _in(names: Collection[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in sorted(names))
    return f"in ({listed})"


def _is_of(use: Use) -> str:
    return f"e.object_kind {_in(KINDS[use])}"


USES: Mapping[Use, str] = {
    Use.SIGN_IN_REFUSED: "e.refusal is not null and e.object_kind = 'logins'",
    Use.REFUSED: "e.refusal is not null",
    Use.SIGNED_IN: "e.object_kind = 'logins'",
    Use.REVEALED: "e.act = 'reveal_member'",
    Use.COPIED: "e.act in ('show_member_export', 'hand_out_member_export')",
    Use.SEARCHED: "e.act = 'search_members'",
    Use.PAID: _is_of(Use.PAID),
    **{use: f"e.act {_in(acts)}" for use, acts in OF_HELD_CHANGES.items()},
    Use.DISCARDED: _is_of(Use.DISCARDED),
    Use.GRANTED: _is_of(Use.GRANTED),
    Use.LISTED: "left(e.act, 5) = 'list_' or e.act = 'get_rejected_rows'",
    Use.VIEWED: f"left(e.act, 4) = 'get_' or {_OF_CONSENTS} and e.fields = '{{}}'",
    Use.DRAWN: _is_of(Use.DRAWN),
    Use.CORRECTED: _is_of(Use.CORRECTED),
    Use.REGISTERED: _is_of(Use.REGISTERED),
    Use.CHECKED_IN: _is_of(Use.CHECKED_IN),
    Use.CONSENT_ENTERED: "e.act = 'create_consent'",
    Use.CONSENT_WITHDRAWN: "e.act = 'withdraw_consent'",
}
"""What tells each use from the ones after it; what is left changed the record."""
_WHENS = " ".join(f"when {test} then '{use}'" for use, test in USES.items())
_USE = f"case {_WHENS} else '{Use.CHANGED}' end"
_SAID_ALONE = {Use.SIGNED_IN, Use.SIGN_IN_REFUSED, Use.DISCARDED, *OF_HELD_CHANGES}
"""What no office did."""
_IN_FULL = "e.refusal is null and e.act in ('reveal_member', 'hand_out_member_export')"
# An entry of an answer sent again, and one of before they were named, has the names of its body.
_PURPOSES = ", ".join(f"'{purpose}'" for purpose in ConsentPurpose)
_CONSENTS = f"array(select f from unnest(e.fields) f where f in ({_PURPOSES}))"
# An import tells of many: hers are those that it recorded, after all that was recorded of her.
_IMPORTED = (
    f"array(select p.purpose from unnest(array[{_PURPOSES}]) p(purpose) where exists ("
    "select from consents c where c.district_code = :district_code and c.member_id = :member_id"
    f" and c.purpose = p.purpose and c.method = '{ConsentMethod.IMPORT}'"
    f" and c.recorded_by = e.subject and c.recorded_at = greatest(e.at, (select"
    " max(l.recorded_at) + interval '1 microsecond' from consents l"
    " where l.district_code = :district_code and l.member_id = :member_id"
    " and l.recorded_at < c.recorded_at))))"
)
# Her own looks are left out; a login in her name is not, for it may have been another's. Nor is
# what somebody else does as her, who holds a grant for her under another name. What else a login
# has done says no more than that it was one.
_OF_OTHERS = (
    f"(e.role <> '{Role.MEMBER}' or e.object_kind = 'logins'"
    f" or e.subject not in (:subject, :phone_subject, '{PHONE_LOGIN}'))"
)
# A secretary has no area: her office is her association, as it was granted to her then. Of several
# the one in which the member is or was, unless it was another's secretary who tried.
_HER_OWN = (
    "exists (select from memberships m where m.district_code = :district_code"
    " and m.member_id = :member_id and m.association_id = o.id)"
)
_ASSOCIATION = (
    f"case when e.role = '{Role.SECRETARY}' then (select coalesce("
    f"string_agg(distinct o.name, '、') filter (where {_HER_OWN}),"
    " string_agg(distinct o.name, '、')) from grants g join associations o"
    " on o.district_code = :district_code and o.id = any(g.association_ids)"
    " where g.district_code = :district_code and g.subject = e.subject and g.role = e.role"
    " and g.starts_at <= e.at and (g.ends_at is null or g.ends_at > e.at)"
    " and (g.revoked_at is null or g.revoked_at > e.at)) end"
)
LISTING = Listing(
    columns=(
        f"e.id, {instant('e.at')}, e.role as office, e.area_code, a.name as area_name,"
        f" {_ASSOCIATION} as association_name,"
        f" {_USE} as use, case when {_IN_FULL} then e.fields else '{{}}' end as fields,"
        f" case when {_IN_FULL} then e.purpose end as purpose,"
        f" case when {_WITH_CONSENTS} then {_CONSENTS}"
        f" when {_OF_IMPORTS} then {_IMPORTED} else '{{}}' end as consents"
    ),
    source=(
        "audit_sightings s join audit_entries e"
        " on e.district_code = s.district_code and e.id = s.entry_id"
        " join areas a on a.code = e.area_code"
    ),
    order=(Key("id", "s.entry_id", "uuid"),),
    descending=True,
    about="",
)


async def list_lookups(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: LookupFilters,
    language: Language,
) -> Slice:
    """Give a page of who looked at the calling member's record, the latest first.

    An entry is in it once it is sealed, a second or so after the look.
    """
    if caller.member_id is None:
        raise NotFound
    herself = {"subject": caller.subject, "phone_subject": subject_of(caller.member_id)}
    where = Where({"district_code": caller.district_code, "member_id": caller.member_id} | herself)
    where.add("s.district_code = :district_code and s.person_id = :member_id")
    where.add(_OF_OTHERS)
    where.equal(f"({_USE})", "use", filters.use)
    where.span("e.at", "at", gte=filters.at_gte, lt=filters.at_lt)
    # The audit is nobody's to read; the statement keeps to what names her.
    page = await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)
    return page._replace(items=[_worded(item, language) for item in page.items])


def _worded(item: str, language: Language) -> str:
    lookup = json.loads(item)
    return json.dumps({**lookup, "words": _words(lookup, language)}, ensure_ascii=False)


def _words(lookup: Mapping[str, Any], language: Language) -> str:
    """Say in a sentence which office did what, and what for where it was asked."""
    codes = texts(language)["codes"]
    office = codes["roles"][lookup["office"]]
    place = lookup["association_name"] or lookup["area_name"]
    facts = {"area": place, "use": codes["record-uses"][lookup["use"]]}
    if lookup["use"] in _SAID_ALONE:
        return str(facts["use"])
    if lookup["office"] == Role.MEMBER and lookup["use"] != Use.REFUSED:
        return say(language, "messages", "lookup_as_her", **facts)
    comma = "、" if language == "zh" else ", "
    if lookup["consents"]:
        purposes = comma.join(codes["consent-purposes"][name] for name in lookup["consents"])
        is_of = lookup["use"] in {Use.CONSENT_ENTERED, Use.CONSENT_WITHDRAWN}
        words = "lookup_of_consents" if is_of else "lookup_with_consents"
        return say(language, "messages", words, office=office, purposes=purposes, **facts)
    if not lookup["fields"]:
        return say(language, "messages", "lookup", office=office, **facts)
    shown = comma.join(codes["reveal-fields"][name] for name in lookup["fields"])
    purpose = codes["reveal-purposes"][lookup["purpose"]]
    return say(
        language, "messages", "lookup_in_full", office=office, shown=shown, purpose=purpose, **facts
    )
