"""Lists: keyset pages whose JSON PostgreSQL builds, with signed cursors bound to their filters."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app import crypto, numbered_ids
from app.acts import About, Shown
from app.crypto import Keyring
from app.database import Statements
from app.identifiers import area_range
from app.problems import CursorMismatch, MalformedCursor

Item = TypeVar("Item")
_SIGNATURE_BYTES = 16
_JSON = "row_to_json(item)::text"
_DIGITS = re.compile(r"[-+]?[0-9]+")


def _split(value: object) -> object:
    if isinstance(value, list):
        return [part for entry in value for part in str(entry).split(",")]
    return value.split(",") if isinstance(value, str) else value


Choice = TypeVar("Choice")
AnyOf = Annotated[list[Choice], BeforeValidator(_split), Field(max_length=50)]
"""Several values of one filter, as `status=active,suspended`."""


def _only_digits(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise PydanticCustomError("int_parsing", "not digits alone")
    return value


def _only_true_or_false(value: object) -> object:
    if isinstance(value, str) and value not in {"true", "false"}:
        raise PydanticCustomError("bool_parsing", "neither true nor false")
    return value


# Parameters are text by nature, so that the strict types of bodies would refuse each of them.
DIGITS = BeforeValidator(_only_digits)
"""Of a whole number in a path or a query, after its limits: digits, perhaps after a sign."""
YesNoParam = Annotated[bool, BeforeValidator(_only_true_or_false)]
"""`true` or `false` of a query or a form."""


class Filters(BaseModel):
    """The parameters that every list has; a list's own filters are added by a subclass."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200, description="Items a page."), DIGITS] = 50
    cursor: str | None = Field(
        default=None, max_length=1000, description="`next_cursor` of the page before."
    )
    include_total: YesNoParam = Field(
        default=False, description="Whether to count all items that match."
    )

    def fingerprint(self) -> str:
        """Give a short text that differs between different filters."""
        facts = self.model_dump(mode="json", exclude={"limit", "cursor", "include_total"})
        canonical = json.dumps([type(self).__name__, facts], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last.")
    total: int | None = Field(
        default=None, description="How many match; only with `include_total=true`."
    )


class Key(NamedTuple):
    """One part of a list's order: the property, its SQL expression and its SQL type."""

    name: str
    expression: str
    type: str


@dataclass
class Where:
    """The conditions of one list request and their parameters."""

    params: dict[str, Any]
    conditions: list[str] = field(default_factory=list)

    def add(self, condition: str, **params: Any) -> None:
        """Keep to rows that meet a condition."""
        self.conditions.append(condition)
        self.params |= params

    def equal(self, column: str, name: str, value: object) -> None:
        """Keep to rows whose column is the value, or one of the values; None keeps all."""
        if value is None:
            return
        operator = f"= any(:{name})" if isinstance(value, list) else f"= :{name}"
        self.add(f"{column} {operator}", **{name: value})

    def in_area(self, column: str, code: str | None) -> None:
        """Keep to rows of an area and all below it; None keeps all."""
        if code is not None:
            low, high = area_range(code)
            self.add(f"{column} between :area_low and :area_high", area_low=low, area_high=high)

    def span(self, column: str, name: str, *, gte: object, lt: object) -> None:
        """Keep to rows from one value on and below another; None leaves that end open."""
        if gte is not None:
            self.add(f"{column} >= :{name}_gte", **{f"{name}_gte": gte})
        if lt is not None:
            self.add(f"{column} < :{name}_lt", **{f"{name}_lt": lt})


class Slice(NamedTuple):
    """A page as JSON texts, before it is sent."""

    items: list[str]
    next_cursor: str | None
    total: int | None


@dataclass(frozen=True)
class Listing:
    """A list: what a row shows, where it comes from and in which order.

    `columns` is a SELECT list with the property names as aliases; `order` is unique as a whole.
    When its first part has few values, `hides_cursor` keeps the planner from judging a page by
    them: after the last of these it would expect no rows, and read all of them to sort none.
    `about` names the property that is a person's id, when the rows are about persons, and is
    empty when the path names her. `numbered` names the one property whose id has a number.
    """

    columns: str
    source: str
    order: Sequence[Key]
    descending: bool = False
    hides_cursor: bool = False
    about: str | None = None
    numbered: str = ""

    async def page(
        self, statements: Statements, keyring: Keyring, *, filters: Filters, where: Where
    ) -> Slice:
        """Read one page.

        Raises MalformedCursor for a cursor not made here and CursorMismatch for one made with
        other filters.
        """
        binding = filters.fingerprint()
        params = {**where.params, "limit": filters.limit + 1}
        conditions = list(where.conditions) or ["true"]
        if filters.cursor is not None:
            after = read_cursor(keyring, filters.cursor, binding=binding, length=len(self.order))
            conditions.append(self._after())
            params |= {f"after_{n}": value for n, value in enumerate(after)}
        total = await self._total(statements, where) if filters.include_total else None

        sql, about = self._sql(conditions), self._about(filters.limit)
        if not isinstance(about, Shown):
            sql = f"select {_JSON} from ({sql}) item"
        rows = await statements.fetch(sql, params, about=about)
        items = [row[0] for row in rows[: filters.limit]]
        cursor = None
        if len(rows) > filters.limit:
            last = json.loads(items[-1])
            cursor = make_cursor(keyring, [last[key.name] for key in self.order], binding=binding)
        if self.numbered:
            items = [numbered_ids.shown_in_json(keyring, each, self.numbered) for each in items]
        return Slice(items, cursor, total)

    def _about(self, limit: int) -> About:
        if not self.about:
            return None if self.about is None else ()
        # The row beyond the page only tells that there is another page.
        return Shown(self.about, output=_JSON, rows=limit)

    def _after(self) -> str:
        columns = ", ".join(key.expression for key in self.order)
        parts = [f"(:after_{n}::text)::{key.type}" for n, key in enumerate(self.order)]
        values = ", ".join(f"(select {part})" if self.hides_cursor else part for part in parts)
        return f"({columns}) {'<' if self.descending else '>'} ({values})"

    def _sql(self, conditions: Sequence[str]) -> str:
        direction = " desc" if self.descending else ""
        order = ", ".join(key.expression + direction for key in self.order)
        return (
            f"select {self.columns} from {self.source}"
            f" where {' and '.join(conditions)} order by {order} limit :limit"
        )

    async def _total(self, statements: Statements, where: Where) -> int:
        conditions = " and ".join(where.conditions or ["true"])
        sql = f"select count(*) from {self.source} where {conditions}"
        return int(await statements.fetch_value(sql, where.params))


def instant(expression: str, alias: str | None = None) -> str:
    """Give the SELECT item that writes an instant as RFC 3339 in UTC with `Z`."""
    name = alias or expression.rpartition(".")[2]
    pattern = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    return f"to_char({expression} at time zone 'UTC', '{pattern}') as {name}"


def make_cursor(keyring: Keyring, keys: Sequence[object], *, binding: str) -> str:
    """Sign the keys of the last item together with the filters."""
    body = json.dumps([binding, *(None if k is None else str(k) for k in keys)]).encode()
    signature = keyring.sign(body, purpose="cursor", length=_SIGNATURE_BYTES)
    return crypto.encode(signature + body)


def read_cursor(keyring: Keyring, cursor: str, *, binding: str, length: int) -> list[str]:
    """Give the keys of a cursor, or refuse it."""
    try:
        raw = crypto.decode(cursor)
    except ValueError:
        raise MalformedCursor from None
    signature, body = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not crypto.same(signature, keyring.sign(body, purpose="cursor", length=_SIGNATURE_BYTES)):
        raise MalformedCursor
    bound, *keys = json.loads(body)
    if bound != binding or len(keys) != length:
        raise CursorMismatch
    return [str(key) for key in keys]


def of_names(keyring: Keyring, names: Sequence[str], *, filters: Filters) -> Slice:
    """Give a page of names that the code knows, which come sorted."""
    binding, after = filters.fingerprint(), ""
    if filters.cursor is not None:
        [after] = read_cursor(keyring, filters.cursor, binding=binding, length=1)
    rest = [name for name in names if name > after]
    shown = rest[: filters.limit]
    more = len(rest) > len(shown)
    cursor = make_cursor(keyring, shown[-1:], binding=binding) if more else None
    total = len(names) if filters.include_total else None
    return Slice([json.dumps(name) for name in shown], cursor, total)


def answer(request: Request, page: Slice) -> Response:
    """Send a page, with `Link: rel="next"` while there is one."""
    body = (
        f'{{"items":[{",".join(page.items)}],"next_cursor":{json.dumps(page.next_cursor)},'
        f'"total":{json.dumps(page.total)}}}'
    )
    headers = {}
    if page.next_cursor is not None:
        following = request.url.include_query_params(cursor=page.next_cursor)
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    return Response(body, media_type="application/json", headers=headers)
