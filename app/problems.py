"""Refusals as RFC 9457 problem documents: the base class, the generic ones, their texts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.wording import Language, say, texts

MEDIA_TYPE = "application/problem+json"
_PLAIN_NAME = re.compile(r"(?!.*\d{6})\w{1,40}", re.ASCII)
Within = Literal["body", "query", "path", "header", "file"]


class FieldError(BaseModel):
    """What is wrong with one part of the input, and how to mend it."""

    pointer: str = Field(description="JSON pointer, or the parameter's name.")
    in_: Within = Field(serialization_alias="in")
    code: str
    detail: str


@dataclass(frozen=True)
class Reason:
    """One of several reasons that a refusal names in an extension member, with its text's facts."""

    code: str
    facts: Mapping[str, object] = field(default_factory=dict)


class ProblemDocument(BaseModel):
    """The answer to every request that is refused (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/not_found",
                    "title": "没有这条记录",
                    "status": 404,
                    "code": "not_found",
                    "detail": "没有找到这条记录，或者它不在您的管辖范围内。请核对编号。",
                    "instance": "urn:request:019a5c3e-7b1c-7d20-9a54-3f6f0c2b8e11",
                    "request_id": "019a5c3e-7b1c-7d20-9a54-3f6f0c2b8e11",
                    "errors": [],
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; branch on this.")
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError] = Field(default_factory=list)


class LineProblem(BaseModel):
    """Why one line of a batch was refused: a problem without what is the whole answer's."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; branch on this.")
    detail: str
    errors: list[FieldError]


class Problem(Exception):
    """A refusal: a stable code, an HTTP status and facts that its text may name.

    Facts must never hold what the caller sent. A subclass stands beside the rule that raises it;
    its texts are looked up by `code` in `app/texts`.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    constraint: ClassVar[str | None] = None
    """The database constraint whose violation means this refusal."""

    def __init__(
        self,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        **facts: object,
    ) -> None:
        """Keep the field errors, response headers, extension members and text facts.

        A list of `Reason` among the extension members is put into the caller's language.
        """
        super().__init__(self.code)
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})
        self.facts = facts


class NotFound(Problem):
    """No such record, or none that the caller may know of."""

    code, status = "not_found", 404


class Forbidden(Problem):
    """The record may be known, but this act on it is not the caller's."""

    code, status = "forbidden", 403


class Unauthenticated(Problem):
    """No valid bearer token came with the request."""

    code, status = "unauthenticated", 401

    def __init__(self, reason: str = "missing") -> None:
        """Say by a fixed word, never by the token, why it was not accepted."""
        challenge = (
            "Bearer"
            if reason == "missing"
            else f'Bearer error="invalid_token", error_description="{reason}"'
        )
        super().__init__(headers={"WWW-Authenticate": challenge}, reason=reason)


class InsufficientAuthentication(Problem):
    """This act needs a sign-in of the last minutes, and a stronger one (RFC 9470)."""

    code, status = "insufficient_user_authentication", 401

    def __init__(self, *, acr_values: Sequence[str], max_age: int) -> None:
        """Say which sign-in is asked for, in the challenge and in the document."""
        listed = " ".join(acr_values)
        challenge = (
            f'Bearer error="{self.code}", error_description="a fresh sign-in is needed",'
            f' acr_values="{listed}", max_age="{max_age}"'
        )
        super().__init__(
            headers={"WWW-Authenticate": challenge},
            extra={"acr_values": list(acr_values), "max_age": max_age},
            minutes=max_age // 60,
        )


class Invalid(Problem):
    """The input breaks a rule; `errors` name the fields and the remedy."""

    code, status = "invalid", 422

    @classmethod
    def at(
        cls,
        pointer: str,
        code: str,
        *,
        within: Within = "body",
        **facts: object,
    ) -> "Invalid":
        """Refuse one field by its pointer, with the text of `code`."""
        return cls(errors=[field_error(pointer, code, within=within, **facts)])


class MalformedCursor(Problem):
    """The cursor was not made by this service."""

    code, status = "cursor_malformed", 400


class CursorMismatch(Problem):
    """The cursor belongs to a list with other filters."""

    code, status = "cursor_mismatch", 400


class PreconditionRequired(Problem):
    """A change needs `If-Match`, so that nobody overwrites what they have not seen."""

    code, status = "precondition_required", 428


class Stale(Problem):
    """The record has changed since the caller read it."""

    code, status = "stale", 412


class IdempotencyKeyRequired(Problem):
    """This POST needs an `Idempotency-Key`."""

    code, status = "idempotency_key_required", 400


class IdempotencyKeyMalformed(Problem):
    """The `Idempotency-Key` is not 1 to 255 printable ASCII characters."""

    code, status = "idempotency_key_malformed", 400


