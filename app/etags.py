"""ETags: a record's version as a tag, and what callers say of tags that they know."""

import re
from collections.abc import Sequence

from app.problems import PreconditionRequired, Problem

_VERSION = re.compile(r'"([1-9][0-9]{0,17})"')


class IfMatchNotOneVersion(Problem):
    """`If-Match` is not the ETag of one version: `*`, a weak tag, a list or no tag."""

    code, status = "if_match_not_one_version", 400


def tag(version: int) -> str:
    """Give the strong tag of a version."""
    return f'"{version}"'


def expected_version(if_match: Sequence[str]) -> int:
    """Read the one version that a caller wants to change from the fields `If-Match` it sent.

    Raises PreconditionRequired without any, and IfMatchNotOneVersion for `*`, weak tags and
    lists: who has read one version sends its tag, and the others would lose somebody's change.
    """
    if not if_match:
        raise PreconditionRequired
    found = _VERSION.fullmatch(if_match[0].strip())
    if found is None or len(if_match) > 1:
        raise IfMatchNotOneVersion
    return int(found[1])


def knows(if_none_match: Sequence[str], current: str) -> bool:
    """Tell whether a caller has the current tag among those of the fields `If-None-Match`.

    Compared weakly (RFC 9110, 13.1.2), as a proxy that packs an answer makes its tag weak.
    """
    parts = [part.strip() for field in if_none_match for part in field.split(",")]
    return "*" in parts or current in {part.removeprefix("W/") for part in parts}
