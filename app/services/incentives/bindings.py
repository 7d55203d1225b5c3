"""The values that a generated statement binds."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Bindings:
    """The values of a generated statement, bound by name and cast to their SQL types."""

    params: dict[str, Any] = field(default_factory=dict)

    def value(self, value: object, sql_type: str) -> str:
        """Bind a value and give the expression that stands for it."""
        name = f"v{len(self.params)}"
        self.params[name] = value
        return f"cast(:{name} as {sql_type})"
