"""Bank files over HTTP: a run is given to a bank, and what the bank says comes back."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import bank_sandbox, clock, numbered_ids, retaining
from app.crypto import Keyring
from app.database import Database, Door
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import payout_id
from app.models.privacy.retention import Act
from app.roles import Role
from tests.factories.callers import GUICHENG, Client, idempotency_key
from tests.factories.channels.bank_files import (
    give_account,
    make_bank_run,
    make_bank_thanks,
    make_order,
)
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.disbursement.payouts import known_id
from tests.factories.finance.funds import agree


class Desk:
    """A finance clerk with a run that a bank pays."""

    def __init__(self, clerk: Client, run: PayoutRun, thanks: Thanks, keyring: Keyring) -> None:
        self.clerk, self.run, self.thanks, self.keyring = clerk, run, thanks, keyring
        self.path = f"/v1/payout-runs/{run.id}"

    async def make(self, **facts: Any) -> dict[str, Any]:
        """Make a file, and give it."""
        made = await self.ask(**facts)
        return dict(made["file"])

    async def ask(self, **facts: Any) -> dict[str, Any]:
        """Make a file, and give the whole answer."""
        key = idempotency_key(clock.new_id())
        path, body = f"{self.path}/bank-files", make_order(**facts)
        made: dict[str, Any] = await self.clerk.ok("POST", path, json=body, headers=key, status=201)
        return made

    async def fetch(self, file: dict[str, Any]) -> bytes:
        """Give a file's content."""
        answer = await self.clerk.get(f"{self.path}/bank-files/{file['id']}/content")
        return answer.raise_for_status().content

    async def bring(self, content: bytes, name: str = "answer.xml") -> dict[str, Any]:
        """Take in a bank's file."""
        path, files = f"{self.path}/bank-results", {"file": (name, content)}
        answers: dict[str, Any] = await self.clerk.ok("POST", path, files=files)
        return answers

    async def refused(self, content: bytes, code: str, status: int = 409) -> list[str]:
        """Expect a refusal that changes nothing; give the codes of what differs."""
        before = await self.lines()
        problem = await self.clerk.refused(
            "POST",
            f"{self.path}/bank-results",
            files={"file": ("answer.xml", content)},
            status=status,
            code=code,
        )
        assert await self.lines() == before
        return [error["code"] for error in problem["errors"]]

    async def lines(self) -> dict[int, tuple[str, str | None]]:
        """Give status and reason of the run's cash, by line."""
        page = await self.clerk.ok("GET", f"{self.path}/payouts")
        return {
            each["line_no"]: (each["status"], each["failure_reason"])
            for each in page["items"]
            if each["amount_fen"]
        }

    async def of_state(self, status: str) -> list[int]:
        """Give the lines in a state."""
        return [number for number, (found, _) in (await self.lines()).items() if found == status]

    def end_to_end(self, line_no: int) -> str:
        """Give the id by which the bank knows a line."""
        return known_id(self.keyring, self.run.id, line_no).hex


@pytest_asyncio.fixture
async def desk(client: Callable[..., Client], session: AsyncSession, keyring: Keyring) -> Desk:
    thanks = await make_bank_thanks(session, keyring)
    run = await make_bank_run(session, thanks)
    await session.commit()
    return Desk(client(Role.FINANCE_CLERK), run, thanks, keyring)


@pytest.fixture(autouse=True)
async def _books(database: Database) -> Any:
    """After every test the books agree."""
    yield
    await agree(database)


