"""What a person writes beside a record names no procedure, condition or finding."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.roles import Role
from tests.contract.operations import Operation, operations
from tests.factories.callers import Client, pointers

_ID = UUID(int=1)
_SECRETARY, _OFFICER = Role.SECRETARY, Role.DISTRICT_OFFICER
_CLERK, _APPROVER = Role.FINANCE_CLERK, Role.FINANCE_APPROVER
# By operation: who asks, which field, and what was written there.
_WRITTEN: dict[str, tuple[Role, str, str]] = {
    "enter_payout_run_results": (_CLERK, "/results/1/reason", "怀孕停检，绝育手术住院"),
    "leave_association": (_SECRETARY, "/reason", "怀孕，已辞退"),
    "transfer_member": (_OFFICER, "/reason", "上环后调岗"),
    "decline_draw_prize": (_CLERK, "/reason", "本人住院手术"),
    "create_draw": (_OFFICER, "/name", "孕检抽奖（查环后领取）"),
    "create_incentive_policy": (_OFFICER, "/name", "结扎手术补贴"),
    "create_service_station": (_OFFICER, "/name", "妇科人流手术站"),
    "return_payout": (_CLERK, "/reason", "怀孕休假，由其丈夫代领未果"),
    "uphold_payout_dispute": (_APPROVER, "/reason", "已流产"),
    "decide_payout_decision": (_APPROVER, "/reason", "避孕失败，不再追回"),
    "cancel_voucher": (_CLERK, "/reason", "已结扎"),
    "create_gift": (_OFFICER, "/name", "孕妇装"),
    "create_stock_movement": (_CLERK, "/note", "送孕妇"),
    "create_fund": (_CLERK, "/name", "手术补助经费"),
}


def _body(operation: Operation, pointer: str, words: str) -> dict[str, Any]:
    assert operation.body is not None
    body: dict[str, Any] = copy.deepcopy(operation.body["examples"][0])
    *way, last = pointer.strip("/").split("/")
    place: Any = body
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = words
    return body


@pytest.mark.parametrize("name", _WRITTEN)
async def test_it_is_refused_at_its_field(client: Callable[..., Client], name: str) -> None:
    role, pointer, words = _WRITTEN[name]
    [operation] = [each for each in operations() if str(each) == name]
    linked = {"employer_linked": True, "areas": [], "associations": [str(_ID)]}
    caller = client(role, **(linked if role is _SECRETARY else {}))
    problem = await caller.refused(
        operation.method,
        replace(operation, path=operation.path.replace("{rank}", "1")).url(),
        status=422,
        code="invalid",
        json=_body(operation, pointer, words),
        headers={"If-Match": '"1"', "Idempotency-Key": "telling-1"},
    )
    assert pointers(problem) == [pointer]
    assert words not in str(problem)