class IdempotencyKeyReused(Problem):
    """The key came before with another request, or under another grant."""

    code, status = "idempotency_key_reused", 422


class IdempotencyInFlight(Problem):
    """A request with this key is still under way."""

    code, status = "idempotency_in_flight", 409


class Conflict(Problem):
    """Another record already holds what must be unique."""

    code, status = "conflict", 409


class Busy(Problem):
    """The record is locked by another request."""

    code, status = "busy", 409


class Unavailable(Problem):
    """A part that the service needs does not answer."""

    code, status = "unavailable", 503


class Malformed(Problem):
    """The body cannot be read."""

    code, status = "malformed", 400


class BadRequest(Problem):
    """What came cannot be read as a request of HTTP/1.1."""

    code, status = "bad_request", 400


class MethodUnknown(Problem):
    """The method is none of HTTP."""

    code, status = "method_unknown", 501


class RouteNotFound(Problem):
    """No resource has this path."""

    code, status = "route_not_found", 404


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    code, status = "method_not_allowed", 405


class BodyTooLarge(Problem):
    """The body is larger than the service takes."""

    code, status = "body_too_large", 413


class BodyTooSlow(Problem):
    """The body did not arrive whole in the time that the service waits."""

    code, status = "body_too_slow", 408


class TargetTooLong(Problem):
    """The path and its parameters are longer than the service reads."""

    code, status = "target_too_long", 414


class HeadersTooLarge(Problem):
    """The header fields are more, or longer, than the service reads."""

    code, status = "headers_too_large", 431


class UnsupportedMediaType(Problem):
    """The body is in a format that the operation does not read."""

    code, status = "unsupported_media_type", 415


class NotAcceptable(Problem):
    """None of the formats that the caller accepts can be given."""

    code, status = "not_acceptable", 406


class Internal(Problem):
    """Something failed that should not; the request id finds it in the log."""

    code, status = "internal", 500


def of_constraint(name: str | None) -> type[Problem] | None:
    """Give the refusal that the violation of a database constraint means, if one does."""
    return next((cls for cls in all_problems() if name and cls.constraint == name), None)


def all_problems(base: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Walk every declared refusal."""
    for cls in base.__subclasses__():
        yield cls
        yield from all_problems(cls)


def shown_name(name: object, *, instead: str = "…") -> str:
    """Give the name of an unknown part, which is itself input: no person's name or number."""
    return str(name) if _PLAIN_NAME.fullmatch(str(name)) else instead


class _LazyError(FieldError):
    """A field error whose text is chosen when the caller's language is known."""

    facts: dict[str, Any] = Field(default_factory=dict, exclude=True)


def field_error(
    pointer: str,
    code: str,
    *,
    within: Within = "body",
    **facts: object,
) -> FieldError:
    """Describe one wrong field; `facts` fill its text and must not hold the value sent."""
    return _LazyError(pointer=pointer, in_=within, code=code, detail="", facts=facts)


def render(
    problem: Problem, *, language: Language, instance: str, request_id: str
) -> dict[str, Any]:
    """Build the problem document in one language."""
    entry = texts(language)["problems"].get(problem.code, {})
    errors = [
        {
            **error.model_dump(by_alias=True),
            "detail": say(language, "fields", error.code, **getattr(error, "facts", {})),
        }
        for error in problem.errors
    ]
    return {
        "type": f"/problems/{problem.code}",
        "title": entry.get("title", problem.code),
        "status": problem.status,
        "code": problem.code,
        "detail": say(language, "problems", problem.code, **problem.facts),
        "instance": instance,
        "request_id": request_id,
        "errors": errors,
        **{name: _worded(value, language) for name, value in problem.extra.items()},
    }


def render_line(problem: Problem, *, language: Language) -> dict[str, Any]:
    """Build a `LineProblem` in one language."""
    document = render(problem, language=language, instance="", request_id="")
    errors = [FieldError(in_=error.pop("in"), **error) for error in document["errors"]]
    return {name: document[name] for name in LineProblem.model_fields} | {"errors": errors}


def _worded(value: Any, language: Language) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {"code": item.code, "detail": say(language, "reasons", item.code, **item.facts)}
        if isinstance(item, Reason)
        else item
        for item in value
    ]


def refusals(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Document refusals of an operation in OpenAPI, one entry per status."""
    by_status: dict[int | str, list[type[Problem]]] = {}
    for problem in problems:
        by_status.setdefault(problem.status, []).append(problem)
    return {
        status: {
            "description": " ".join(
                f"`{p.code}`: {(p.__doc__ or '').splitlines()[0]}" for p in group
            ),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status, group in by_status.items()
    }
