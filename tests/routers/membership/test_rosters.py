"""Importing rosters over HTTP: what personnel offices send, and every answer that they get."""

import asyncio
import csv
import io
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app import apart, clock, worker
from app.crypto import Keyring, load_keyring
from app.database import Database, Statements
from app.models.organisation.associations import Association
from app.models.registry import metadata
from app.roles import Role
from app.services.membership import roster_matching, roster_storing
from app.settings import Settings
from tests.factories.callers import GUICHENG, SHISHAN, Client, pointers
from tests.factories.membership.members import make_id_number, make_member, make_phone
from tests.factories.membership.rosters import make_csv, make_people, make_person, make_xlsx
from tests.factories.organisation.associations import make_association

_ELSEWHERE = "440605011001"


@pytest_asyncio.fixture
async def association(session: AsyncSession) -> Association:
    association = await make_association(session, name="本田计生协会")
    await session.commit()
    return association


class Importer:
    """Sends files and works them off."""

    def __init__(self, database: Database, keyring: Keyring, association: Association) -> None:
        self.database, self.keyring, self.association = database, keyring, association

    async def send(self, caller: Client, content: bytes, **form: Any) -> dict[str, Any]:
        """Upload a file and give the operation as it was answered."""
        form.setdefault("dry_run", "false")
        form.setdefault("association_id", str(self.association.id))
        operation: dict[str, Any] = await caller.ok(
            "POST",
            "/v1/members/import",
            status=202,
            files={"file": ("花名册", content)},
            data={name: value for name, value in form.items() if value is not None},
            headers={"Idempotency-Key": str(clock.new_id())},
        )
        return operation

    async def run(self, caller: Client, content: bytes, **form: Any) -> dict[str, Any]:
        """Upload a file, work it off, and give the operation as it ended."""
        operation = await self.send(caller, content, **form)
        assert await worker.run_next(self.database, self.keyring)
        ended: dict[str, Any] = await caller.ok("GET", f"/v1/operations/{operation['id']}")
        return ended


@pytest.fixture
def importer(database: Database, keyring: Keyring, association: Association) -> Importer:
    return Importer(database, keyring, association)


def _counts(operation: dict[str, Any]) -> tuple[int, int, int, int]:
    assert operation["result"], operation
    result = operation["result"]
    return (result["created"], result["updated"], result["unchanged"], result["rejected"])


async def _rows(caller: Client, operation: dict[str, Any], **params: str) -> list[dict[str, Any]]:
    path = f"/v1/operations/{operation['id']}/rows"
    page = await caller.ok("GET", path, params=params)
    rows: list[dict[str, Any]] = page["items"]
    return rows


def _codes(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [[note["code"] for note in row["notes"]] for row in rows]


async def _member_count(officer: Client) -> int:
    page = await officer.ok("GET", "/v1/members", params={"include_total": "true", "limit": 1})
    return int(page["total"])


_WRITERS: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "csv utf-8 with mark": make_csv,
    "csv utf-8": lambda rows: make_csv(rows, encoding="utf-8"),
    "csv gb18030": lambda rows: make_csv(rows, encoding="gb18030"),
    "xlsx": make_xlsx,
    "xlsx below a title": lambda rows: make_xlsx(rows, title="本田公司员工花名册"),
}


