"""Generated requests to every operation: no failure of ours, only answers that are documented."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.settings import Settings
from tests.contract.operations import Operation, document, operations
from tests.factories.access.grants import make_grant

Grants = dict[Role, str]
schema = schemathesis.openapi.from_dict(document())


@pytest_asyncio.fixture
async def granted(session: AsyncSession) -> Grants:
    """The grants of those who call, by role."""
    ids = {
        role: str((await make_grant(session, role=role.value, subject=f"{role}-generated")).id)
        for role in (Role.FINANCE_CLERK, Role.DISTRICT_OFFICER)
    }
    await session.commit()
    return ids


@pytest.fixture(scope="module")
def line() -> Iterator[requests.Session]:
    """A connection that is kept: thousands of requests go over it.

    For each it would ask the environment anew which proxy is on the way to ourselves.
    """
    with requests.Session() as session:
        session.trust_env = False
        yield session


def _try(operation: Operation, send: Callable[[Any], None]) -> None:
    """Send cases of an operation: by its examples, by each bound of its schema, and at random.

    They are built here and not by `schema.parametrize()`, which builds those of all operations in
    each process that collects tests, and lets pytest give all of them one id, under which
    pytest-xdist runs a single one.
    """
    chosen = settings(
        max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    build_operation_test(
        config=schema.config,
        operation=schema[operation.path][operation.method],
        test_func=chosen(send),
        given_kwargs={},
        feedback=FeedbackSources(),
    )()


@pytest.mark.parametrize("operation", list(operations()), ids=str)
def test_every_answer_is_documented(
    operation: Operation, line: requests.Session, served_url: str, config: Settings, granted: Grants
) -> None:
    role = Role.FINANCE_CLERK if "payout" in operation.path else Role.DISTRICT_OFFICER
    token = DevelopmentIssuer(config).token(f"{role}-generated", step_up=True)

    def send(case: Any) -> None:
        case.call_and_validate(
            base_url=served_url,
            session=line,
            headers={"Authorization": f"Bearer {token}", "Jixie-Grant": granted[role]},
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    _try(operation, send)
