"""Who of a roster is a member already: found set-wise, decided row by row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any
from uuid import UUID

import asyncpg

from app import reach
from app.identity import Caller
from app.models.membership.rosters import RosterColumn
from app.models.operations import RowOutcome
from app.models.privacy.privacy_notices import ConsentPurpose
from app.services.membership.roster_persons import Row
from app.services.membership.roster_storing import WITHDRAWN, Stage
from app.services.privacy import cleared_phones, consenting, office_phones

_STAGE = (
    "create temporary table staged (row_no integer, association_id uuid, name text,"
    ' employee_no text collate "C", identity_on date, contact_on date, payment_on date,'
    " thanks_on date, id_index bytea, phone_index bytea, identity bytea,"
    " former_id_index bytea, former_phone_index bytea, former_identity bytea)"
    " on commit drop"
)
_STAGED = (
    "row_no", "association_id", "name", "employee_no", "identity_on", "contact_on", "payment_on",
    "thanks_on", "id_index", "phone_index", "identity", "former_id_index", "former_phone_index",
    "former_identity",
)  # fmt: skip
# Others enrol under a shared lock of the association: they wait, and then see what was stored.
_LOCK = (
    "select id from associations where district_code = :district_code and id = any(:associations)"
    " order by id for no key update"
)
# Who was there before, as what the import itself enrols must meet nobody.
_NAMESAKES = (
    "create temporary table namesakes (association_id uuid, name text, bare_count integer,"
    " by_name uuid) on commit drop"
)
_NAMED = """
insert into namesakes
select m.association_id, m.name,
  count(*) filter (where m.employee_no is null and m.id_number_index is null),
  (array_agg(m.id) filter (where m.employee_no is null and m.id_number_index is null))[1]
from members m where m.district_code = :district_code and m.association_id = any(:associations)
  and m.status = 'active' group by m.association_id, m.name
"""
# What of a part anybody has: of most files, nothing. Each value is looked up by itself: no plan may
# read all members, whose number grows while the file is stored.
_KNOWN = """
select h.hash, null as word from unnest(:hashes::bytea[]) h(hash) cross join lateral (
  select from members m
  where m.district_code = :district_code and m.id_number_index = h.hash offset 0
) m
union all
select h.hash, null from unnest(:identities::bytea[]) h(hash) cross join lateral (
  select from person_keys k where k.identity_hash = h.hash offset 0
) k
union all
select null, w.word from unnest(:associations::uuid[], :numbers::text[]) w(association_id, word)
cross join lateral (
  select from members m
  where m.district_code = :district_code and m.association_id = w.association_id
    and m.employee_no = w.word and m.status = 'active' offset 0
) m
union all
select null, n.name from namesakes n join unnest(:names::text[]) w(word) on n.name = w.word
"""
# Only rows that meet somebody are answered; all others are new.
_HITS = f"""
with withdrawn as (
  select member_id, max(acted_on) filter (where purpose = 'identity') as identity_on,
    max(acted_on) filter (where purpose = 'contact') as contact_on,
    max(acted_on) filter (where purpose = 'payment') as payment_on,
    max(acted_on) filter (where purpose = 'thanks') as thanks_on
  from ({WITHDRAWN.format("")}) each group by member_id
), taken_back as (
  select m.association_id, m.name,
    max(c.acted_on) filter (where c.purpose = 'identity' and m.id_number_index is null)
      as identity_on,
    max(c.acted_on) filter (where c.purpose = 'contact' and m.id_number_index is null)
      as contact_on,
    max(c.acted_on) filter (where c.purpose = 'contact') as any_contact_on
  {consenting.OF_NAMESAKES} and m.association_id in (select association_id from namesakes)
  group by m.association_id, m.name
), cleared as (
  select distinct c.member_id from held_changes c where {{cleared}}
), hits as (
  select s.*, coalesce(i.id, f.id) as by_id, e.id as by_no, e.id_number_index as holder_index,
    n.name is not null as has_namesakes, coalesce(n.bare_count, 0) as bare_count, n.by_name,
    coalesce(k.member_id, g.member_id) as key_holder,
    (s.identity_on is not null and b.identity_on is not null
        and (:is_employers or s.identity_on <= b.identity_on))
      or case when s.id_index is null
        then s.contact_on is not null and b.any_contact_on is not null
          and (:is_employers or s.contact_on <= b.any_contact_on)
        else s.contact_on is not null and b.contact_on is not null
          and (:is_employers or s.contact_on <= b.contact_on) end as is_taken_back
  from staged s
  left join members i on i.district_code = :district_code and i.id_number_index = s.id_index
  left join members f on f.district_code = :district_code
    and f.id_number_index = s.former_id_index
  left join members e on e.district_code = :district_code
    and e.association_id = s.association_id and e.employee_no = s.employee_no
    and e.status = 'active'
  left join namesakes n on n.association_id = s.association_id and n.name = s.name
  left join taken_back b on b.association_id = s.association_id and b.name = s.name
  left join person_keys k on k.identity_hash = s.identity
  left join person_keys g on g.identity_hash = s.former_identity
)
select h.row_no, h.by_id, h.by_no, h.by_name, h.has_namesakes, h.bare_count,
  :is_employers as is_employers, h.is_taken_back,
  h.key_holder is not null as is_claimed,
  h.by_no is not null and h.id_index is not null and h.holder_index is not null
    and h.holder_index <> h.id_index
    and h.holder_index is distinct from h.former_id_index as is_number_of_another,
  t.association_id is distinct from h.association_id as is_elsewhere,
  t.status = 'left' as has_left, {{reach}} as in_reach,
  case when t.phone_index is null
      then :is_employers and (w.contact_on is not null or l.member_id is not null)
    else t.phone_index <> h.phone_index
      and t.phone_index is distinct from h.former_phone_index end as keeps_phone,
  t.phone_index is null and l.member_id is not null as holds_phone,
  h.identity_on <= w.identity_on as identity_withdrawn,
  h.contact_on <= w.contact_on as contact_withdrawn,
  h.payment_on <= w.payment_on as payment_withdrawn,
  h.thanks_on <= w.thanks_on as thanks_withdrawn,
  t.name = h.name and coalesce(t.employee_no = h.employee_no, h.employee_no is null)
    and (coalesce(h.identity_on <= w.identity_on, h.identity_on is null)
      or (t.identity_consented_on is not distinct from h.identity_on
      and (h.id_index is null or t.id_number_index is not distinct from h.id_index
        or t.id_number_index = h.former_id_index)))
    and (coalesce(h.contact_on <= w.contact_on, h.contact_on is null)
      or (t.contact_consented_on is not distinct from h.contact_on
      and (h.phone_index is null or (t.phone_index is not null and (:is_employers
          or t.phone_unconfirmed_since is null
          or coalesce(t.phone_index not in (h.phone_index, h.former_phone_index), true)))
        or (:is_employers and (w.contact_on is not null or l.member_id is not null)))))
    and (coalesce(h.payment_on <= w.payment_on, h.payment_on is null)
      or t.payment_consented_on is not distinct from h.payment_on)
    and (coalesce(h.thanks_on <= w.thanks_on, h.thanks_on is null)
      or t.thanks_consented_on is not distinct from h.thanks_on) as is_same
