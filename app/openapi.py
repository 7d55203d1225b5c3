"""The OpenAPI document: what FastAPI derives, mended to say what the service really answers."""

import difflib
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.identity import GRANT_HEADER
from app.problems import MEDIA_TYPE, ProblemDocument
from app.samples import sample

TAGS = {
    "areas": "区划 Administrative areas and their dated settings.",
    "host-organisations": "主办单位 Where associations live.",
    "associations": "计生协会 Associations, their officers, facilities and regulations.",
    "members": "会员 Members, their moves and their rosters.",
    "privacy-notices": "告知书 What members are told before they consent, version by version.",
    "consents": "同意 What a member gave and withdrew, purpose by purpose.",
    "exam-rounds": "查环查孕期次 Numbered periods for health checks, and excuses.",
    "service-events": "服务活动 What members come to, and who registered.",
    "attendances": "签到 That a member was there, and nothing else.",
    "attendance-flags": "签到提示 Events whose attendance somebody should look at.",
    "incentive-policies": "奖励政策 Who is thanked with what.",
    "eligibility": "应发说明 Each decision, explained.",
    "payout-runs": "发放批次 One calculation, approved and paid as a whole.",
    "bank-files": "银行文件 Payouts given to a bank, and its answers.",
    "payouts": "实发 What has been handed over.",
    "payout-disputes": "发放异议 What members say of their payouts, and the answers.",
    "payout-decisions": "发放处理 Payouts whose ground is gone, and what is decided on each.",
    "funds": "经费 Whose money there is, and every movement of it.",
    "draws": "抽奖 Lucky draws that anyone can repeat.",
    "service-stations": "服务站 Where vouchers are redeemed.",
    "vouchers": "服务券 Free services, redeemed once by a code that names none.",
    "station-settlements": "服务站结算 What a station is owed for the vouchers of a month.",
    "gifts": "礼品 What may be given: the catalogue, every movement, what a round will need.",
    "depots": "仓库 Where gifts lie, and how many.",
    "stock-takes": "盘点 What was counted, and how it differs from the books.",
    "month-closes": "月结 The books of a month, summed, signed and closed.",
    "grants": "授权 Who holds which role, how far, until when.",
    "logins": "会员登录 Members log in by a code sent to their phone.",
    "me": "我的 What a member's phone shows her.",
    "audit-entries": "审计记录 Who did or read what, on whom.",
    "corrections": "更正 What members say is wrong about them, and the answers.",
    "retention-runs": "保存期限 What was deleted or cleared when its time was over.",
    "operations": "长任务 Work that outlasts its request.",
    "code-lists": "代码表 The words of every enumeration.",
    "health": "运行状况 For operations.",
}
_DESCRIPTION = """
**Attendance is voluntary, and only attendance is stored.** No answer lists who did not come, and
nothing about anybody's health has a field.

Lists are keyset pages; changes need `If-Match`; a POST with an `Idempotency-Key` may be repeated;
every refusal is a problem document (RFC 9457) whose `code` is stable. Enumerations may grow:
clients keep what they do not know.
"""
_ALWAYS = {
    "401": "No valid bearer token.",
    "403": "The role may not do this, or no grant is in force; `Jixie-Grant` names one of several.",
    "422": "The input is not valid; `errors` name the fields.",
    "429": "Too many requests.",
    "503": "A part that the service needs does not answer.",
}
_GRANT = {
    "name": GRANT_HEADER,
    "in": "header",
    "required": False,
    "description": "Which grant you act under, if you have several.",
    "schema": {"type": "string", "format": "uuid"},
}
_PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}


def file_answer(
    description: str, media_types: Iterable[str], **more: Any
) -> dict[int | str, dict[str, Any]]:
    """Describe a file as the answer of a route, in each of its media types."""
    media = {"schema": {"type": "string", "format": "binary"}, **more}
    return {200: {"description": description, "content": dict.fromkeys(media_types, media)}}