async def test_nothing_is_imported_for_whom_the_grant_was_taken_back(
    officer: Client, importer: Importer, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking_back = (
        "update grants set revoked_at = now(), revoked_by = 'o', revoke_reason = '离职'"
        " where revoked_at is null"
    )
    giving_again = "update grants set revoked_at = null, revoked_by = null, revoke_reason = null"
    before = await _member_count(officer)
    operation = await importer.send(officer, make_csv(make_people(3)))
    await owner.pool.execute(taking_back)
    assert await worker.run_next(importer.database, importer.keyring)
    await owner.pool.execute(giving_again)
    ended = await officer.ok("GET", f"/v1/operations/{operation['id']}")
    assert (ended["status"], ended["problem"]["code"]) == ("failed", "grant_missing")

    kept = roster_storing.store_answers

    async def taken_back_meanwhile(*given: Any) -> None:
        await kept(*given)
        await owner.pool.execute(taking_back)

    monkeypatch.setattr(roster_storing, "store_answers", taken_back_meanwhile)
    operation = await importer.send(officer, make_csv(make_people(3)))
    assert await worker.run_next(importer.database, importer.keyring)
    monkeypatch.undo()
    await owner.pool.execute(giving_again)
    ended = await officer.ok("GET", f"/v1/operations/{operation['id']}")
    assert (ended["status"], ended["problem"]["code"]) == ("failed", "grant_missing")
    assert await _member_count(officer) == before
    assert await _files(owner) == 0


async def _files(owner: Database) -> int:
    return int(await owner.pool.fetchval("select count(*) from operation_files"))


async def test_a_file_that_cannot_be_read_is_not_kept(
    officer: Client, importer: Importer, owner: Database
) -> None:
    ended = await importer.run(officer, "甲,乙\n1,2\n".encode())
    assert ended["status"] == "failed"
    assert await _files(owner) == 0


async def test_a_file_goes_when_its_import_is_cancelled(
    officer: Client, importer: Importer, owner: Database
) -> None:
    queued = await importer.send(officer, make_csv(make_people(3)))
    assert await _files(owner) == 1
    ended = await officer.ok("POST", f"/v1/operations/{queued['id']}/cancel")
    assert ended["status"] == "cancelled"
    assert await _files(owner) == 0

    running = await importer.send(officer, make_csv(make_people(3)))
    await owner.pool.execute(
        "update operations set status = 'running', lease_until = now() - interval '1 second'"
        " where status = 'queued'"
    )
    await officer.ok("POST", f"/v1/operations/{running['id']}/cancel")
    assert await _files(owner) == 1
    assert await worker.run_next(importer.database, importer.keyring)
    ended = await officer.ok("GET", f"/v1/operations/{running['id']}")
    assert ended["status"] == "cancelled"
    assert await _files(owner) == 0


async def test_a_file_goes_when_its_import_failed_too_often(
    officer: Client, importer: Importer, owner: Database
) -> None:
    sent = await importer.send(officer, make_csv(make_people(3)))
    await owner.pool.execute("update operations set attempts = 3")
    assert not await worker.run_next(importer.database, importer.keyring)
    ended = await officer.ok("GET", f"/v1/operations/{sent['id']}")
    assert (ended["status"], ended["problem"]["code"]) == ("failed", "operation_gave_up")
    assert await _files(owner) == 0


@pytest.mark.parametrize("step", ["identity", "erase"])
async def test_rejected_rows_go_with_the_data_of_whom_they_are_known_to_be(
    officer: Client,
    importer: Importer,
    session: AsyncSession,
    owner: Database,
    step: str,
) -> None:
    other = await make_association(session, name="另一个计生协会")
    await session.commit()
    people = make_people(1)
    await importer.run(officer, make_csv(people))
    rejected = await importer.run(officer, make_csv(people), association_id=str(other.id))
    (row,) = await _rows(officer, rejected, outcome="rejected")
    assert row["member_id"] is not None
    kept = await importer.run(officer, make_csv([make_person(2, 入会日期="昨天")]))
    assert await _files(owner) == 2
    path = f"/v1/members/{row['member_id']}"
    if step == "erase":
        member = await officer.ok("GET", path)
        await officer.ok("POST", f"{path}/erase", headers={"If-Match": f'"{member["version"]}"'})
    else:
        await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": step})
    path = "/v1/operations/{}/rejected-rows"
    gone = path.format(rejected["id"])
    await officer.refused("GET", gone, status=404, code="no_rejected_rows")
    assert (await officer.get(path.format(kept["id"]))).status_code == 200


async def test_rejected_rows_are_given_under_the_grant_that_sent_them(
    officer: Client, importer: Importer, owner: Database
) -> None:
    people = [make_person(1), make_person(2, 入会日期="昨天")]
    operation = await importer.run(officer, make_csv(people))
    assert operation["result"]["rejected"] == 1
    path = f"/v1/operations/{operation['id']}/rejected-rows"
    assert (await officer.get(path)).status_code == 200
    await owner.pool.execute(
        "update operations set arguments = jsonb_set(arguments, '{caller,grant_id}', $1)",
        f'"{clock.new_id()}"',
    )
    await officer.refused("GET", path, status=403, code="forbidden")


async def test_rejected_rows_are_given_to_who_has_just_signed_in_and_the_answer_to_all(
    client: Callable[..., Client], importer: Importer
) -> None:
    stale = client(Role.DISTRICT_OFFICER, step_up=False)
    operation = await importer.run(stale, make_csv([make_person(1, 入会日期="昨天")]))
    (row,) = await _rows(stale, operation, outcome="rejected")
    assert row["row_no"] == 2
    path, code = (
        f"/v1/operations/{operation['id']}/rejected-rows",
        "insufficient_user_authentication",
    )
    await stale.refused("GET", path, status=401, code=code)


@pytest.mark.parametrize("writer", _WRITERS.values(), ids=_WRITERS.keys())
async def test_a_roster_is_imported_and_a_second_time_changes_nothing(
    officer: Client, importer: Importer, writer: Callable[[Sequence[dict[str, Any]]], bytes]
) -> None:
    content = writer(make_people(300))
    first = await importer.run(officer, content)
    assert first["status"] == "succeeded"
    assert _counts(first) == (300, 0, 0, 0)
    assert first["progress"] == {"done": 300, "total": 300}
    assert first["result"]["ignored_columns"] == ["序号"]
    assert first["result"]["stored"] is True

    wanted = {"id_number": make_id_number(7)}
    found = await officer.ok("POST", "/v1/members/search", json=wanted)
    member = found["items"][0]
    assert (member["employee_no"], member["first_joined_on"]) == ("G000007", "2025-08-01")
    assert member["phone_masked"] == "138****0007"
    assert member["version"] == 1

    second = await importer.run(officer, content)
    assert _counts(second) == (0, 0, 300, 0)
    again = await officer.ok("POST", "/v1/members/search", json=wanted)
    assert again["items"] == [member]


async def test_a_dry_run_answers_and_stores_nothing(officer: Client, importer: Importer) -> None:
    content = make_csv([*make_people(3), make_person(3, 手机号="123")])
    operation = await importer.run(officer, content, dry_run=None)

    assert operation["result"]["dry_run"] is True
    assert operation["result"]["stored"] is False
    assert _counts(operation) == (3, 0, 0, 1)
    assert await _member_count(officer) == 0
    rows = await _rows(officer, operation)
    assert [row["outcome"] for row in rows] == ["created"] * 3 + ["rejected"]
    assert rows[3] == {
        "row_no": 5,
        "outcome": "rejected",
        "member_id": None,
        "notes": [
            {
                "column": "phone",
                "code": "phone_form",
                "detail": "This is not a valid phone number; abroad, add the country code,"
                " like +852.",
            }
        ],
    }


async def test_bad_rows_are_skipped_or_stop_everything(officer: Client, importer: Importer) -> None:
    people = make_people(500)
    for seed in (10, 20, 30):
        people[seed]["身份证号码"] = "440605199001010000"
    content = make_xlsx(people)

    aborted = await importer.run(officer, content, on_error="abort")
    assert aborted["status"] == "failed"
    assert aborted["problem"]["code"] == "roster_rows_rejected"
    assert _counts(aborted) == (497, 0, 0, 3)
    assert aborted["result"]["stored"] is False
    assert await _member_count(officer) == 0

    skipped = await importer.run(officer, content, on_error="skip")
    assert skipped["status"] == "succeeded"
    assert _counts(skipped) == (497, 0, 0, 3)
    assert await _member_count(officer) == 497
    rejected = await _rows(officer, skipped, outcome="rejected")
    assert [row["row_no"] for row in rejected] == [12, 22, 32]


@pytest.mark.parametrize("file_format", ["csv", "xlsx"])
async def test_the_rejected_rows_come_back_to_be_corrected(
    officer: Client, importer: Importer, file_format: str
) -> None:
    writer = make_csv if file_format == "csv" else make_xlsx
    people = make_people(5)
    people[1]["身份证号码"] = "440605199001010000"
    people[3]["姓名"] = ""
    people[3]["工号"] = "=1+1"
    operation = await importer.run(officer, writer(people))
    answer = await officer.get(
        f"/v1/operations/{operation['id']}/rejected-rows", headers={"Accept-Language": "zh"}
    )

    assert answer.status_code == 200
    assert f"rejected-rows.{file_format}" in answer.headers["content-disposition"]
    again = await importer.run(officer, answer.content)
    assert _counts(again) == (0, 0, 0, 2)
    assert again["result"]["ignored_columns"] == []
    if file_format == "csv":
        header, *rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert header[-2:] == ["行号", "原因"]
        assert [row[-2] for row in rows] == ["3", "5"]
        assert rows[1][header.index("工号")] == "'=1+1"
        rows[0][header.index("身份证号")] = make_id_number(1)
        rows[1][header.index("姓名")] = "赵小大"
        corrected = make_csv([dict(zip(header, row, strict=True)) for row in rows])
        assert _counts(await importer.run(officer, corrected)) == (2, 0, 0, 0)
        assert await _member_count(officer) == 5


async def test_a_file_of_rejected_rows_is_in_one_language_and_read_in_either(
    officer: Client, importer: Importer
) -> None:
    people = make_people(2)
    people[0]["手机号"] = "12"
    people[1]["身份证号码"] = "440605199001010000"
    operation = await importer.run(officer, make_csv(people))
    path = f"/v1/operations/{operation['id']}/rejected-rows"
    answer = await officer.get(path, headers={"Accept-Language": "en"})
    header, *rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert " ".join(header).isascii()
    assert header[-2:] == ["row_no", "reason"]
    assert all(row[-1].isascii() for row in rows)
    assert rows[0][-1].startswith("phone: ")
    again = await importer.run(officer, answer.content)
    assert (again["result"]["rejected"], again["result"]["ignored_columns"]) == (2, [])
    chinese = await officer.get(path, headers={"Accept-Language": "zh"})
    _, first, _ = list(csv.reader(io.StringIO(chinese.content.decode("utf-8-sig"))))
    assert first[-1].startswith("手机：")


async def test_without_a_consent_date_the_sensitive_fields_stay_out(
    officer: Client, importer: Importer
) -> None:
    content = make_csv([make_person(1, 知情同意日期=""), make_person(2, 工号="", 知情同意日期="")])
    operation = await importer.run(officer, content)

    assert _counts(operation) == (2, 0, 0, 0)
    assert _codes(await _rows(officer, operation)) == [["enrolled_without_sensitive_fields"]] * 2
    page = await officer.ok("GET", "/v1/members")
    assert [(m["has_id_number"], m["has_phone"]) for m in page["items"]] == [(False, False)] * 2
    assert _counts(await importer.run(officer, content)) == (0, 0, 2, 0)

    consented = await importer.run(officer, make_csv([make_person(1), make_person(2)]))
    assert _counts(consented) == (0, 2, 0, 0)
    assert _codes(await _rows(officer, consented)) == [[], ["matched_by_name"]]
    page = await officer.ok("GET", "/v1/members")
    assert all(m["has_id_number"] and m["has_phone"] for m in page["items"])
    assert _counts(await importer.run(officer, content)) == (0, 0, 2, 0)


async def test_a_date_stands_for_what_the_row_holds_and_a_column_for_what_it_says(
    officer: Client, importer: Importer
) -> None:
    rows = [
        make_person(1, 同意事项=""),
        make_person(2, 同意事项="手机号、奖励"),
        make_person(3, 手机号="", 同意事项="身份证号，手机号"),
        make_person(4, 同意事项="全部"),
    ]
    content = make_csv(rows)
    operation = await importer.run(officer, content)

    assert _counts(operation) == (3, 0, 0, 1)
    codes = [[], ["stored_only_as_consented"], [], ["consent_purpose_unknown"]]
    assert _codes(await _rows(officer, operation)) == codes
    page = await officer.ok("GET", "/v1/members")
    held = {m["employee_no"]: (m["consents"], m["has_id_number"]) for m in page["items"]}
    assert held == {
        "G000001": (["identity", "contact"], True),
        "G000002": (["contact", "thanks"], False),
        "G000003": (["identity", "contact"], True),
    }
    assert _counts(await importer.run(officer, content)) == (0, 0, 3, 1)
    path = f"/v1/members/{page['items'][0]['id']}/consents"
    events = (await officer.ok("GET", path))["items"]
    assert [event["method"] for event in events] == ["import"] * 2
    assert [event["notice_number"] for event in events] == [1, 1]


async def test_a_later_date_renews_a_consent(
    officer: Client, importer: Importer, owner: Database
) -> None:
    await importer.run(officer, make_csv([make_person(1)]))
    later = make_csv([make_person(1, 知情同意日期=date(2026, 2, 1), 同意事项="手机号 奖励")])
    assert _counts(await importer.run(officer, later)) == (0, 1, 0, 0)
    assert _counts(await importer.run(officer, later)) == (0, 0, 1, 0)
    rows = await owner.pool.fetch(
        "select purpose, acted_on, state from consents order by recorded_at, purpose"
    )
    first, then = date(2025, 12, 1), date(2026, 2, 1)
    assert [tuple(row) for row in rows] == [
        ("contact", first, "given"),
        ("identity", first, "given"),
        ("contact", then, "given"),
        ("thanks", then, "given"),
    ]


async def test_a_file_that_is_sent_again_brings_nothing_back_that_she_withdrew(
    officer: Client, importer: Importer
) -> None:
    content = make_csv([make_person(1)])
    await importer.run(officer, content)
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    for purpose in ("identity", "contact"):
        path = f"/v1/members/{member['id']}/consents/withdraw"
        await officer.ok("POST", path, json={"purpose": purpose})

    for _ in range(2):
        operation = await importer.run(officer, content)
        assert _counts(operation) == (0, 0, 1, 0)
        assert _codes(await _rows(officer, operation)) == [["consent_withdrawn"]]
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    assert (member["has_id_number"], member["has_phone"], member["consents"]) == (False, False, [])


@pytest.mark.parametrize("withdrawn_by", ["herself", "an office"])
async def test_no_later_day_in_a_file_brings_back_what_is_not_its_to_give(
    *,
    client: Callable[..., Client],
    officer: Client,
    importer: Importer,
    owner: Database,
    withdrawn_by: str,
) -> None:
    await importer.run(officer, make_csv([make_person(1)]))
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    her = client(Role.MEMBER, member_id=member["id"], subject="her")
    by_herself = withdrawn_by == "herself"
    path = "/v1/me" if by_herself else f"/v1/members/{member['id']}"
    await (her if by_herself else officer).ok(
        "POST", f"{path}/consents/withdraw", json={"purpose": "contact"}
    )

    sender = client(Role.TOWN_OFFICER, subject="sender", employer_linked=not by_herself)
    earlier = "update consents set acted_on = '2026-01-01' where state = 'withdrawn'"
    await owner.pool.execute(earlier)
    renewed = make_csv([make_person(1, 知情同意日期=date(2026, 2, 1))])
    for _ in range(2):
        operation = await importer.run(sender, renewed)
        assert _codes(await _rows(sender, operation)) == [["consent_withdrawn"]]
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    assert (member["has_phone"], member["consents"]) == (False, ["identity"])


async def test_what_is_withdrawn_while_a_file_is_matched_is_not_brought_back(
    officer: Client, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await importer.run(officer, make_csv([make_person(1)]))
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    match = roster_matching.match

    async def match_slowly(*arguments: Any) -> None:
        await match(*arguments)
        path = f"/v1/members/{member['id']}/consents/withdraw"
        await officer.ok("POST", path, json={"purpose": "contact"})

    monkeypatch.setattr(roster_matching, "match", match_slowly)
    renewed = make_csv([make_person(1, 姓名="李四", 知情同意日期=date(2026, 2, 1))])
    await importer.run(officer, renewed)
    (member,) = (await officer.ok("GET", "/v1/members"))["items"]
    assert (member["name"], member["has_phone"]) == ("李四", False)
    assert member["consents"] == ["identity"]


async def test_what_differs_is_updated_and_blanks_clear_nothing(
    officer: Client, importer: Importer
) -> None:
    await importer.run(officer, make_csv(make_people(3)))
    people = [
        make_person(0, 姓名="王改名", 手机号=make_phone(900)),
        make_person(1, 工号="", 手机号="", 入会日期=""),
        make_person(2, 工号="N2"),
    ]
    operation = await importer.run(officer, make_csv(people))

    assert _counts(operation) == (0, 2, 1, 0)
    assert _codes(await _rows(officer, operation)) == [["phone_on_file_stays"], [], []]
    found = await officer.ok("POST", "/v1/members/search", json={"phone": make_phone(0)})
    assert [(m["name"], m["version"]) for m in found["items"]] == [("王改名", 2)]
    found = await officer.ok("POST", "/v1/members/search", json={"phone": make_phone(1)})
    assert [(m["employee_no"], m["version"]) for m in found["items"]] == [("G000001", 1)]


async def test_repeats_within_the_file_name_the_earlier_row(
    officer: Client, importer: Importer
) -> None:
    people = [
        make_person(1),
        make_person(2, 身份证号码=make_id_number(1)),
        make_person(3, 工号="G000001"),
        make_person(4, 姓名="李同名", 工号="", 知情同意日期=""),
        make_person(5, 姓名="李 同名", 工号="", 知情同意日期=""),
    ]
    operation = await importer.run(officer, make_csv(people))

    assert _counts(operation) == (2, 0, 0, 3)
    rejected = await _rows(officer, operation, outcome="rejected")
    assert _codes(rejected)[:2] == [["duplicate_id_number"], ["duplicate_employee_no"]]
    assert _codes(rejected)[2][-1] == "duplicate_name"
    assert "Row 2" in rejected[0]["notes"][0]["detail"]
    assert "Row 5" in rejected[2]["notes"][-1]["detail"]


async def test_who_is_in_another_association_is_not_moved_silently(
    client: Callable[..., Client], officer: Client, session: AsyncSession, importer: Importer
) -> None:
    other = await make_association(session, "village", area_code=_ELSEWHERE)
    await session.commit()
    content = make_csv([make_person(1)])
    await importer.run(officer, content, association_id=str(other.id))

    within = await importer.run(officer, content)
    rows = await _rows(officer, within)
    assert _codes(rows) == [["in_another_association"]]
    assert rows[0]["member_id"] is not None

    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    beyond = await importer.run(town, content)
    rows = await _rows(town, beyond)
    assert _codes(rows) == [["already_enrolled_elsewhere"]]
    assert rows[0]["member_id"] is None


async def test_who_is_enrolled_in_another_district_is_refused_neutrally(
    officer: Client, importer: Importer, owner: Database, keyring: Keyring
) -> None:
    await owner.pool.execute(
        "insert into person_keys (identity_hash, district_code, member_id)"
        " values ($1, '440604000000', $2)",
        keyring.blind_index(make_id_number(1), column="person"),
        clock.new_id(),
    )
    operation = await importer.run(officer, make_csv([make_person(1)]))
    assert _codes(await _rows(officer, operation)) == [["already_enrolled_elsewhere"]]


@pytest.fixture
def with_new_index_key(config: Settings) -> Keyring:
    """The application's keys while its index key is being replaced."""
    old = (config.data_dir / "keys" / "index.key").read_text()
    keys = f"2:{'ab' * 32},1:{old}"
    return load_keyring(Settings(data_dir=config.data_dir, index_keys=SecretStr(keys)))


async def test_who_is_indexed_by_the_former_key_is_met(
    officer: Client, importer: Importer, with_new_index_key: Keyring, owner: Database
) -> None:
    await importer.run(officer, make_csv(make_people(3)))
    importer.keyring = with_new_index_key
    content = make_csv([make_person(0, 姓名="王改名"), *make_people(3, start=1)])
    assert _counts(await importer.run(officer, content)) == (1, 1, 2, 0)
    assert _counts(await importer.run(officer, content)) == (0, 0, 4, 0)
    versions = await owner.pool.fetch(
        "select get_byte(id_number_index, 0) as v, get_byte(phone_index, 0) as p"
        " from members order by employee_no"
    )
    assert [tuple(row) for row in versions] == [(2, 1), (1, 1), (1, 1), (2, 2)]


async def test_who_is_known_elsewhere_by_the_former_key_is_refused(
    officer: Client,
    importer: Importer,
    with_new_index_key: Keyring,
    owner: Database,
    keyring: Keyring,
) -> None:
    await owner.pool.execute(
        "insert into person_keys (identity_hash, district_code, member_id)"
        " values ($1, '440604000000', $2)",
        keyring.blind_index(make_id_number(1), column="person"),
        clock.new_id(),
    )
    importer.keyring = with_new_index_key
    operation = await importer.run(officer, make_csv([make_person(1)]))
    assert _codes(await _rows(officer, operation)) == [["already_enrolled_elsewhere"]]


async def test_imported_values_are_under_the_key_of_each_member(
    officer: Client, importer: Importer, owner: Database
) -> None:
    await importer.run(officer, make_csv([*make_people(2), make_person(2, 知情同意日期="")]))
    page = await officer.ok("GET", "/v1/members")
    shown = [await officer.ok("GET", f"/v1/members/{m['id']}") for m in page["items"]]
    assert [m["phone_masked"] for m in shown] == ["138****0000", "138****0001", None]
    assert await owner.pool.fetchval("select count(*) from data_keys") == 2
    consented = make_csv([make_person(2)])
    assert _counts(await importer.run(officer, consented)) == (0, 1, 0, 0)
    assert await owner.pool.fetchval("select count(*) from data_keys") == 3
    late = await officer.ok("GET", f"/v1/members/{shown[2]['id']}")
    assert late["phone_masked"] == "138****0002"


async def test_doubt_about_a_name_is_left_to_a_person(
    officer: Client, session: AsyncSession, importer: Importer
) -> None:
    await make_member(session, importer.association, name="双胞胎")
    await make_member(session, importer.association, name="双胞胎")
    await make_member(session, importer.association, name="有工号", employee_no="7")
    await session.commit()
    people = [
        make_person(1, 姓名="双胞胎", 工号="", 身份证号码="", 知情同意日期=""),
        make_person(2, 姓名="有工号", 工号="", 身份证号码="", 知情同意日期=""),
        make_person(3, 姓名="有工号"),
    ]
    operation = await importer.run(officer, make_csv(people))
    assert [row["outcome"] for row in await _rows(officer, operation)] == [
        "rejected",
        "rejected",
        "created",
    ]


async def test_an_employee_number_of_somebody_else_is_refused(
    officer: Client, importer: Importer
) -> None:
    await importer.run(officer, make_csv(make_people(2)))
    people = [make_person(0, 工号="G000001"), make_person(5, 工号="G000001")]
    operation = await importer.run(officer, make_csv([people[1]]))
    assert _codes(await _rows(officer, operation)) == [["employee_no_taken"]]
    operation = await importer.run(officer, make_csv([people[0]]))
    assert _codes(await _rows(officer, operation)) == [["employee_no_taken"]]


async def test_what_spreadsheets_do_to_numbers_and_dates_is_repaired_or_named(
    officer: Client, importer: Importer
) -> None:
    people = [
        make_person(1, 工号=1001.0, 手机号=13800000001.0, 入会日期="2025/1/9"),
        make_person(2, 入会日期="2025年2月3日"),
        make_person(3, 入会日期="20250304"),
        make_person(4, 身份证号码=440605199001011234.0),
        make_person(5, 手机号="1.38E+10"),
        make_person(6, 入会日期="去年"),
        make_person(7, 入会日期=date(2999, 1, 1)),
        make_person(8, 入会日期="2025.4.5"),
        make_person(9, 手机号="1.3800138000E999"),
        make_person(10, 手机号="1.3800138000E+40"),
        make_person(11, 手机号="13800138000\x7f"),
        make_person(12, 身份证号码="440605\x7f199001011234"),
        make_person(13, 手机号="nan", 入会日期=1e300),
        make_person(14, 手机号=1e300),
    ]
    operation = await importer.run(officer, make_xlsx(people))
    rows = await _rows(officer, operation)
    assert _codes(rows) == [
        [],
        [],
        [],
        ["id_number_rounded"],
        ["phone_rounded"],
        ["date_form"],
        ["date_in_future"],
        [],
        ["phone_form"],
        ["phone_form"],
        ["control_character"],
        ["control_character"],
        ["date_form", "phone_form"],
        ["phone_form"],
    ]
    page = await officer.ok("GET", "/v1/members")
    assert [(m["employee_no"], m["first_joined_on"]) for m in page["items"]] == [
        ("1001", "2025-01-09"),
        ("G000002", "2025-02-03"),
        ("G000003", "2025-03-04"),
        ("G000008", "2025-04-05"),
    ]


async def test_an_employee_number_tells_nothing_of_health(
    officer: Client, importer: Importer
) -> None:
    operation = await importer.run(officer, make_csv([make_person(1, 工号="A1 已怀孕")]))
    assert _codes(await _rows(officer, operation)) == [["telling_words"]]
    assert await _member_count(officer) == 0


async def test_a_column_may_name_the_association(
    officer: Client, session: AsyncSession, importer: Importer
) -> None:
    other = await make_association(session, name="奇美计生协会")
    await make_association(session, name="同名计生协会")
    await make_association(session, name="同名计生协会")
    await session.commit()
    names = ["本田计生协会", str(other.id), "没有的协会", "同名计生协会", ""]
    people = [make_person(seed, 所属协会=name) for seed, name in enumerate(names)]
    operation = await importer.run(officer, make_csv(people), association_id=None)

    rows = await _rows(officer, operation)
    assert [row["outcome"] for row in rows] == ["created", "created"] + ["rejected"] * 3
    assert _codes(rows[2:]) == [["association_unknown"], ["association_ambiguous"], ["missing"]]
    page = await officer.ok("GET", "/v1/members", params={"association_id": str(other.id)})
    assert len(page["items"]) == 1


async def test_a_file_that_is_no_roster_says_what_it_lacks(
    officer: Client, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_header = await importer.run(officer, b"a,b\n1,2\n")
    assert no_header["problem"]["code"] == "roster_header_not_found"
    twice = await importer.run(officer, "姓名,手机,联系电话\n赵,1,2\n".encode())
    assert twice["problem"]["code"] == "roster_column_twice"
    nowhere = await importer.run(officer, "姓名\n赵\n".encode(), association_id=None)
    assert nowhere["problem"]["code"] == "roster_association_missing"
    broken = await importer.run(officer, b"PK\x03\x04 not a workbook")
    assert broken["problem"]["code"] == "file_unreadable"
    monkeypatch.setattr(apart, "_MAX_MEMORY", 10 * 2**20)
    deadly = await importer.run(officer, make_xlsx(make_people(1)))
    assert deadly["problem"]["code"] == "file_unreadable"
    empty = await importer.run(officer, "姓名\n\n\n".encode())
    assert _counts(empty) == (0, 0, 0, 0)
    assert empty["status"] == "succeeded"


async def test_unknown_titles_are_told_without_what_must_not_be_kept(
    officer: Client, importer: Importer
) -> None:
    titles = [
        "序\x00号",
        "\x00",
        "住址\n（现）",
        "找 13800138000",
        "\ufeff备注",
        "孕检结果",
        "长" * 99,
    ]
    people = [make_person(1, **dict.fromkeys(titles, "1"))]
    operation = await importer.run(officer, make_csv(people, encoding="utf-16"))
    assert operation["status"] == "succeeded"
    assert operation["result"]["ignored_columns"] == [
        "序号", "序号", "…", "住址 （现）", "…", "备注", "…", "长" * 40,
    ]  # fmt: skip
    assert operation["result"]["ignored_column_count"] == 8


async def test_of_very_many_unknown_titles_the_first_are_told(
    officer: Client, importer: Importer
) -> None:
    titles = [f"栏{number}" for number in range(16_000)]
    operation = await importer.run(officer, make_csv([make_person(1, **dict.fromkeys(titles, ""))]))
    assert operation["status"] == "succeeded"
    assert operation["result"]["ignored_columns"] == ["序号", *titles[:19]]
    assert operation["result"]["ignored_column_count"] == 16_001


def _upload(*parts: tuple[str, str]) -> dict[str, Any]:
    """Write a body of parts, each by what follows `form-data; ` and its content."""
    lines = [f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{text}" for head, text in parts]
    return {
        "content": "\r\n".join([*lines, "--x--\r\n"]).encode(),
        "headers": {"Idempotency-Key": "k", "Content-Type": "multipart/form-data; boundary=x"},
    }


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_an_upload_is_one_file_with_a_name(officer: Client, language: str) -> None:
    whole = ('name="file"; filename="a.csv"', "姓名\n赵\n")
    for parts, pointer, code in (
        ([('name="file"; filename=""', "姓名\n赵\n")], "/file", "file_without_name"),
        ([('name="file"', "姓名\n赵\n")], "/file", "file_without_name"),
        ([whole, whole], "/file", "repeated_part"),
        ([whole, ('name="file"', "x")], "/file", "repeated_part"),
        ([whole, *[('name="dry_run"', "true")] * 2], "/dry_run", "repeated_part"),
    ):
        sent = _upload(*parts)
        sent["headers"]["Accept-Language"] = language
        problem = await officer.refused(
            "POST", "/v1/members/import", status=422, code="invalid", **sent
        )
        (error,) = problem["errors"]
        assert (error["pointer"], error["code"]) == (pointer, code)
        assert error["detail"] not in {"", code}


async def test_an_upload_without_sense_is_refused_at_once(officer: Client) -> None:
    def sending(content: bytes = b"x", **form: str) -> dict[str, Any]:
        return {"files": {"file": ("a", content)}, "data": form}

    path, key = "/v1/members/import", {"Idempotency-Key": "k"}
    await officer.refused("POST", path, status=400, code="idempotency_key_required", **sending())
    for options, pointer in (
        (sending(b"\xd0\xcf\x11\xe0old"), "/file"),
        (sending(b""), "/file"),
        (sending(association_id=str(clock.new_id())), "/association_id"),
        (sending(dry_run="perhaps"), "/dry_run"),
        (sending(dry_run="1"), "/dry_run"),
        (sending(on_error="ignore"), "/on_error"),
        (sending(colour="red"), "/colour"),
        ({"files": {"dry_run": (None, "true")}}, "/file"),
    ):
        problem = await officer.refused(
            "POST", path, status=422, code="invalid", headers=key, **options
        )
        assert pointer in pointers(problem)


async def test_the_same_upload_twice_is_one_operation(officer: Client, importer: Importer) -> None:
    content = make_csv(make_people(2))
    options: dict[str, Any] = {
        "files": {"file": ("a.csv", content)},
        "data": {"association_id": str(importer.association.id)},
        "headers": {"Idempotency-Key": "once"},
        "status": 202,
    }
    first = await officer.ok("POST", "/v1/members/import", **options)
    assert await officer.ok("POST", "/v1/members/import", **options) == first
    page = await officer.ok("GET", "/v1/operations")
    assert len(page["items"]) == 1


async def test_the_same_file_twice_at_once_enrols_everybody_once(
    officer: Client, importer: Importer
) -> None:
    people = [*make_people(200), make_person(900, 工号="", 知情同意日期="")]
    content = make_csv(people)
    operations = [await importer.send(officer, content) for _ in range(2)]
    ran = await asyncio.gather(
        *(worker.run_next(importer.database, importer.keyring) for _ in operations)
    )
    assert ran == [True, True]
    ended = [await officer.ok("GET", f"/v1/operations/{o['id']}") for o in operations]
    assert sorted(_counts(operation) for operation in ended) == [(0, 0, 201, 0), (201, 0, 0, 0)]
    assert await _member_count(officer) == 201


async def test_no_number_of_the_file_stands_in_the_database_in_plain_text(
    officer: Client, importer: Importer, statements: Statements
) -> None:
    people = [*make_people(3), make_person(3, 姓名="")]
    await importer.run(officer, make_csv(people))
    secrets = [make_id_number(s) for s in range(4)] + [make_phone(s) for s in range(4)]
    for table in metadata.tables:
        rows = await statements.fetch(f"select t::text as line from {table} t", {})
        lines = "\n".join(row["line"] for row in rows)
        for secret in secrets:
            assert secret not in lines, table
            assert secret.encode().hex() not in lines, table


async def test_answers_and_corrections_are_their_senders(
    client: Callable[..., Client], officer: Client, importer: Importer
) -> None:
    secretary = client(
        Role.SECRETARY, areas=[], associations=[str(importer.association.id)], subject="s-1"
    )
    operation = await importer.run(secretary, make_csv([make_person(1, 姓名="")]))
    path = f"/v1/operations/{operation['id']}"
    assert _counts(operation) == (0, 0, 0, 1)
    assert (await secretary.get(f"{path}/rejected-rows")).status_code == 200
    await officer.ok("GET", f"{path}/rows")
    await officer.refused("GET", f"{path}/rejected-rows", status=403, code="forbidden")
    stranger = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    for sub in ("", "/rows", "/rejected-rows"):
        await stranger.refused("GET", path + sub, status=404, code="not_found")
    good = await importer.run(officer, make_csv([make_person(2)]))
    await officer.refused(
        "GET", f"/v1/operations/{good['id']}/rejected-rows", status=404, code="no_rejected_rows"
    )


async def test_a_secretary_imports_only_into_her_own_associations(
    client: Callable[..., Client], session: AsyncSession, importer: Importer
) -> None:
    other = await make_association(session, name="别家计生协会")
    await session.commit()
    secretary = client(Role.SECRETARY, areas=[], associations=[str(importer.association.id)])
    people = [make_person(1, 协会="别家计生协会"), make_person(2, 协会="本田计生协会")]
    operation = await importer.run(secretary, make_csv(people), association_id=None)
    assert [row["outcome"] for row in await _rows(secretary, operation)] == ["rejected", "created"]
    problem = await secretary.refused(
        "POST",
        "/v1/members/import",
        files={"file": ("a.csv", make_csv(people))},
        data={"association_id": str(other.id)},
        headers={"Idempotency-Key": "k"},
        status=422,
        code="invalid",
    )
    assert pointers(problem) == ["/association_id"]