from hits h
left join members t on t.district_code = :district_code
  and t.id = coalesce(h.by_id, h.by_no, h.by_name)
left join withdrawn w on w.member_id = t.id
left join cleared l on l.member_id = t.id
where h.by_id is not null or h.by_no is not null or h.has_namesakes or h.key_holder is not null
"""
_NO_FORMER = (None, None, None)
_ELSEWHERE = "already_enrolled_elsewhere"


async def begin(stage: Stage, associations: Sequence[UUID]) -> None:
    """Keep others from enrolling in the roster's associations, and see who is there."""
    await stage.run(_LOCK, associations=associations)
    await stage.run(_NAMESAKES)
    await stage.run(_NAMED, associations=associations)
    await stage.run("analyze namesakes")


async def suspects(stage: Stage, rows: Sequence[Row]) -> set[int]:
    """Give the numbers of the rows of which anything may be somebody's; all others are new."""
    numbered = [row for row in rows if row.employee_no is not None]
    known = await stage.run_afresh(
        _KNOWN,
        hashes=sorted(each for row in rows for each in _indexes(row) if each is not None),
        identities=sorted(each for row in rows for each in _identities(row) if each is not None),
        associations=[row.place and row.place.id for row in numbered],
        numbers=[row.employee_no for row in numbered],
        names=[row.name for row in rows],
    )
    hashes, words = {each["hash"] for each in known}, {each["word"] for each in known}
    hashes.discard(None)
    words.discard(None)
    return {
        row.row_no
        for row in rows
        if row.name in words
        or row.employee_no in words
        or not hashes.isdisjoint((*_indexes(row), *_identities(row)))
    }


def _indexes(row: Row) -> tuple[bytes | None, ...]:
    """Give what finds a person in the district, also one whose number is not to be stored."""
    return (row.id_index,) if row.former is None else (row.id_index, row.former.id_index)


def _identities(row: Row) -> tuple[bytes | None, ...]:
    """Give the same for the nation; `roster_storing.identities` gives what is stored."""
    return (row.identity,) if row.former is None else (row.identity, row.former.identity)


