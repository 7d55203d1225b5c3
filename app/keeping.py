"""The keys of a deployment, replaced while it serves: set by set, each its own transaction."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database, Door, transaction
from app.identity import KEYS
from app.scopes import Acting, Scope
from app.services.disbursement import voucher_indexes
from app.services.organisation import areas
from app.services.privacy import blind_indexes, data_keys

_SET = 2_000


class _Step(Protocol):
    def __call__(
        self, session: AsyncSession, keyring: Keyring, *, district_code: str, limit: int
    ) -> Awaitable[int]: ...


async def rewrap(
    database: Database, keyring: Keyring, progress: Callable[[int], None], *, at_once: int = _SET
) -> int:
    """Wrap every data key by the first version of the master key; give how many were not."""
    return await _step_by_step(database, keyring, data_keys.rewrap_some, progress, at_once)


async def reindex(
    database: Database, keyring: Keyring, progress: Callable[[int], None], *, at_once: int = _SET
) -> int:
    """Index every member and open voucher by the first version of the key; give how many were not.

    What only keys that are gone from the settings had made is deleted in the end.
    """
    done = await _step_by_step(database, keyring, blind_indexes.refill_some, progress, at_once)
    done += await _step_by_step(
        database, keyring, voucher_indexes.refill_some, lambda more: progress(done + more), at_once
    )
    for scope in await _districts(database):
        async with transaction(database, scope, name="replace_keys") as session:
            await blind_indexes.forget_former(session, keyring, district_code=scope.district_code)
    return done


async def versions(database: Database) -> list[str]:
    """Say how much each version of a key holds: one that holds nothing may be thrown away."""
    lines = []
    for scope in await _districts(database):
        code = scope.district_code
        async with transaction(database, scope) as session:
            wrapped = await data_keys.count(session, district_code=code)
            indexed = await blind_indexes.count(session, district_code=code)
            found = await voucher_indexes.count(session, district_code=code)
        lines += [f"{code} master key {each}: {n} data keys" for each, n in wrapped.items()]
        lines += [f"{code} index key {each}: {n} members" for each, n in indexed.items()]
        lines += [f"{code} index key {each}: {n} open vouchers" for each, n in found.items()]
    return lines


async def _districts(database: Database) -> list[Scope]:
    codes = await areas.list_districts(Door(database).looking)
    return [Scope(Acting.DISTRICT, code, KEYS) for code in codes]


async def _step_by_step(
    database: Database,
    keyring: Keyring,
    step: _Step,
    progress: Callable[[int], None],
    at_once: int,
) -> int:
    done = 0
    for scope in await _districts(database):
        count = -1
        while count:
            async with transaction(database, scope, name="replace_keys") as session:
                count = await step(
                    session, keyring, district_code=scope.district_code, limit=at_once
                )
            done += count
            progress(done)
    return done