def install(app: FastAPI) -> None:
    """Make the application give the mended document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the documented way to extend it


def build(app: FastAPI) -> dict[str, Any]:
    """Derive the document and mend it."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary="Backend of migrant workers' family-planning associations.",
        description=_DESCRIPTION.strip(),
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[
            {"url": "/", "description": "Where this document was read."},
            {"url": "http://127.0.0.1:8000", "description": "This machine."},
        ],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = document["components"]["schemas"]
    for derived in ("HTTPValidationError", "ValidationError"):
        schemas.pop(derived, None)
    problem = ProblemDocument.model_json_schema(
        ref_template="#/components/schemas/{model}", mode="serialization"
    )
    schemas |= problem.pop("$defs") | {"ProblemDocument": problem}
    for schema in schemas.values():
        for example in schema.get("examples", ()):
            _restore_nulls(example, schema, schemas)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _mend(path, method, operation)
            _illustrate(operation, schemas)
    return document


def _illustrate(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        for media in response.get("content", {}).values():
            if status < "300" and media.get("schema"):
                example = media.setdefault("example", sample(media["schema"], schemas))
                _restore_nulls(example, media["schema"], schemas)


def _restore_nulls(example: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Put back the nulls of an example, which FastAPI drops with all other nulls."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for alternative in schema.get("anyOf", ()):
        _restore_nulls(example, alternative, schemas)
    if isinstance(example, list):
        for item in example:
            _restore_nulls(item, schema.get("items", {}), schemas)
    elif isinstance(example, dict):
        for name, part in schema.get("properties", {}).items():
            if name in schema.get("required", ()):
                example.setdefault(name)
            _restore_nulls(example.get(name), part, schemas)


def _mend(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if not path.startswith("/v1/"):
        operation["security"] = []
        responses["4XX"] = _refusal("The request itself is wrong.")
        return
    if _is_derived(responses.get("422")):
        del responses["422"]
    expected = _expected(path, method, operation)
    if "security" in operation:
        operation.setdefault("parameters", []).append(_GRANT)
    if method == "post" and "security" in operation:
        _offer_idempotency(operation, expected)
    for status, description in expected.items():
        responses.setdefault(status, _refusal(description))
    if method == "patch":
        content = operation["requestBody"]["content"]
        content["application/merge-patch+json"] = content["application/json"]
    operation["responses"] = dict(sorted(responses.items()))


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _PROBLEM}}}


_CONDITIONAL = {
    "400": "The body cannot be read, or `if_match_not_one_version`.",
    "412": "`stale`: it changed meanwhile.",
    "428": "`precondition_required`.",
}


def _expected(path: str, method: str, operation: dict[str, Any]) -> dict[str, str]:
    parameters = operation.get("parameters", ())
    names = {parameter["name"] for parameter in parameters}
    expected = dict(_ALWAYS)
    if any(parameter["in"] == "query" for parameter in parameters):
        expected["414"] = "The address with its query is too long."
    if "{" in path:
        expected["404"] = "No such record, or none that the caller may know of."
    if "requestBody" in operation:
        expected |= {"400": "The body cannot be read.", "413": "Too large.", "415": "Wrong format."}
    if "cursor" in names:
        expected["400"] = "`cursor_malformed` or `cursor_mismatch`."
    if "If-Match" in names:
        expected |= _CONDITIONAL
    if method == "patch":
        expected["409"] = "Another record is in the way, or the state does not allow it."
    return expected


def _is_derived(response: dict[str, Any] | None) -> bool:
    return response is not None and "application/json" in response.get("content", {})


def _offer_idempotency(operation: dict[str, Any], expected: dict[str, str]) -> None:
    codes = "`malformed`, `idempotency_key_required` or `idempotency_key_malformed`"
    if "428" in expected:
        codes = f"`if_match_not_one_version`, {codes}"
    expected["400"] = f"{codes}."
    expected["409"] = "`idempotency_in_flight`, or the record's state does not allow it."
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["name"] == "Idempotency-Key":
            parameter["required"] = True
            parameter["schema"] = {"type": "string", "minLength": 1, "maxLength": 255}
            return
    parameters.append(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "A key of your choice; a repeat with it changes nothing.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    )


def first_difference(kept: str, document: str) -> str | None:
    """Give the first line in which two documents differ; None when they are the same."""
    changes = difflib.unified_diff(kept.splitlines(), document.splitlines(), lineterm="", n=0)
    found = (line for line in changes if line[:1] in "+-" and line[1:2] not in "+-")
    return next((line.strip() for line in found), None)
