"""Import of 100,000 members from .xlsx against the sum of its parts: at most 2 times, 300 MB.

The parts, measured beside it, are what no import can do without: read the file with calamine; wrap
a key per person, encrypt two fields under it and index three values a row; stage by COPY and upsert
the members, and COPY the rows that go with each: her membership, two consents, her key, the
nation's key and the answer to her row. They are the same rows, durable, with primary keys and
unique indexes; before consents and keys of their own came, the parts were the members alone. The
import does all that and also checks and matches every row, writes behind walls, holds foreign keys
and checks, keeps the indexes by which members are found, and names all in the audit.
"""

import argparse
import asyncio
import io
import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import xlsxwriter
from python_calamine import CalamineWorkbook

from app import clock, serving, worker
from app.crypto import Keyring, load_keyring
from app.database import Statements, connect, transaction
from app.identifiers import resident_check_digit
from app.models.membership.rosters import OnError
from app.services.membership import rosters
from app.settings import Settings
from benchmarks import harness, population

_ROWS = 100_000
_LOOK_SECONDS = 0.05
_TITLES = ("姓名", "身份证号", "手机号", "工号", "入会日期", "知情同意日期", "车间", "备注", "序号")
_PARTS = ("read", "encrypt and index", "store")
# The same rows with primary keys and unique indexes; no wall, foreign key, check or other index.
_TABLES = """
create table part_members (like members, primary key (district_code, id));
create unique index on part_members (district_code, id_number_index);
create unique index on part_members (district_code, association_id, employee_no);
create table part_memberships (like memberships,
  primary key (district_code, member_id, joined_on, association_id));
create unique index on part_memberships (district_code, member_id) where left_on is null;
create table part_consents (like consents, primary key (district_code, member_id, purpose, id));
create table part_data_keys (like data_keys, primary key (district_code, member_id));
create table part_person_keys (like person_keys, primary key (identity_hash));
create table part_import_rows (like import_rows, primary key (district_code, operation_id, row_no))
"""
_COLUMNS = {
    "memberships": ("district_code", "member_id", "joined_on", "association_id", "recorded_at"),
    "consents": (
        "district_code", "member_id", "purpose", "id", "state", "notice_number", "method",
        "acted_on", "recorded_at", "recorded_by",
    ),
    "data_keys": ("district_code", "member_id", "wrapped", "master_version"),
    "person_keys": ("identity_hash", "district_code", "member_id"),
    "import_rows": ("district_code", "operation_id", "row_no", "outcome", "member_id", "notes"),
}  # fmt: skip
_STAGE = """
create temporary table parts (id uuid, name text, employee_no text, joined_on date,
  id_sealed bytea, id_index bytea, phone_sealed bytea, phone_index bytea) on commit drop
"""
_UPSERT = """
insert into part_members (district_code, id, version, created_at, updated_at, association_id,
  area_code, status, name, employee_no, first_joined_on, identity_consented_on,
  contact_consented_on, id_number_sealed, id_number_index, phone_sealed, phone_index)
select a.district_code, p.id, 1, now(), now(), a.id, a.area_code, 'active', p.name, p.employee_no,
  p.joined_on, p.joined_on, p.joined_on, p.id_sealed, p.id_index, p.phone_sealed, p.phone_index
from parts p join associations a on a.id = $1 order by p.id
on conflict (district_code, id_number_index)
do update set name = excluded.name, phone_sealed = excluded.phone_sealed
"""


def _people(rows: int, first: int) -> list[tuple[str, ...]]:
    people: list[tuple[str, ...]] = []
    for n in range(first, first + rows):
        day, order = divmod(n, 999)
        born = date.fromordinal(date(1960, 1, 1).toordinal() + day)
        first17 = f"440605{born:%Y%m%d}{order + 1:03}"
        number = first17 + resident_check_digit(first17)
        people.append((f"会员{n}", number, f"138{n:08}", f"G{n}", "2025-01-09", "2025-01-09"))
    return people


def _file(rows: int, first: int) -> bytes:
    target = io.BytesIO()
    workbook = xlsxwriter.Workbook(target, {"constant_memory": True})
    sheet = workbook.add_worksheet()
    sheet.write_row(0, 0, _TITLES)
    for number, person in enumerate(_people(rows, first), 1):
        sheet.write_row(number, 0, (*person, "一车间", "无", str(number)))
    workbook.close()
    return target.getvalue()


async def _measure_parts(url: str, keyring: Keyring, content: bytes, place: UUID) -> list[float]:
    times = [time.perf_counter()]
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0)
    lines = list(sheet.iter_rows())[1:]
    times.append(time.perf_counter())
    members, others = _sealed(keyring, lines, place)
    times.append(time.perf_counter())
    connection = await asyncpg.connect(url)
    await connection.execute("set synchronous_commit = on")
    started = time.perf_counter()
    async with connection.transaction():
        await connection.execute(_STAGE)
        await connection.copy_records_to_table("parts", records=members)
        await connection.execute(_UPSERT, place)
        for table, records in others.items():
            await connection.copy_records_to_table(
                f"part_{table}", records=records, columns=_COLUMNS[table]
            )
    stored = time.perf_counter() - started
    await connection.close()
    return [times[1] - times[0], times[2] - times[1], stored]


