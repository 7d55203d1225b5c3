"""Example answers for the OpenAPI document, made from the schemas of what is answered."""

from typing import Any

_BY_FORMAT = {
    "uuid": "019a5c3e-7b1c-7d20-9a54-3f6f0c2b8e11",
    "date": "2026-10-01",
    "date-time": "2026-10-15T01:30:00.000000Z",
}
_BY_NAME: dict[str, Any] = {
    "name": "示例",
    "title": "服务活动",
    "code": "440605124000",
    "area_code": "440605124000",
    "district_code": "440605000000",
    "parent_code": "440605000000",
    "id_number_masked": "440605********0017",
    "phone_masked": "138****8000",
    "next_cursor": None,
    "total": None,
    "zh": "讲座",
    "en": "Lecture",
    "total_fen": 1000,
    "amount_fen": 1000,
}


def sample(schema: dict[str, Any], schemas: dict[str, Any], name: str = "") -> Any:
    """Give a value that fits a schema; references are looked up in `schemas`."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if alternatives := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return _BY_NAME[name] if name in _BY_NAME else sample(alternatives[0], schemas, name)
    return _of_type(schema, schemas, name)


def _of_type(schema: dict[str, Any], schemas: dict[str, Any], name: str) -> Any:
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {key: sample(part, schemas, key) for key, part in properties.items()}
    if kind == "array":
        return [sample(schema.get("items", {}), schemas, name)]
    if kind == "integer":
        return _BY_NAME.get(name, max(1, schema.get("minimum", 1)))
    if kind == "boolean":
        return bool(schema.get("default", False))
    if kind == "string":
        return _BY_FORMAT.get(schema.get("format", ""), _BY_NAME.get(name, "示例"))
    return None
