"""Copies of all that is stored about a member, for herself."""

from typing import Any
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models.shapes import Instant, Output


class MemberExport(Output):
    """All that is stored about one member, table by table, as it is stored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001",
                    "made_at": "2026-10-15T01:30:00.000000Z",
                    "id_number": "440605********0017",
                    "phone": "138****8000",
                    "payout_account": "示例银行 ****0000 张**",
                    "tables": {
                        "members": [{"name": "示例", "first_joined_on": "2025-01-09"}],
                        "memberships": [{"joined_on": "2025-01-09", "left_on": None}],
                    },
                }
            ]
        }
    )
    never_kept = True
    person = "member_id"

    member_id: UUID
    made_at: Instant
    id_number: str | None
    phone: str | None
    payout_account: str | None
    tables: dict[str, list[dict[str, Any]]] = Described(
        description=(
            "The rows of each table that are hers, without keys and hashes; what is sealed is"
            " opened, names stand beside ids, and whoever acted (`*_by`) is told by the role:"
            " `office` where the grant is not kept any more. Codes of vouchers are given to"
            " herself alone."
        )
    )
