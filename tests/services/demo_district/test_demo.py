"""The demo district: the numbers of the source, people who do not exist, the same anywhere."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import select

from app import embedded, identifiers, schema
from app.crypto import Keyring
from app.database import Database, connect, transaction
from app.models.organisation.associations import Association
from app.services.demo_district import demo, demo_people, demo_places
from app.services.demo_district.demo import DatabaseNotEmpty
from app.services.demo_district.demo_facts import CLOSED, DISTRICT
from app.services.organisation import activation, areas
from app.services.organisation.areas import AreaLine
from app.services.privacy import data_keys, person_data
from app.settings import Settings

_MEMBERS = 700
# What a fresh nonce or this machine's keys make different.
_OWN = {"id_number_sealed", "id_number_index", "phone_sealed", "phone_index", "identity_hash"}
_TABLES = (
    *("areas", "area_settings", "host_organisations", "associations", "officers", "facilities"),
    *("regulations", "members", "memberships", "exam_rounds", "excuses", "service_events"),
    *("registrations", "attendances", "incentive_policies", "policy_versions", "incentive_rules"),
    *("payout_runs", "payouts"),
)


def _area_lines() -> list[AreaLine]:
    with Path("app/data/areas-nanhai.csv").open(encoding="utf-8") as file:
        return areas.read_file(file)


class District:
    """A loaded demo, its keys, and what its loading told."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self.database, self.keyring = database, keyring
        self.told: list[tuple[str, int, int]] = []

    async def load(self) -> None:
        """Load it."""
        async with transaction(self.database, demo.SCOPE) as session:
            await demo.load(
                session,
                self.keyring,
                members=_MEMBERS,
                area_lines=_area_lines(),
                progress=lambda *told: self.told.append(told),
            )
        await demo.tidy(self.database)

    async def rows(self, sql: str) -> list[Any]:
        """Give the rows of a statement as tuples."""
        return [tuple(row) for row in await self.database.pool.fetch(sql)]

    async def counts(self, sql: str) -> dict[str, int]:
        """Give the rows of a statement of two columns as a mapping."""
        return dict(await self.rows(sql))


async def _make(maintenance_url: str, config: Settings, name: str, root: bytes) -> District:
    url = await embedded.ensure_database(maintenance_url, name)
    database = await connect(url, config.model_copy(update={"statement_timeout_ms": 60_000}))
    await schema.migrate(database.engine)
    district = District(database, Keyring(root))
    await district.load()
    return district


@pytest_asyncio.fixture(scope="module")
async def districts(maintenance_url: str, config: Settings) -> AsyncIterator[list[District]]:
    """Two demos, loaded apart under different keys."""
    names = [f"jixie_demo_{os.getpid()}_{number}" for number in range(2)]
    made = [
        await _make(maintenance_url, config, name, bytes([number]) * 32)
        for number, name in enumerate(names)
    ]
    yield made
    for district in made:
        await district.database.close()
    connection = await asyncpg.connect(maintenance_url)
    for name in names:
        await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


@pytest.fixture(scope="module")
def district(districts: list[District]) -> District:
    return districts[0]


async def test_there_are_as_many_associations_as_in_the_source(district: District) -> None:
    counts = await district.counts("select mode, count(*) from associations group by mode")
    villages = counts.pop("village")
    assert counts == {
        "independent": 68,
        "affiliated": 341,
        "park": 6,
        "professional": 12,
        "community": 113,
    }
    needed = "select count(distinct area_code) from associations where mode = 'affiliated'"
    assert [(villages,)] == await district.rows(needed)


async def test_the_communities_are_a_hundred_and_thirteen_employee_villages(
    district: District,
) -> None:
    assert await district.counts(
        "select h.kind, count(*) from associations a"
        " join host_organisations h on h.district_code = a.district_code and h.id = a.host_id"
        " where a.mode = 'community' group by h.kind"
    ) == {"residential_community": 100, "employee_village": 13}


async def test_they_are_spread_over_the_seven_towns(district: District) -> None:
    counts = await district.counts(
        "select mode, count(distinct substr(area_code, 1, 9)) from associations group by mode"
    )
    assert counts.pop("park") == 6
    assert set(counts.values()) == {7}


