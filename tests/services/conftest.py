"""What several services are tested with."""

import itertools
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from app.services.access.admission import Admission


@pytest.fixture
def forgetful(app: FastAPI) -> Iterator[None]:
    """Have the service remember no grant from one request to the next."""
    moments, before = itertools.count(0, 60), app.state.admit
    app.state.admit = Admission(app.state.database, seconds=lambda: next(moments)).admit
    yield
    app.state.admit = before
