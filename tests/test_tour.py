"""The README's tour, run as it is written against a service with a small demo."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Service, environment, jixie

_TOUR = re.compile(r"## A five-minute tour\n(.*?)\n## ", re.DOTALL)
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def said(service: Service) -> list[str]:
    """What the tour prints, line by line."""
    tour = _TOUR.search(Path("README.md").read_text("utf-8"))
    assert tour is not None
    script = "set -eu\n" + "".join(_BLOCK.findall(tour.group(1)))
    place = service.folder / "tour"
    place.mkdir()
    (place / ".jixie").symlink_to(service.folder / "data")
    (place / ".venv").symlink_to(sys.prefix)
    with subprocess.Popen(  # noqa: S603  (our own words)
        jixie("worker"), env=environment(service.folder, None)
    ) as worker:
        done = subprocess.run(  # noqa: S603  (the README's words)
            ["sh", "-c", script],  # noqa: S607  (any shell of the system)
            cwd=place,
            env=environment(service.folder, None),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        worker.terminate()
    sys.stdout.write(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _only(said: list[str], pattern: str) -> str:
    (found,) = (line for line in said if re.search(pattern, line))
    return found


def test_it_looks_round(said: list[str]) -> None:
    assert _only(said, "狮山镇").count('"level":"town"') == 7
    assert '"total":12' in _only(said, "professional")


def test_it_enrols_a_worker_and_finds_her(said: list[str]) -> None:
    enrolled, found = (line for line in said if "陈示例" in line)
    assert '"phone_masked":"138****8000"' in enrolled
    assert found.startswith('{"items":[{"id":"')
    assert "13800138000" not in enrolled + found


def test_it_tries_a_roster(said: list[str]) -> None:
    operation = _only(said, '"kind":"import_members"')
    assert '"status":"succeeded"' in operation
    assert '"dry_run":true,"stored":false,"created":1' in operation
    assert '"rejected":1' in operation
    assert "phone_form" in _only(said, '"row_no"')


def test_it_checks_in_once_however_often(said: list[str]) -> None:
    first, second = (line for line in said if '"repeated":' in line)
    assert first.replace('"repeated":false', "") == second.replace('"repeated":true', "")


def test_it_explains_and_pays(said: list[str]) -> None:
    explained = _only(said, '"standing":"attended"')
    assert '"granted":true' in explained
    assert '"reason":"superseded"' in explained
    statuses = [re.findall(r'"status":"(\w+)"', line) for line in said if '"payout_count"' in line]
    assert statuses == [["calculated"], ["submitted"], ["approved"], ["disbursing"]]
    refused = [line for line in said if "/problems/" in line]
    codes = [re.findall(r'"code":"(\w+)"', line) for line in refused]
    assert codes == [["forbidden"], ["insufficient_user_authentication"]]
    assert any(line.startswith("合计笔数,") for line in said)