def _statuses(answers: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [
        (each["outcome"], each["status"], (each["problem"] or {}).get("code"))
        for each in answers["items"]
    ]


async def test_a_run_is_paid_by_a_bank_and_one_payment_comes_back(desk: Desk) -> None:
    made = await desk.ask()
    file = made["file"]
    assert (file["number"], file["line_count"], file["amount_fen"]) == (1, 3, 37_035)
    assert (made["without_account_count"], file["debtor_account_masked"]) == (1, "****4567")
    sending = await desk.of_state("sending")
    assert len(sending) == 3
    assert [reason for _, reason in (await desk.lines()).values() if reason] == ["没有收款账户"]
    content = await desk.fetch(file)
    assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert await desk.fetch(file) == content

    order = bank_sandbox.Order(content)
    wrong = desk.end_to_end(sending[0])
    report = bank_sandbox.status_report(content, rejected={wrong: "AC04"})
    answers = await desk.bring(report)
    assert (answers["format"], answers["repeated"], answers["ignored"]) == ("pain.002", False, 0)
    assert sorted(_statuses(answers)) == [
        ("failed", "recorded", None),
        ("paid", "recorded", None),
        ("paid", "recorded", None),
    ]
    assert (await desk.lines())[sending[0]] == ("failed", "收款账户已销户（AC04）")

    back = desk.end_to_end(sending[1])
    rest = [each for each in order.ids if each not in {wrong, back}]
    camt = bank_sandbox.notification(content, booked=[back, *rest], returned={back: "MS02"})
    answers = await desk.bring(camt)
    assert _statuses(answers) == [
        ("paid", "unchanged", None),
        ("paid", "unchanged", None),
        ("returned", "recorded", None),
    ]
    lines = await desk.lines()
    assert lines[sending[1]] == ("returned", "收款人拒收（MS02）")
    assert lines[sending[2]] == ("paid", None)
    entries = await desk.clerk.ok(
        "GET", f"/v1/payouts/{known_id(desk.keyring, desk.run.id, sending[1])}/entries"
    )
    assert [entry["kind"] for entry in entries["items"]] == ["reserve", "pay", "return"]


async def test_what_a_bank_said_is_forgotten_with_whom_it_was_about(
    desk: Desk, officer: Client
) -> None:
    content = await desk.fetch(await desk.make())
    line, *_ = await desk.of_state("sending")
    report = bank_sandbox.status_report(content, rejected={desk.end_to_end(line): "AC04"})
    headers = idempotency_key("answer")
    path, files = f"{desk.path}/bank-results", {"file": ("answer.xml", report)}
    first = await desk.clerk.ok("POST", path, files=files, headers=headers)
    assert await desk.clerk.ok("POST", path, files=files, headers=headers) == first
    page = await desk.clerk.ok("GET", f"{desk.path}/payouts")
    (whose,) = (each["member_id"] for each in page["items"] if each["line_no"] == line)
    assert whose not in str(first)
    member = f"/v1/members/{whose}"
    await officer.ok("POST", f"{member}/consents/withdraw", json={"purpose": "payment"})
    forgotten: dict[str, Any] = {"status": 409, "code": "answer_forgotten"}
    await desk.clerk.refused("POST", path, files=files, headers=headers, **forgotten)


@pytest.mark.parametrize("kind", ["camt.053", "camt.054"])
async def test_a_statement_alone_tells_what_was_paid(desk: Desk, kind: str) -> None:
    content = await desk.fetch(await desk.make())
    back = bank_sandbox.Order(content).ids[0]
    answers = await desk.bring(
        bank_sandbox.notification(content, returned={back: "AC01"}, kind=kind)
    )
    assert answers["format"] == kind
    assert sorted(each for each, _, _ in _statuses(answers)) == ["paid", "paid", "returned"]
    # A return of what nobody had said to be paid passes through the books as paid.
    assert len(await desk.of_state("returned")) == 1


async def test_the_same_file_again_changes_nothing_and_says_so(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    ids = bank_sandbox.Order(content).ids
    report = bank_sandbox.status_report(content, rejected={ids[0]: "AC01"})
    camt = bank_sandbox.notification(content, booked=ids[1:], returned={ids[1]: "AC04"})
    for each in (report, camt):
        await desk.bring(each)
    before = await desk.lines()
    for each in (report, camt, report):
        answers = await desk.bring(each)
        assert answers["repeated"]
        assert {status for _, status, _ in _statuses(answers)} == {"unchanged"}
    assert await desk.lines() == before


async def test_what_the_bank_has_not_decided_stays_on_its_way(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    for status in ("ACTC", "ACCP", "PDNG"):
        answers = await desk.bring(bank_sandbox.status_report(content, status=status))
        assert set(_statuses(answers)) == {("sending", "unchanged", None)}
    answers = await desk.bring(bank_sandbox.status_report(content, status="ZZZZ"))
    assert set(_statuses(answers)) == {("unknown", "rejected", "bank_entry_unclear")}
    assert len(await desk.of_state("sending")) == 3
    key = {"If-Match": f'"{desk.run.version}"'}
    await desk.clerk.refused(
        "POST", f"{desk.path}/settle", headers=key, status=409, code="payouts_pending"
    )


async def test_a_file_that_was_rejected_whole_sets_its_payouts_free_for_another(
    desk: Desk,
) -> None:
    first = await desk.make()
    content = await desk.fetch(first)
    report = bank_sandbox.status_report(content, group="RJCT")
    answers = await desk.bring(report)
    assert _statuses(answers) == [("pending", "recorded", None)] * 3
    rejected = await desk.clerk.ok("GET", f"{desk.path}/bank-files/{first['id']}")
    assert rejected["rejected_at"] is not None
    assert rejected["status_reason"] == "付款账户余额不足（AM04）"
    second = await desk.make()
    assert (second["number"], second["line_count"]) == (2, 3)

    # What is said of the first file, again or anew, touches nothing of the second.
    assert set(_statuses(await desk.bring(report))) == {("pending", "unchanged", None)}
    late = bank_sandbox.status_report(content, group="RJCT", reason="RR04")
    assert set(_statuses(await desk.bring(late))) == {("pending", "unchanged", None)}
    paid = bank_sandbox.status_report(content)
    assert set(_statuses(await desk.bring(paid))) == {("paid", "rejected", "payout_contradiction")}
    assert len(await desk.of_state("sending")) == 3
    await desk.bring(bank_sandbox.status_report(await desk.fetch(second), group="ACSC"))
    assert len(await desk.of_state("paid")) == 3


async def test_a_bank_that_has_paid_some_cannot_have_done_nothing(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    ids = bank_sandbox.Order(content).ids
    await desk.bring(bank_sandbox.notification(content, booked=ids[:1]))
    answers = await desk.bring(bank_sandbox.status_report(content, group="RJCT"))
    assert set(_statuses(answers)) == {("pending", "rejected", "payout_contradiction")}
    assert len(await desk.of_state("sending")) == 2


async def test_a_line_that_is_paid_by_one_file_and_rejected_by_another_is_told(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    ids = bank_sandbox.Order(content).ids
    await desk.bring(bank_sandbox.status_report(content))
    answers = await desk.bring(bank_sandbox.status_report(content, rejected={ids[0]: "AC01"}))
    assert sorted(_statuses(answers)) == [
        ("failed", "rejected", "payout_contradiction"),
        ("paid", "unchanged", None),
        ("paid", "unchanged", None),
    ]


async def test_a_debit_that_stands_twice_on_a_statement_is_told(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    one = bank_sandbox.Order(content).ids[:1]
    camt = bank_sandbox.notification(content, booked=one)
    start, end = camt.index(b"<Ntry>"), camt.index(b"</Ntry>") + len(b"</Ntry>")
    twice = camt[:end] + camt[start:end] + camt[end:]
    twice = twice.replace(b"<NbOfNtries>1<", b"<NbOfNtries>2<").replace(
        b"<Sum>123.45<", b"<Sum>246.90<"
    )
    assert _statuses(await desk.bring(twice)) == [
        ("paid", "recorded", None),
        ("paid", "rejected", "bank_entry_repeated"),
    ]


def _edited(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    def edit(report: bytes) -> bytes:
        assert before in report
        return report.replace(before, after, 1)

    return edit


_EDITS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "an amount": ("pain.002", _edited(b'"CNY">123.45<', b'"CNY">123.46<'), "bank_amount_differs"),
    "a part of a fen": (
        "pain.002",
        _edited(b'"CNY">123.45<', b'"CNY">123.451<'),
        "bank_sum_differs",
    ),
    "a currency": ("pain.002", _edited(b'"CNY">', b'"HKD">'), "bank_currency_differs"),
    "the count": (
        "pain.002",
        _edited(b"OrgnlNbOfTxs>3<", b"OrgnlNbOfTxs>4<"),
        "bank_count_differs",
    ),
    "the sum": (
        "pain.002",
        _edited(b"OrgnlCtrlSum>370.35<", b"OrgnlCtrlSum>370.36<"),
        "bank_sum_differs",
    ),
    "the count of a status": (
        "pain.002",
        _edited(b"DtldNbOfTxs>3<", b"DtldNbOfTxs>2<"),
        "bank_count_differs",
    ),
    "another part": (
        "pain.002",
        _edited(b"<OrgnlPmtInfId>", b"<OrgnlPmtInfId>x"),
        "bank_file_differs",
    ),
    "a debit": (
        "camt.054",
        lambda camt: camt.replace(b">123.45<", b">123.44<", 2).replace(b">370.35<", b">370.34<"),
        "bank_amount_differs",
    ),
    "the entries": ("camt.054", _edited(b"NbOfNtries>3<", b"NbOfNtries>2<"), "bank_count_differs"),
    "the sum of the entries": (
        "camt.054",
        _edited(b"Sum>370.35<", b"Sum>370.3<"),
        "bank_sum_differs",
    ),
}


@pytest.mark.parametrize("what", _EDITS)
async def test_a_file_that_was_changed_is_refused_whole(desk: Desk, what: str) -> None:
    kind, edit, code = _EDITS[what]
    content = await desk.fetch(await desk.make())
    make = bank_sandbox.status_report if kind == "pain.002" else bank_sandbox.notification
    assert await desk.refused(edit(make(content)), "bank_answer_mismatch") == [code]
    # Nothing was answered, so the file may still be sent.
    assert await desk.fetch((await desk.clerk.ok("GET", f"{desk.path}/bank-files"))["items"][0])


async def test_what_a_bank_says_is_answered_with_its_payout_as_the_file_leaves_it(
    desk: Desk,
) -> None:
    report = bank_sandbox.status_report(await desk.fetch(await desk.make()))
    first, again = await desk.bring(report), await desk.bring(report)
    lines = await desk.lines()

    assert first["items"]
    for status, answers in (("recorded", first), ("unchanged", again)):
        for item in answers["items"]:
            state, reason = lines[item["line_no"]]
            assert item["status"] == status
            assert item["resource"] == {
                "id": str(known_id(desk.keyring, desk.run.id, item["line_no"])),
                "line_no": item["line_no"],
                "status": state,
                "failure_reason": reason,
            }


async def _as_made_before(desk: Desk, content: bytes) -> bytes:
    """Give a file as one was made before ids had another number outside."""
    for number in await desk.of_state("sending"):
        plain = payout_id(desk.run.id, number).hex.encode()
        assert desk.end_to_end(number).encode() in content
        content = content.replace(desk.end_to_end(number).encode(), plain)
    return content


async def test_a_bank_answers_by_the_ids_of_a_file_made_before_the_upgrade(desk: Desk) -> None:
    content = await _as_made_before(desk, await desk.fetch(await desk.make()))
    first, second, _ = bank_sandbox.Order(content).ids
    answers = await desk.bring(bank_sandbox.status_report(content, rejected={first: "AC04"}))
    assert sorted(_statuses(answers)) == [
        ("failed", "recorded", None),
        ("paid", "recorded", None),
        ("paid", "recorded", None),
    ]
    failed = next(each for each in answers["items"] if each["outcome"] == "failed")
    assert payout_id(desk.run.id, failed["line_no"]).hex == first
    assert failed["resource"]["id"] == str(UUID(desk.end_to_end(failed["line_no"])))
    camt = bank_sandbox.notification(content, booked=[second], returned={second: "MS02"})
    assert _statuses(await desk.bring(camt)) == [
        ("paid", "unchanged", None),
        ("returned", "recorded", None),
    ]


@pytest.mark.parametrize("kind", ["camt.053", "camt.054"])
async def test_a_statement_alone_tells_of_a_file_made_before_the_upgrade(
    desk: Desk, kind: str
) -> None:
    content = await _as_made_before(desk, await desk.fetch(await desk.make()))
    answers = await desk.bring(bank_sandbox.notification(content, kind=kind))
    assert _statuses(answers) == [("paid", "recorded", None)] * 3
    assert len(await desk.of_state("paid")) == 3


async def test_a_plain_id_beyond_the_answered_file_is_none_of_its(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    beyond = min(set(await desk.lines()) - set(await desk.of_state("sending")))
    one = bank_sandbox.Order(content).ids[0]
    report = bank_sandbox.status_report(content).replace(
        one.encode(), payout_id(desk.run.id, beyond).hex.encode()
    )
    assert sorted(map(str, _statuses(await desk.bring(report)))) == [
        "('paid', 'recorded', None)",
        "('paid', 'recorded', None)",
        "('paid', 'rejected', 'not_found')",
    ]
    assert (await desk.lines())[beyond] == ("failed", "没有收款账户")


@pytest.mark.parametrize("unknown", ["f" * 32, "NOTPROVIDED"])
@pytest.mark.parametrize("whole", ["ACSC", "RJCT"])
async def test_a_whole_with_an_unknown_payment_is_no_payments_status(
    desk: Desk, unknown: str, whole: str
) -> None:
    """The one of which another status is told may be any."""
    content = await desk.fetch(await desk.make())
    group = f"</OrgnlCtrlSum><GrpSts>{whole}</GrpSts>".encode()
    one = bank_sandbox.Order(content).ids[0]
    report = bank_sandbox.status_report(content, status="PDNG", rejected={one: "AC04"})
    report = report.replace(b"</OrgnlCtrlSum>", group, 1)
    for each in ("PDNG", "RJCT"):
        start = report.index(b"<NbOfTxsPerSts>")
        end = report.index(b"</NbOfTxsPerSts>") + len(b"</NbOfTxsPerSts>")
        assert each.encode() in report[start:end]
        report = report[:start] + report[end:]
    start, end = report.index(b"<TxInfAndSts>"), report.rindex(b"</TxInfAndSts>")
    told = next(each for each in report[start:end].split(b"</TxInfAndSts>") if one.encode() in each)
    report = report[:start] + told + report[end:]
    answers = await desk.bring(report.replace(one.encode(), unknown.encode()))
    assert _statuses(answers) == [("failed", "rejected", "not_found")]
    assert len(await desk.of_state("sending")) == 3
    answers = await desk.bring(report)
    assert ("failed", "recorded", None) in _statuses(answers)
    assert not await desk.of_state("sending"), "of the others the whole's status is told"


async def test_the_ids_of_a_whole_file_are_shown_beside_other_requests(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = list[threading.Thread]()
    shown_in = numbered_ids.shown_in

    def noted(keyring: Keyring, answer: Any) -> Any:
        threads.append(threading.current_thread())
        return shown_in(keyring, answer)

    report = bank_sandbox.status_report(await desk.fetch(await desk.make()))
    with monkeypatch.context() as patch:
        # What an answer holds is shown by the name, too.
        patch.setattr(numbered_ids, "shown_in", noted)
        await desk.bring(report)
    assert threads
    assert threading.current_thread() not in threads


async def test_a_foreign_file_is_refused_and_foreign_payments_are_told(
    desk: Desk, session: AsyncSession, keyring: Keyring
) -> None:
    content = await desk.fetch(await desk.make())
    other = await make_bank_run(session, await make_bank_thanks(session, keyring, 2, sequence=2))
    await session.commit()
    theirs = Desk(desk.clerk, other, desk.thanks, keyring)
    their_content = await theirs.fetch(await theirs.make())

    for report in (
        bank_sandbox.status_report(their_content),
        bank_sandbox.status_report(content).replace(b"<OrgnlMsgId>", b"<OrgnlMsgId>X"),
    ):
        await desk.refused(report, "bank_answer_foreign")
    answers = await desk.bring(bank_sandbox.notification(their_content))
    assert _statuses(answers) == [("paid", "rejected", "not_found")]
    assert answers["items"][0]["line_no"] is None
    assert answers["items"][0]["resource"] is None
    assert answers["items"][0]["problem"]["type"] == "/problems/not_found"
    assert len(await desk.of_state("sending")) == 3
    # A line of the run that was not in the file is none of the message's.
    cash = await desk.lines()
    gift = next(number for number in range(1, 9) if number not in cash)
    ours = desk.end_to_end((await desk.of_state("sending"))[0]).encode()
    report = bank_sandbox.status_report(content)
    swapped = report.replace(ours, desk.end_to_end(gift).encode())
    assert ("paid", "rejected", "not_found") in _statuses(await desk.bring(swapped))


async def test_a_statement_of_other_things_is_taken_and_tells_how_many(desk: Desk) -> None:
    content = await desk.fetch(await desk.make())
    camt = bank_sandbox.notification(content)
    for each in bank_sandbox.Order(content).ids:
        camt = camt.replace(each.encode(), b"NOTPROVIDED")
    answers = await desk.bring(camt)
    assert (answers["items"], answers["ignored"]) == ([], 3)
    empty = bank_sandbox.notification(content, booked=[])
    answers = await desk.bring(empty)
    assert (answers["items"], answers["ignored"]) == ([], 0)
    assert len(await desk.of_state("sending")) == 3


async def test_files_of_a_run_follow_one_another_until_nothing_waits(desk: Desk) -> None:
    made = [await desk.ask(max_lines=2) for _ in range(2)]
    assert sum(each["without_account_count"] for each in made) == 1
    files = [each["file"] for each in made]
    assert sum(each["line_count"] for each in files) == 3
    page = await desk.clerk.ok("GET", f"{desk.path}/bank-files")
    assert page["items"] == files
    problem = await desk.clerk.refused(
        "POST",
        f"{desk.path}/bank-files",
        json=make_order(),
        headers=idempotency_key("more"),
        status=409,
        code="nothing_to_send",
    )
    assert problem["title"]


async def test_members_without_a_bank_account_fail_though_there_is_no_file(
    desk: Desk, session: AsyncSession, keyring: Keyring
) -> None:
    for member in desk.thanks.members[:-1]:
        named = f"wallet-{member.id}"[:20]
        stored = await session.merge(member)
        await give_account(session, keyring, stored, kind="electronic", number=named)
    await session.commit()
    made = await desk.ask()
    assert (made["file"], made["without_account_count"]) == (None, 4)
    reasons = [reason for _, reason in (await desk.lines()).values()]
    assert sorted(map(str, reasons)) == ["收款账户不是银行账户"] * 3 + ["没有收款账户"]


async def test_a_file_is_made_once_for_two_clicks(desk: Desk) -> None:
    options: dict[str, Any] = {"json": make_order(), "headers": idempotency_key("twice")}
    answers = [await desk.clerk.post(f"{desk.path}/bank-files", **options) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    location = f"{desk.path}/bank-files/{answers[0].json()['file']['id']}"
    assert answers[0].headers["location"] == location


async def test_a_file_needs_its_run_its_channel_and_a_fresh_sign_in(
    desk: Desk, client: Callable[..., Client], session: AsyncSession
) -> None:
    cash = await make_granted_run(session, await make_thanks(session, sequence=3))
    await session.commit()
    path, body = "bank-files", make_order()
    key = idempotency_key("k")
    await desk.clerk.refused(
        "POST",
        f"/v1/payout-runs/{cash.id}/{path}",
        json=body,
        headers=key,
        status=409,
        code="run_channel",
    )
    past = make_order(execution_on="2026-01-01")
    problem = await desk.clerk.refused(
        "POST", f"{desk.path}/{path}", json=past, headers=key, status=422, code="invalid"
    )
    assert problem["errors"][0]["code"] == "execution_in_the_past"
    far = client(Role.FINANCE_CLERK, areas=[GUICHENG])
    await far.refused(
        "POST", f"{desk.path}/{path}", json=body, headers=key, status=404, code="not_found"
    )
    file = await desk.make()
    tired = client(Role.FINANCE_CLERK, step_up=False)
    for method, url, options in (
        ("POST", f"{desk.path}/{path}", {"json": body, "headers": key}),
        ("GET", f"{desk.path}/{path}/{file['id']}/content", {}),
    ):
        await tired.refused(
            method, url, status=401, code="insufficient_user_authentication", **options
        )


async def test_nobody_is_erased_while_a_bank_has_her_payment_and_then_nothing_is_left(
    desk: Desk, officer: Client
) -> None:
    await _hand_out_gifts(desk)
    file = await desk.make()
    content = await desk.fetch(file)
    member = desk.thanks.members[0]
    path = f"/v1/members/{member.id}/erase"
    version = (await officer.ok("GET", f"/v1/members/{member.id}"))["version"]
    key = {"If-Match": f'"{version}"'}
    await officer.refused("POST", path, headers=key, status=409, code="erasure_blocked")
    await desk.bring(bank_sandbox.status_report(content))
    await officer.ok("POST", path, headers=key)
    await desk.clerk.refused(
        "GET",
        f"{desk.path}/bank-files/{file['id']}/content",
        status=409,
        code="bank_file_forgotten",
    )
    # The return comes after she is gone, and still finds its fund.
    back = bank_sandbox.Order(content).ids[0]
    await desk.bring(bank_sandbox.notification(content, booked=[], returned={back: "AC06"}))
    assert len(await desk.of_state("returned")) == 1


async def _reconciled(desk: Desk) -> dict[str, int]:
    told = await desk.clerk.ok("GET", f"{desk.path}/reconciliation")
    return {each["outcome"]: each["payout_count"] for each in told["outcomes"]}


async def _hand_out_gifts(desk: Desk) -> None:
    page = await desk.clerk.ok("GET", f"{desk.path}/payouts", params={"limit": "200"})
    gifts = [line["line_no"] for line in page["items"] if not line["amount_fen"]]
    results = [{"line_no": number, "outcome": "paid"} for number in gifts]
    await desk.clerk.ok("POST", f"{desk.path}/results", json={"results": results})


async def test_a_return_after_the_run_is_settled_makes_the_grant_free(
    desk: Desk, session: AsyncSession
) -> None:
    content = await desk.fetch(await desk.make())
    await desk.bring(bank_sandbox.status_report(content))
    await _hand_out_gifts(desk)
    run = await desk.clerk.ok("GET", desk.path)
    await desk.clerk.ok("POST", f"{desk.path}/settle", headers={"If-Match": f'"{run["version"]}"'})
    assert await _reconciled(desk) == {"matched": 7, "failed": 1}
    await session.execute(text("update bank_files set answered_at = null"))
    await session.commit()
    assert await _reconciled(desk) == {"matched": 4, "failed": 1, "no_signature_line": 3}
    back = bank_sandbox.Order(content).ids
    await desk.bring(bank_sandbox.notification(content, booked=[], returned={back[0]: "AC04"}))
    released = await session.scalar(text("select released from payouts where status = 'returned'"))
    assert released == 1


async def test_the_audit_knows_whose_accounts_were_used(desk: Desk, owner: Database) -> None:
    file = await desk.make()
    await desk.fetch(file)
    rows = await owner.pool.fetch("select entry from audit_unsealed order by id")
    entries = [row["entry"] for row in rows]
    used = [each for each in entries if '"purpose":"payout"' in each]
    assert len(used) == 2
    for member in desk.thanks.members[:-1]:
        assert all(member.id.hex in each for each in used)
    assert all('"fields":["payout_account"]' in each for each in used)
    assert file["id"] in used[0]


async def test_no_account_number_stands_in_the_database_in_clear(
    desk: Desk, owner: Database
) -> None:
    content = await desk.fetch(await desk.make())
    # The id of a run ends in zeros, of which some follow a 62.
    rows = await owner.pool.fetch(
        "select replace(f::text, run_id::text, '') as row from bank_files f"
    )
    assert b"62000000" in content.replace(b" ", b"")
    assert all("62000000" not in row["row"] for row in rows)
    assert all("80020000001234567" not in row["row"] for row in rows)


def _hostile(kind: str) -> bytes:
    bomb = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 9))
    ns = b"urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"
    return {
        "a bomb": b'<!DOCTYPE x [<!ENTITY a0 "ha">' + bomb + b"]><x>&a8;</x>",
        "an outside entity": (
            b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Document>&a;</Document>'
        ),
        "a document type": b'<!DOCTYPE Document SYSTEM "http://127.0.0.1/x.dtd"><Document/>',
        "too deep": b"<a>" * 100_000,
        "too many": b"<Document>" + b"<a/>" * 600_000 + b"</Document>",
        "too long": b"<Document><a>" + b"x" * 20_000 + b"</a></Document>",
        "not closed": b"<Document><a>",
        "another encoding": '<?xml version="1.0"?><Document>协会</Document>'.encode("gbk"),
        "another namespace": b'<Document xmlns="urn:x"><CstmrPmtStsRpt/></Document>',
        "another version": b'<Document xmlns="' + ns[:-2] + b'03"><CstmrPmtStsRpt/></Document>',
        "nothing in it": b'<Document xmlns="' + ns + b'"/>',
        "a mix of namespaces": (
            b'<Document xmlns="' + ns + b'"><CstmrPmtStsRpt xmlns="urn:x"/></Document>'
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "a bomb", "an outside entity", "a document type", "too deep", "too many", "too long",
        "not closed", "another encoding", "another namespace", "another version",
        "nothing in it", "a mix of namespaces",
    ],
)  # fmt: skip
async def test_hostile_xml_is_refused(desk: Desk, kind: str) -> None:
    assert await desk.refused(_hostile(kind), "bank_answer_unreadable", 422) == []


async def _withdraw(client: Callable[..., Client], desk: Desk) -> None:
    """Have the first member take her consent back to being paid to her account."""
    officer, member = client(Role.DISTRICT_OFFICER), desk.thanks.members[0]
    path = f"/v1/members/{member.id}/consents/withdraw"
    await officer.ok("POST", path, json={"purpose": "payment"})


async def _is_discarded(desk: Desk, file: dict[str, Any]) -> dict[str, Any]:
    path = f"{desk.path}/bank-files/{file['id']}"
    problem = await desk.clerk.refused(
        "GET", f"{path}/content", status=410, code="bank_file_discarded"
    )
    member = desk.thanks.members[0]
    assert not {member.name, str(member.id)} & set(str(problem).split("'"))
    found: dict[str, Any] = await desk.clerk.ok("GET", path)
    assert found["discarded_at"] is not None
    return found


async def test_a_withdrawal_discards_a_file_that_nobody_was_given_and_another_pays_the_rest(
    desk: Desk, client: Callable[..., Client], owner: Database, keyring: Keyring
) -> None:
    first = await desk.make()
    assert (first["given_at"], first["discarded_at"]) == (None, None)
    sealed = await owner.pool.fetchval("select content_sealed from bank_files")
    content = keyring.decrypt_bytes(sealed, place=f"bank_files.content_sealed:{first['id']}")
    await _withdraw(client, desk)
    assert await owner.pool.fetchval("select content_sealed from bank_files") is None
    assert (await _is_discarded(desk, first))["given_at"] is None
    assert len(await desk.of_state("pending")) == 3
    noted = "select count(*) from audit_unsealed where position($1 in entry) > 0"
    assert await owner.pool.fetchval(noted, first["id"]) >= 2

    made = await desk.ask()
    assert (made["file"]["line_count"], made["without_account_count"]) == (2, 1)
    # What a bank says of a file that it never had touches nothing of the other.
    for report in (
        bank_sandbox.status_report(content),
        bank_sandbox.status_report(content, group="RJCT"),
    ):
        await desk.bring(report)
        assert len(await desk.of_state("sending")) == 2
    assert await desk.fetch(made["file"])
    report = bank_sandbox.status_report(await desk.fetch(made["file"]))
    await desk.bring(report)
    assert len(await desk.of_state("paid")) == 2


async def test_asking_for_the_headers_alone_gives_no_file_out(desk: Desk) -> None:
    file = await desk.make()
    path = f"{desk.path}/bank-files/{file['id']}"
    asked = await desk.clerk.head(f"{path}/content")
    assert asked.status_code == 200
    assert "attachment" in asked.headers["content-disposition"]
    assert (await desk.clerk.ok("GET", path))["given_at"] is None
    await desk.fetch(file)
    given = (await desk.clerk.ok("GET", path))["given_at"]
    assert given is not None
    await desk.clerk.head(f"{path}/content")
    assert (await desk.clerk.ok("GET", path))["given_at"] == given


async def test_what_was_given_out_may_be_at_the_bank_and_is_not_paid_again(
    desk: Desk, client: Callable[..., Client], owner: Database
) -> None:
    file = await desk.make()
    content = await desk.fetch(file)
    await _withdraw(client, desk)
    assert await owner.pool.fetchval("select content_sealed from bank_files") is None
    assert (await _is_discarded(desk, file))["given_at"] is not None
    assert len(await desk.of_state("sending")) == 3
    await desk.clerk.refused(
        "POST",
        f"{desk.path}/bank-files",
        json=make_order(),
        headers=idempotency_key("again"),
        status=409,
        code="nothing_to_send",
    )
    await desk.bring(bank_sandbox.status_report(content))
    assert len(await desk.of_state("paid")) == 3


@pytest.mark.parametrize("given", ["", "given out"])
async def test_what_nobody_fetched_in_its_time_is_paid_by_another_file(
    desk: Desk, database: Database, owner: Database, given: str
) -> None:
    file, run_at = await desk.make(), clock.now() + timedelta(days=40)
    if given:
        await desk.fetch(file)
    gone = await retaining.run(
        Door(database), district_code=desk.run.district_code, night_on=None, now=run_at
    )
    assert gone["bank_files", Act.CLEAR] == 1
    assert await owner.pool.fetchval("select content_sealed from bank_files") is None
    path = f"{desk.path}/bank-files/{file['id']}"
    if given:
        # It may be at the bank, which is to say what became of it.
        assert len(await desk.of_state("sending")) == 3
        await desk.clerk.refused("GET", f"{path}/content", status=409, code="bank_file_forgotten")
        return
    await _is_discarded(desk, file)
    assert len(await desk.of_state("pending")) == 3
    again = await desk.make()
    await desk.bring(bank_sandbox.status_report(await desk.fetch(again)))
    assert len(await desk.of_state("paid")) == 3


async def test_a_file_of_other_members_stays(
    desk: Desk, client: Callable[..., Client], session: AsyncSession, keyring: Keyring
) -> None:
    other = await make_bank_run(session, await make_bank_thanks(session, keyring, 2, sequence=2))
    await session.commit()
    theirs = Desk(desk.clerk, other, desk.thanks, keyring)
    file, their_file = await desk.make(), await theirs.make()
    await _withdraw(client, theirs)
    assert await theirs.fetch(their_file)
    await _is_discarded(desk, file)


async def test_an_erasure_discards_what_is_left(
    desk: Desk, client: Callable[..., Client], owner: Database
) -> None:
    await desk.make()
    member = desk.thanks.members[0]
    # Her payment has a result by another way, and the bank never answered of the file.
    await owner.pool.execute(
        "update payouts set status = 'failed', failure_reason = 'x', settled_at = now()"
        " where member_id = $1 and status in ('sending', 'pending')",
        member.id,
    )
    await owner.pool.execute(
        "update members set payment_consented_on = null, payout_account_sealed = null,"
        " payout_account_index = null where id = $1",
        member.id,
    )
    officer = client(Role.DISTRICT_OFFICER)
    read = await officer.ok("GET", f"/v1/members/{member.id}")
    headers = {"If-Match": f'"{read["version"]}"'}
    await officer.ok("POST", f"/v1/members/{member.id}/erase", headers=headers)
    assert await owner.pool.fetchval("select content_sealed from bank_files") is None
    assert len(await desk.of_state("pending")) == 2


async def test_a_withdrawal_waits_for_a_file_in_the_making_and_discards_it(
    desk: Desk, client: Callable[..., Client], owner: Database
) -> None:
    hers = "select line_no from payouts where member_id = $1 and amount_fen > 0"
    line = await owner.pool.fetchval(hers, desk.thanks.members[0].id)
    async with owner.pool.acquire() as making:
        transaction = making.transaction()
        await transaction.start()
        await making.execute("select from payout_runs where id = $1 for update", desk.run.id)
        withdrawing = asyncio.create_task(_withdraw(client, desk))
        await asyncio.sleep(0.5)
        assert not withdrawing.done()
        await making.execute(
            "insert into bank_files (district_code, id, run_id, number, format, execution_on,"
            " debtor_name, debtor_account_masked, debtor_bank_code, lines, amount_fen, sha256,"
            " content_sealed, created_at, created_by) values ($1, $2, $3, 1, 'csv', '2026-12-01',"
            " 'x', '****4567', '105588000018', array[$4::int], 12345, repeat('0', 64), 'x', now(),"
            " 'o')",
            desk.run.district_code,
            clock.new_id(),
            desk.run.id,
            line,
        )
        await transaction.commit()
    await withdrawing
    assert await owner.pool.fetchval("select content_sealed from bank_files") is None
