"""Named crash points: where a test has the process killed, as if its power went.

`JIXIE_CRASH_AT=name` kills this process by SIGKILL when it first reaches the point of that name,
`name:3` when it reaches it for the third time. Nothing is flushed, rolled back or said. The points
are not sprinkled over the code, the mechanism has them:

- `<act>.before_commit` and `<act>.after_commit` around the commit of every transaction. The act is
  the operation's id in the OpenAPI document, as `approve_payout_run`, or what the audit and
  `database.transaction` call an errand: `claim_gateway_payments`, `record_gateway_payments`,
  `import_members`, `seal_audit`, `retain`, ...
- `<peer>.before_call` and `<peer>.after_call` around every call of another service: `gateway`,
  `sms`, `issuer`. After a call its answer was read and nothing of it is stored.

A process that is killed says nothing, so a harness tells by its exit code, -SIGKILL, that the point
was reached, and starts the process again without the variable. Unset, a point costs one comparison.
Production refuses the setting.
"""

import os
import re
import signal

SHAPE = re.compile(r"[a-z_]+\.(before|after)_(commit|call)(:[1-9][0-9]{0,5})?")
"""How a point is named, and at which time it is reached."""


class _Fuse:
    """The point at which this process is to end, if any, and how often it is still passed."""

    point: str | None = None
    left = 0


def arm(at: str | None) -> None:
    """Have the process killed at a point from now on; at none without one."""
    name, _, nth = (at or "").partition(":")
    _Fuse.point, _Fuse.left = name or None, int(nth or 1)


def reach(what: str | None, step: str) -> None:
    """Be killed here if this is the point and the time that was set."""
    if _Fuse.point is None or f"{what}.{step}" != _Fuse.point:
        return
    _Fuse.left -= 1
    if _Fuse.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