async def test_those_of_the_source_are_there_by_name(district: District) -> None:
    found = await district.counts(
        "select name, count(*) from associations"
        " where name ~ '^(本田|奇美|大沥农产品市场|西樵纺织行业|丹灶五金行业)' group by name"
    )
    assert set(found) == {
        "本田（示范）计生协会",
        "奇美（示范）计生协会",
        "大沥农产品市场计生协会",
        "西樵纺织行业计生协会",
        "丹灶五金行业计生协会",
    }
    others = (
        "select name from host_organisations where kind not in ('village_committee', 'market')"
        " and name !~ '示范'"
    )
    assert await district.rows(others) == []


async def test_each_association_meets_the_conditions_of_its_mode(district: District) -> None:
    async with transaction(district.database, demo.SCOPE) as session:
        associations = list(await session.scalars(select(Association)))
        for association in associations:
            found = await activation.conditions(session, association, on=date(2026, 11, 24))
            unmet = [condition.code for condition in found if not condition.is_met]
            assert not unmet, association.name
    assert {association.status for association in associations} == {"active"}


async def test_company_codes_and_id_numbers_and_phones_are_valid_and_nobodys(
    district: District,
) -> None:
    for (code,) in await district.rows("select uscc from host_organisations where uscc <> ''"):
        assert identifiers.uscc(code) == code
        assert "DEM" in code
    rows = await district.rows("select id, id_number_sealed, phone_sealed from members")
    async with transaction(district.database, demo.SCOPE) as session:
        ids = [row[0] for row in rows]
        keys = await data_keys.find(session, district.keyring, district_code=DISTRICT, ids=ids)
    numbers = [
        person_data.open_id_number(keys[id_], id_, sealed) for id_, sealed, _ in rows if sealed
    ]
    phones = [person_data.open_phone(keys[id_], id_, sealed) for id_, _, sealed in rows if sealed]
    for number in numbers:
        assert identifiers.resident_id(number, today=date(2026, 11, 24)) == number
        assert number.startswith("99"), "a region that there is not"
    for phone in phones:
        assert identifiers.phone(phone) == phone
        assert phone.startswith("+861740"), "satellite phones"
    assert len(set(numbers)) == len(numbers) > _MEMBERS // 2
    assert len(set(phones)) == len(phones) > _MEMBERS // 2


async def test_every_person_says_by_her_name_that_she_is_an_example(district: District) -> None:
    for table in ("members", "officers"):
        assert await district.rows(f"select name from {table} where name !~ '[例样]$'") == []


async def test_nothing_is_kept_without_consent(district: District) -> None:
    ((without, kept),) = await district.rows(
        "select count(*), count(*) filter (where id_number_index is not null"
        " or phone_sealed is not null) from members where thanks_consented_on is null"
    )
    assert without > 0
    assert kept == 0


async def test_it_has_exactly_the_members_that_were_asked_for(district: District) -> None:
    assert await district.rows("select count(*) from members") == [(_MEMBERS,)]
    empty = (
        "select count(*) from associations a where mode = 'independent' and not exists"
        " (select from members m where m.association_id = a.id)"
    )
    assert await district.rows(empty) == [(0,)]


async def test_people_come_are_excused_move_and_are_corrected(district: District) -> None:
    assert len(CLOSED) == 8
    rates = await district.rows(
        "select r.sequence, cast(count(a.member_id) filter (where a.voided_at is null) as float)"
        "  / (select count(*) from members m where m.first_joined_on <= r.ends_on) as rate"
        " from exam_rounds r left join attendances a on a.district_code = r.district_code"
        "  and a.round_sequence = r.sequence"
        " where r.status = 'closed' group by r.sequence, r.ends_on"
    )
    assert len(rates) == 8
    assert all(0.6 < rate < 0.85 for _, rate in rates), rates
    for something in (
        "select 1 from attendances where voided_at is not null",
        "select 1 from excuses where member_id is not null",
        "select 1 from excuses where area_code is not null",
        "select member_id from memberships group by member_id having count(*) > 1",
        "select 1 from members where status = 'left'",
        "select 1 from registrations",
    ):
        assert await district.rows(something), something


