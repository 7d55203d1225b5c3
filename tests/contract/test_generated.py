"""Generated requests to every operation: no failure of ours, only answers that are documented."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.identity import Role
from app.issuer import DevelopmentIssuer
from app.settings import Settings
from tests.contract.operations import document
from tests.factories.callers import DISTRICT

schema = schemathesis.openapi.from_dict(document())


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_documented(case: Any, config: Settings, served_url: str) -> None:
    role = Role.FINANCE_CLERK if "payout" in case.path else Role.DISTRICT_OFFICER
    token = DevelopmentIssuer(config).token(f"{role}-generated", role, areas=[DISTRICT])
    case.call_and_validate(
        base_url=served_url,
        headers={"Authorization": f"Bearer {token}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
