"""Generated requests to every operation: no failure of ours, only answers that are documented."""

from typing import Any

import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.settings import Settings
from tests.contract.operations import document
from tests.factories.grants import make_grant

schema = schemathesis.openapi.from_dict(document())


@pytest_asyncio.fixture
async def granted(session: AsyncSession) -> dict[Role, str]:
    """The grants of those who call, by role."""
    ids = {
        role: str((await make_grant(session, role=role.value, subject=f"{role}-generated")).id)
        for role in (Role.FINANCE_CLERK, Role.DISTRICT_OFFICER)
    }
    await session.commit()
    return ids


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_documented(
    case: Any, config: Settings, served_url: str, granted: dict[Role, str]
) -> None:
    role = Role.FINANCE_CLERK if "payout" in case.path else Role.DISTRICT_OFFICER
    token = DevelopmentIssuer(config).token(f"{role}-generated", step_up=True)
    case.call_and_validate(
        base_url=served_url,
        headers={"Authorization": f"Bearer {token}", "Jixie-Grant": granted[role]},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