async def match(stage: Stage, caller: Caller, rows: Sequence[Row]) -> int:
    """Give every suspect its outcome and, where there is one, its member.

    Gives how many are enrolled where the caller does not see: count them before she is told.
    """
    await stage.run(_STAGE)
    await stage.copy("staged", _STAGED, [_staged(row) for row in rows])
    await stage.run("analyze staged")
    condition, params = reach.within(caller, area="t.area_code", association="t.association_id")
    params["is_employers"] = caller.employer_linked
    hits = await stage.run(
        _HITS.format(reach=condition, cleared=cleared_phones.IN_QUESTION), **params
    )
    _decide(rows, {hit["row_no"]: hit for hit in hits})
    for row in rows:
        if row.rejected:
            row.outcome = RowOutcome.REJECTED
    return sum(note["code"] == _ELSEWHERE for row in rows for note in row.notes)


def _staged(row: Row) -> tuple[Any, ...]:
    return (
        row.row_no,
        row.place and row.place.id,
        row.name,
        row.employee_no,
        *map(row.given_on, ConsentPurpose),
        row.id_index,
        row.phone_index,
        row.identity,
        *(_NO_FORMER if row.former is None else astuple(row.former)),
    )


def _decide(rows: Sequence[Row], hits: Mapping[int, asyncpg.Record]) -> None:
    claims = Counter(hit["by_name"] for hit in hits.values() if _is_by_name(hit))
    taken: dict[UUID, int] = {}
    for row in rows:
        hit = hits.get(row.row_no)
        if hit is not None:
            _meet(row, hit, claims)
        if row.rejected:
            continue
        if row.member_id is None:
            row.outcome = RowOutcome.CREATED
        elif row.member_id in taken:
            row.reject(None, "duplicate_member", row=taken[row.member_id])
        else:
            taken[row.member_id] = row.row_no


def _is_by_name(hit: asyncpg.Record) -> bool:
    return hit["by_id"] is None and hit["by_no"] is None and hit["bare_count"] == 1


def _meet(row: Row, hit: asyncpg.Record, claims: Counter[UUID]) -> None:
    """Decide a row that meets a member: by ID number, else employee number, else name."""
    if hit["by_id"] is not None:
        _meet_by_id(row, hit)
    elif hit["is_claimed"]:
        row.reject(RosterColumn.ID_NUMBER, _ELSEWHERE)
    elif hit["is_number_of_another"]:
        row.reject(RosterColumn.EMPLOYEE_NO, "employee_no_taken")
    elif hit["by_no"] is not None:
        row.member_id = hit["by_no"]
    elif hit["has_namesakes"]:
        _meet_by_name(row, hit, claims)
    if row.member_id is not None and not row.rejected:
        row.leave_out(frozenset(p for p in ConsentPurpose if hit[f"{p}_withdrawn"]))
        _settle_phone(row, hit)
        row.outcome = RowOutcome.UNCHANGED if hit["is_same"] else RowOutcome.UPDATED


def _settle_phone(row: Row, hit: asyncpg.Record) -> None:
    if hit["keeps_phone"]:
        row.leave_phone(office_phones.KEPT)
    elif hit["holds_phone"]:
        row.hold_phone(office_phones.WAITS)


def _meet_by_id(row: Row, hit: asyncpg.Record) -> None:
    if not hit["in_reach"]:
        row.reject(RosterColumn.ID_NUMBER, _ELSEWHERE)
        return
    row.member_id = hit["by_id"]
    if hit["is_elsewhere"]:
        row.reject(RosterColumn.ASSOCIATION, "in_another_association")
    elif hit["has_left"]:
        row.reject(RosterColumn.JOINED_ON, "has_left")
    elif hit["by_no"] not in {None, hit["by_id"]}:
        row.reject(RosterColumn.EMPLOYEE_NO, "employee_no_taken")


def _refuse_taken_back(row: Row, hit: asyncpg.Record) -> None:
    """Refuse to make a second person of one who is there and took back what the row gives."""
    if hit["is_taken_back"] and hit["is_employers"]:
        row.reject(RosterColumn.NAME, consenting.NOT_BY_EMPLOYERS)
    elif hit["is_taken_back"]:
        row.reject(RosterColumn.CONSENTED_ON, consenting.WITHDRAWN_SINCE)


def _meet_by_name(row: Row, hit: asyncpg.Record, claims: Counter[UUID]) -> None:
    """Take a namesake without numbers for the same person, if there is no doubt which."""
    has_number = row.employee_no is not None or row.id_index is not None
    if hit["bare_count"] == 0 and has_number:
        _refuse_taken_back(row, hit)
        return
    if hit["bare_count"] != 1 or claims[hit["by_name"]] > 1:
        row.reject(RosterColumn.NAME, "name_ambiguous")
        return
    row.member_id = hit["by_name"]
    if has_number:
        row.note(RosterColumn.NAME, "matched_by_name")
