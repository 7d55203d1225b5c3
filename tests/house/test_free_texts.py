"""No free text invites what a health check found: each refuses telling words, or is listed here."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import AfterValidator, BaseModel, TypeAdapter

from app.models.shapes import NEUTRAL, Input, Line, Name, Note, Output
from tests.house.test_inputs import inputs, models_below

_ID = "read as a number of a known form, and sealed or hashed"
_DEVICE = "made by a device, for itself"
_HOST = "the registered name of an organisation, which may be a hospital"
_PERSON = "the name of a person"
_SECRET = "compared with what was given out, and never kept"  # noqa: S105  (why it is listed)
_TOPIC = "asked by its event's kind: a lecture has topics"
_PUBLISHED = "published by an association or the district for everybody; about nobody"
JUSTIFIED = {
    "AssociationCreate.name": _HOST,
    "AssociationUpdate.name": _HOST,
    "BankFileCreate.debtor_name": _HOST,
    "Batch.device_id": _DEVICE,
    "BatchLine.ref": _DEVICE,
    "CheckIn.device_id": _DEVICE,
    "CheckIn.device_ref": _DEVICE,
    "CodeCheckIn.code": _SECRET,
    "CorrectionCreate.value": "a name or a number that would be right; sealed under her key",
    "EventCancel.reason": _TOPIC,
    "EventCreate.title": _TOPIC,
    "EventCreate.venue": _TOPIC,
    "EventUpdate.title": _TOPIC,
    "EventUpdate.venue": _TOPIC,
    "GrantCreate.subject": "who calls, as the issuer of tokens names her",
    "GrantProvide.subject": "what the shell and a login by phone give, and the same",
    "HostOrganisationCreate.name": _HOST,
    "HostOrganisationCreate.uscc": _ID,
    "HostOrganisationUpdate.name": _HOST,
    "HostOrganisationUpdate.uscc": _ID,
    "LoginChoose.ticket": _SECRET,
    "LoginCreate.phone": _ID,
    "MemberCreate.id_number": _ID,
    "MemberCreate.name": _PERSON,
    "MemberCreate.phone": _ID,
    "MemberSearch.id_number": _ID,
    "MemberSearch.phone": _ID,
    "MemberUpdate.id_number": _ID,
    "MemberUpdate.name": _PERSON,
    "MemberUpdate.phone": _ID,
    "OfficerCreate.name": _PERSON,
    "OfficerUpdate.name": _PERSON,
    "PayoutAccountUpdate.holder": _PERSON,
    "PayoutAccountUpdate.issuer": _HOST,
    "PayoutAccountUpdate.number": _ID,
    "PhoneCodeCreate.phone": _ID,
    "PhoneUpdate.phone": _ID,
    "PrivacyNoticeCreate.controller": _HOST,
    "PrivacyNoticeCreate.recipients": _HOST,
    "PrivacyNoticeCreate.text_en": _PUBLISHED,
    "PrivacyNoticeCreate.text_zh": _PUBLISHED,
    "Redemption.code": _SECRET,
    "RegulationCreate.body": _PUBLISHED,
    "RegulationCreate.title": _PUBLISHED,
    "RegulationUpdate.body": _PUBLISHED,
    "RegulationUpdate.title": _PUBLISHED,
}
"""The texts of bodies that may hold any words, and why."""
_NESTED = {"model", "model-fields"}


def _guards(part: Any) -> bool:
    guard = NEUTRAL.func
    return part.get("type") == "function-after" and part["function"]["function"] is guard


def _free(schema: Any) -> Iterator[dict[str, Any]]:
    """Walk what pydantic made of a field, for texts without a pattern that ask for no words."""
    if isinstance(schema, list):
        for part in schema:
            yield from _free(part)
    if not isinstance(schema, dict) or schema.get("type") in _NESTED or _guards(schema):
        return
    if schema.get("type") == "str" and not schema.get("pattern"):
        yield schema
    for name, part in schema.items():
        if name not in {"metadata", "serialization"}:
            yield from _free(part)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Give the fields of a model with their schemas, below its validators."""
    schema: Any = model.__pydantic_core_schema__
    schema = {"schema": schema, "definitions": []} if "schema" not in schema else schema
    while schema.get("type") != "model-fields":
        schema = schema["schema"]
    yield from schema["fields"].items()


_BODIES = [model for model in inputs() if issubclass(model, Input)]
_FREE = {
    f"{model.__name__}.{name}"
    for model in _BODIES
    for name, field in _fields(model)
    if next(_free(field), None) is not None
}


def test_each_free_text_refuses_telling_words_or_is_justified() -> None:
    missing = sorted(_FREE - JUSTIFIED.keys())
    assert not missing, f"declare Name, Line or Note, or say in JUSTIFIED why not: {missing}"
    assert not JUSTIFIED.keys() - _FREE, "take these out of JUSTIFIED"


def test_the_walk_finds_texts_where_they_stand() -> None:
    class Body(Input):
        bare: str
        maybe: list[str] | None = None
        line: Line
        lines: list[Line] | None = None
        name: Name | None = None
        note: Note

    found = {name for name, field in _fields(Body) if next(_free(field), None) is not None}
    assert found == {"bare", "maybe"}
    assert isinstance(NEUTRAL, AfterValidator)


@pytest.mark.parametrize("model", list(models_below(Output)), ids=lambda model: model.__name__)
def test_an_answer_refuses_nothing_that_is_stored(model: type[BaseModel]) -> None:
    """What was written before a word was listed is still shown."""
    assert NEUTRAL.func.__name__ not in str(TypeAdapter(model).core_schema)
