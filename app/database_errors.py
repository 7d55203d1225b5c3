"""What an error of the database says, however the driver and SQLAlchemy have wrapped it."""

from typing import cast

from sqlalchemy.exc import DBAPIError

# 40001 serialisation failure, 40P01 deadlock: the same request may succeed at once.
_RETRYABLE = {"40001", "40P01"}


def sqlstate(error: BaseException) -> str | None:
    """Give the SQLSTATE of a database error, however it is wrapped."""
    if isinstance(error, DBAPIError):
        error = cast("BaseException", error.orig)
    return getattr(error, "sqlstate", None)


def constraint_name(error: BaseException) -> str | None:
    """Give the name of the constraint that a database error reports."""
    if isinstance(error, DBAPIError):
        error = cast("BaseException", error.orig)
    cause = error.__cause__ if error.__cause__ is not None else error
    return getattr(cause, "constraint_name", None)


def may_retry(error: BaseException) -> bool:
    """Tell whether the same transaction may succeed when it is run again at once."""
    return sqlstate(error) in _RETRYABLE
