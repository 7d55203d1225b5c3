"""The books check on what banks were given: each file agrees with its payouts, or it is told."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, transaction
from app.models.channels.bank_files import BankFileCreate
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.channels import bank_files
from tests.factories.callers import DISTRICT, make_act, make_caller
from tests.factories.channels.bank_files import make_bank_run, make_bank_thanks, make_order
from tests.factories.finance.funds import agree

_BANK_TAMPERED = {
    "another amount": ("bank_file_totals", "update bank_files set amount_fen = amount_fen + 1"),
    "a line more": ("bank_file_totals", "update bank_files set lines = lines || 999"),
    "a line twice": ("bank_file_totals", "update bank_files set lines = lines || lines[1]"),
    "a payout that grew": (
        "bank_file_totals",
        "update payouts set amount_fen = amount_fen + 1 where status = 'sending'",
    ),
    "on its way without a file": (
        "bank_file_lines",
        (
            "update payouts set status = 'sending', failure_reason = null, settled_at = null"
            " where status = 'failed'"
        ),
    ),
    "on its way in a file that was rejected": (
        "bank_file_lines",
        (
            "update bank_files set content_sealed = null, answered_at = now(),"
            " rejected_at = now(), status_reason = 'x'"
        ),
    ),
    "in two files": (
        "bank_file_lines",
        (
            "insert into bank_files select district_code, gen_random_uuid(), run_id, 2, format,"
            " execution_on, debtor_name, debtor_account_masked, debtor_bank_code, lines,"
            " amount_fen, sha256, content_sealed, created_at, created_by, answered_at,"
            " rejected_at, status_reason from bank_files"
        ),
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _BANK_TAMPERED.values(), ids=_BANK_TAMPERED)
async def test_what_a_bank_was_given_agrees_with_the_payouts(
    session: AsyncSession, database: Database, keyring: Keyring, question: str, tampering: str
) -> None:
    run = await make_bank_run(session, await make_bank_thanks(session, keyring))
    await session.commit()
    clerk = make_caller(Role.FINANCE_CLERK)
    order = BankFileCreate.model_validate(make_order())
    async with transaction(database, clerk.scope, make_act(clerk)) as making:
        await bank_files.create(making, clerk, keyring, run_id=run.id, body=order, now=clock.now())
    await agree(database)
    await session.execute(text(tampering))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert question in {each.question for each in found}
    assert all(each.expected != each.found for each in found)
