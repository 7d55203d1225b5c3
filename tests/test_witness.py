"""Whom a kept answer is about is known whatever version of the service kept it."""

import json

from fastapi.routing import APIRoute

from app import witness
from app.clock import new_id
from app.models.membership.members import MemberDetail
from app.paging import Page


def _route(model: object) -> APIRoute:
    return APIRoute("/answers", lambda: None, response_model=model)


def test_an_answer_in_a_shape_of_before_names_whom_it_is_about() -> None:
    one, two = new_id(), new_id()
    before = {"id": str(one), "a_field_of_before": True}
    body = json.dumps(before).encode()
    assert list(witness.persons_in_body(_route(MemberDetail), body)) == [one]
    listed = json.dumps({"items": [before, {"id": str(two)}], "total": None}).encode()
    assert list(witness.persons_in_body(_route(Page[MemberDetail]), listed)) == [one, two]


def test_an_answer_that_is_about_nobody_names_nobody() -> None:
    body = json.dumps({"id": str(new_id())}).encode()
    assert list(witness.persons_in_body(_route(dict[str, str]), body)) == []