async def test_who_came_was_a_member_there_and_then(district: District) -> None:
    strangers = (
        "select a.member_id from attendances a where not exists (select from memberships t"
        " where t.district_code = a.district_code and t.member_id = a.member_id"
        " and t.association_id = a.association_id"
        " and t.joined_on <= cast(a.occurred_at at time zone 'Asia/Shanghai' as date)"
        " and (t.left_on is null"
        "  or t.left_on >= cast(a.occurred_at at time zone 'Asia/Shanghai' as date)))"
    )
    assert await district.rows(strangers) == []


async def test_an_event_is_closed_when_it_is_over(district: District) -> None:
    """What is told of it to those without the records is as of a week after."""
    closed = await district.rows(
        "select updated_at >= ends_at from service_events where status = 'closed'"
    )
    assert set(closed) == {(True,)}


async def test_the_district_thanks_and_one_enterprise_adds_to_it(district: District) -> None:
    rules = await district.rows(
        "select r.code, r.reward, r.amount_fen, r.min_streak, r.every from incentive_rules r"
        " order by r.rule_id"
    )
    assert rules == [
        ("attendance", "cash", 1000, 1, None),
        ("small_gift", "gift", None, 2, None),
        ("big_gift", "gift", None, 4, 4),
        ("top_up", "cash", 3000, 1, None),
    ]
    assert await district.rows(
        "select a.name from incentive_policies p join associations a"
        " on a.district_code = p.district_code and a.id = p.association_id"
    ) == [("本田（示范）计生协会",)]


async def test_one_round_is_paid_and_the_next_is_left_to_try(district: District) -> None:
    runs = await district.rows("select round_sequence, status, payout_count from payout_runs")
    assert [run[:2] for run in runs] == [(7, "settled")]
    assert await district.rows("select count(*) from payouts") == [(runs[0][2],)]
    assert set(await district.counts("select status, count(*) from payouts group by status")) == {
        "paid",
        "failed",
    }
    async with transaction(district.database, demo.SCOPE) as session:
        shown = await demo.showcase(session)
    assert shown is not None
    round_id = await district.rows("select id from exam_rounds where sequence = 8")
    assert [(shown.round_id,)] == round_id


async def test_it_is_the_same_district_on_every_machine(districts: list[District]) -> None:
    async def digest(district: District, table: str) -> Any:
        columns = await district.rows(
            "select column_name from information_schema.columns"
            f" where table_name = '{table}' and table_schema = 'public' order by 1"
        )
        kept = ", ".join(f't."{name}"' for (name,) in columns if name not in _OWN)
        return await district.rows(
            f"select count(*), md5(string_agg(line, ';' order by line collate \"C\"))"
            f" from (select row({kept})::text as line from {table} t) lines"
        )

    for table in _TABLES:
        first, second = await asyncio.gather(*(digest(each, table) for each in districts))
        assert first[0][0] > 0, table
        assert first == second, table


async def test_loading_tells_how_far_it_is(district: District) -> None:
    ends = {part: (done, total) for part, done, total in district.told}
    assert ends == {
        "members": (_MEMBERS, _MEMBERS),
        "exam rounds": (8, 8),
        "payout runs": (1, 1),
    }


async def test_of_two_that_load_at_once_one_does(
    config: Settings, empty_database: str, district: District
) -> None:
    database = await connect(empty_database, config.model_copy(update={"lock_timeout_ms": 60_000}))
    await schema.migrate(database.engine)
    pair = [District(database, district.keyring) for _ in range(2)]
    ended = await asyncio.gather(*(each.load() for each in pair), return_exceptions=True)
    await database.close()
    assert set(map(type, ended)) == {DatabaseNotEmpty, type(None)}


async def test_a_million_are_invented_one_after_the_other() -> None:
    places = demo_places.plan(_area_lines())
    shares = demo_people.shares(places, 1_100_000)
    assert sum(shares) == 1_100_000
    assert min(shares) > 0
    people = demo_people.people(Keyring(bytes(32)), places, total=1_100_000)
    first = list(islice(people, 3))
    assert len({person.member["id"] for person in first}) == 3
    assert {person.member["district_code"] for person in first} == {DISTRICT}