_Records = list[tuple[Any, ...]]


def _sealed(
    keyring: Keyring, lines: list[list[Any]], place: UUID
) -> tuple[_Records, dict[str, _Records]]:
    """Make what is stored: members to be staged, and what goes with them by table."""
    members: _Records = []
    others: dict[str, _Records] = {table: [] for table in _COLUMNS}
    memberships, consents, data_keys, person_keys, answers = others.values()
    district, day, now = population.DISTRICT, date(2025, 1, 9), clock.now()
    operation_id = clock.new_id()
    for row_no, (name, number, phone, employee_no, *_) in enumerate(lines, 2):
        member_id = clock.new_name()
        key, wrapped = keyring.new_key(place=f"data_keys.wrapped:{member_id}")
        number_sealed = key.seal(number.encode(), place=f"members.id_number:{member_id}")
        phone_sealed = key.seal(phone.encode(), place=f"members.phone:{member_id}")
        number_index = keyring.blind_index(number, column="id_number")
        phone_index = keyring.blind_index(phone, column="phone")
        identity = keyring.blind_index(number, column="person")
        sealed = (number_sealed, number_index, phone_sealed, phone_index)
        members.append((member_id, name, employee_no, day, *sealed))
        memberships.append((district, member_id, day, place, now))
        for purpose in ("identity", "contact"):
            given = (district, member_id, purpose, clock.new_name(), "given", None, "import")
            consents.append((*given, day, now, "bench"))
        data_keys.append((district, member_id, *wrapped))
        person_keys.append((identity, district, member_id))
        answers.append((district, operation_id, row_no, "created", member_id, "[]"))
    return members, others


async def _ask(url: str, config: Settings, content: bytes, association_id: UUID) -> None:
    database = await connect(url, config)
    async with transaction(database, population.CALLER.scope) as session:
        await rosters.start(
            session,
            population.CALLER,
            load_keyring(config),
            content=content,
            association_id=association_id,
            dry_run=False,
            on_error=OnError.SKIP,
            now=clock.now(),
            language="en",
        )
    await database.close()


async def _work_off(url: str, config: Settings) -> None:
    """Work the import off in this process, and print the seconds it took."""
    database = await connect(url, config)
    serving.spare_what_lives()
    started = time.perf_counter()
    assert await worker.run_next(database, load_keyring(config))
    seconds = time.perf_counter() - started
    result = await Statements(database.pool, population.CALLER.scope).fetch_value(
        "select result::text from operations where result is not null order by id desc limit 1", {}
    )
    print(json.dumps({"seconds": seconds, "result": json.loads(result)}))
    await database.close()


def _held_mb(pid: int) -> float:
    """Read what a program and those that it started hold (proc(5)), shared pages of each."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        begun = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
        own = int(status.partition("VmRSS:")[2].split()[0]) / 1024 if "VmRSS:" in status else 0
        return own + sum(_held_mb(int(child)) for child in " ".join(begun).split())
    return 0


def _import(url: str, data_dir: Path) -> dict[str, Any]:
    """Work the import off in a process, and see what it and its reader hold at any one time."""
    command = [sys.executable, "-m", "benchmarks.import_members", "--work", url, str(data_dir)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as working:  # noqa: S603  (ours)
        while working.poll() is None:
            peak = max(peak, _held_mb(working.pid))
            time.sleep(_LOOK_SECONDS)
        assert working.stdout is not None
        answer: dict[str, Any] = json.loads(working.stdout.read().splitlines()[-1])
    assert working.returncode == 0
    return {**answer, "peak_mb": peak}


def main(rows: int, rounds: int) -> None:
    """Measure in turn, print the parts, the import and their ratio."""
    with harness.district(members=1_000) as place:
        config = Settings(data_dir=place.data_dir, log_level="error")
        keyring = load_keyring(config)
        asyncio.run(_execute(place.url, _TABLES))
        ratios, peaks = [], []
        for number in range(rounds):
            content = _file(rows, number * rows)
            association = population.association(number + 1)
            parts = asyncio.run(_measure_parts(place.url, keyring, content, association))
            asyncio.run(_ask(place.service, config, content, association))
            done = _import(place.service, place.data_dir)
            assert done["result"]["created"] == rows, done
            ratios.append(done["seconds"] / sum(parts))
            peaks.append(done["peak_mb"])
            listed = ", ".join(f"{n} {s:.2f}" for n, s in zip(_PARTS, parts, strict=True))
            ours = f"import {done['seconds']:.2f} s, {done['peak_mb']:.0f} MB"
            print(f"parts {sum(parts):.2f} s ({listed}); {ours}")
    print(f"import of {rows} ratio {statistics.median(ratios):.2f}, peak {max(peaks):.0f} MB")


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs=2, metavar=("URL", "DATA_DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        asyncio.run(_work_off(arguments.work[0], Settings(data_dir=Path(arguments.work[1]))))
    else:
        main(arguments.rows, arguments.rounds)
