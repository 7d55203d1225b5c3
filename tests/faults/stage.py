"""The application as a model's steps reach it, with everybody who calls."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.roles import Role
from tests import tables
from tests.factories.callers import Client, idempotency_key
from tests.factories.organisation.associations import make_association
from tests.faults.model import Refused
from tests.rules.histories import AREAS

_T = TypeVar("_T")


class Stage:
    """The application with its callers, reached from tests that are not coroutines."""

    def __init__(self, owner: Database, database: Database, client: Callable[..., Client]) -> None:
        self.owner, self.database = owner, database
        self.loop = asyncio.get_running_loop()
        self.officer = client(Role.DISTRICT_OFFICER)
        self.clerk = client(Role.FINANCE_CLERK)
        self.approver = client(Role.FINANCE_APPROVER)
        self.met: Counter[str] = Counter()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(work)

    def payout(self, run_id: str, line_no: int) -> str:
        """Give the id of a line of a run."""
        listed = self.do(self.clerk.ok("GET", f"/v1/payout-runs/{run_id}/payouts?limit=200"))
        return str(next(each["id"] for each in listed["items"] if each["line_no"] == line_no))

    def call(self, caller: Client, method: str, path: str, **options: Any) -> Any:
        """Send a request, now and then twice, and give its document; raises Refused."""
        options["headers"] = options.get("headers", {})
        if method == "POST":
            options["headers"] |= idempotency_key(clock.new_id())
        answer = self.do(caller.request(method, path, **options))
        self.met["requests"] += 1
        if method == "POST" and answer.is_success and self.met["requests"] % 4 == 0:
            again = self.do(caller.request(method, path, **options))
            assert (again.status_code, again.content) == (answer.status_code, answer.content)
            assert again.headers["idempotency-replayed"] == "true"
            self.met["requests"] += 1
        if not answer.is_success:
            self.met[f"{answer.status_code} {answer.json()['code']}"] += 1
            raise Refused(answer.json()["code"])
        return answer.json() if answer.content else None

    async def empty(self) -> list[str]:
        """Begin with three associations and nothing else; the callers' grants stay."""
        await tables.empty(self.owner, besides={"grants"})
        async with AsyncSession(self.owner.engine, expire_on_commit=False) as session:
            made = [
                await make_association(session, "village", area_code=a, name=f"协会{a}")
                for a in AREAS
            ]
            await session.commit()
        return [str(association.id) for association in made]
