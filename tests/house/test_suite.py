"""The suite runs every test that it collects."""

from collections import Counter

import pytest


def test_no_two_tests_share_an_id(request: pytest.FixtureRequest) -> None:
    ids = Counter(item.nodeid for item in request.session.items)
    shared = [f"{name}, {times} times" for name, times in ids.items() if times > 1]
    assert not shared, f"of tests with one id pytest-xdist runs one: {shared}"
