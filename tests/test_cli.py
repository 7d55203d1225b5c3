"""The command line as its users meet it: right, wrong, and never with a traceback."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import pytest

from app import cli, schema, settings
from app.services.demo_district.demo_facts import DISTRICT
from tests.factories.callers import SHISHAN
from tests.factories.membership.rosters import make_csv, make_people

_PRODUCTION = {
    "JIXIE_MODE": "production",
    "JIXIE_DATABASE_URL": "postgresql://jixie:hidden@127.0.0.1:1/jixie",
    "JIXIE_OIDC_JWKS_URL": "https://login.example/keys",
    "JIXIE_SECRET_KEY": "ab" * 32,
    "JIXIE_MASTER_KEYS": f"1:{'ab' * 32}",
    "JIXIE_INDEX_KEYS": f"1:{'ab' * 32}",
    "JIXIE_AUDIT_HEADS": "/var/lib/jixie/audit-heads.jsonl",
}
_HEADER = "code,name,level,parent_code\n"
_BEIJING = f"{_HEADER}110000000000,北京市,province,\n"


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The complaint, which is one line and the last."""
        *shown, last = self.err.splitlines()
        assert last.startswith("jixie: "), self.err
        assert not any("Traceback" in each for each in shown), self.err
        return last.removeprefix("jixie: ")


Jixie = Callable[..., Said]


@pytest.fixture
def jixie(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    log_as_before: None,  # noqa: ARG001  (each command sets the log up)
) -> Iterator[Jixie]:
    """Call the command with words and variables, on a machine without any others."""
    for name in [name for name in os.environ if name.startswith("JIXIE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JIXIE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JIXIE_LOG_LEVEL", "error")
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}

    def call(*words: object, **variables: str) -> Said:
        err = StringIO()
        with monkeypatch.context() as patch, redirect_stderr(err):
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["jixie", *map(str, words)])
            settings.load.cache_clear()
            with pytest.raises(SystemExit) as left:
                cli.main()
        return Said(int(left.value.code or 0), capsys.readouterr().out, err.getvalue())

    yield call
    settings.load.cache_clear()
    for each, handler in handlers.items():
        signal.signal(each, handler)


@pytest.fixture
def district(jixie: Jixie, empty_database: str) -> str:
    """A database with a demo of a hundred members."""
    assert jixie("demo", "--members", 100, JIXIE_DATABASE_URL=empty_database).code == 0
    return empty_database


def _rows(url: str, sql: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(fetch())


def test_retention_says_what_would_go_and_then_lets_it_go(jixie: Jixie, district: str) -> None:
    old = (
        "insert into idempotency_keys select code, 'somebody', 'k', '', 200, '', 'secret',"
        f" date '2026-01-02' from areas where code = '{DISTRICT}' returning 1"
    )
    assert len(_rows(district, old)) == 1
    line = f"{DISTRICT} idempotency_keys: delete 1"
    dry = jixie("retention", "--dry-run", JIXIE_DATABASE_URL=district)
    assert (dry.code, dry.err) == (0, "")
    assert f"{line}, oldest 2026-01-02" in dry.out.splitlines()
    assert f"{DISTRICT} operations: delete 0" in dry.out.splitlines()
    assert "secret" not in dry.out
    assert "somebody" not in dry.out
    assert _rows(district, "select count(*) from idempotency_keys") == [(1,)]
    assert _rows(district, "select count(*) from retention_runs") == [(0,)]

    done = jixie("retention", JIXIE_DATABASE_URL=district)
    assert (done.code, done.err) == (0, "")
    assert line in done.out.splitlines()
    assert _rows(district, "select count(*) from idempotency_keys") == [(0,)]
    assert _rows(district, "select night_on, finished_at is null from retention_runs") == [
        (None, False)
    ]
    again = jixie("retention", JIXIE_DATABASE_URL=district)
    assert f"{DISTRICT} idempotency_keys: delete 0" in again.out.splitlines()


def test_without_a_command_it_tells_what_there_is(jixie: Jixie) -> None:
    said = jixie()
    assert (said.code, said.err) == (2, "")
    for command in ("serve", "migrate", "demo", "import", "areas", "openapi", "token", "config"):
        assert command in said.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["sevre"], "No such command 'sevre'."),
        (["serve", "--port", "0"], "'--port'"),
        (["migrate", "now"], "unexpected extra argument"),
        (["demo", "--members", "99"], "'--members'"),
        (["demo", "--members", "1100001"], "'--members'"),
        (["import", "members"], "Missing argument 'file'"),
        (["import", "members", "no-such-file.csv"], "does not exist"),
        (["import", "members", "."], "is a directory"),
        (["areas", "load", "no-such-file.csv"], "does not exist"),
        (["token"], "Missing argument 'role'"),
        (["token", "king"], "'king' is not one of"),
        (["token", "auditor", "--hours", "0"], "'--hours'"),
        (["token", "member", "--member", "7"], "valid UUID"),
    ],
)
def test_a_wrong_call_is_2_and_one_line(jixie: Jixie, words: list[str], complaint: str) -> None:
    said = jixie(*words)
    assert said.code == 2
    assert complaint in said.line
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"JIXIE_PORT": "many"}, "JIXIE_PORT: Input should be a valid integer"),
        ({"JIXIE_MODE": "prod"}, "JIXIE_MODE: Input should be 'development' or 'production'"),
        ({"JIXIE_POOL_SIZE": "1", "JIXIE_LOG_LEVEL": "loud"}, "JIXIE_LOG_LEVEL: "),
        ({"JIXIE_DATABASE_URL": "mysql://u:hidden@h/d"}, "JIXIE_DATABASE_URL: must be like"),
        ({"JIXIE_SECRET_KEY": "hidden"}, "JIXIE_SECRET_KEY: must be 64 hex digits"),
        ({"JIXIE_OIDC_ALGORITHMS": "none"}, "JIXIE_OIDC_ALGORITHMS: Input should be 'EdDSA'"),
        ({"JIXIE_OIDC_ALGORITHMS": "RS256,HS256"}, "JIXIE_OIDC_ALGORITHMS: Input should be"),
        ({"JIXIE_MODE": "production"}, "production needs JIXIE_DATABASE_URL, JIXIE_OIDC_JWKS_URL"),
    ],
)
@pytest.mark.parametrize("command", ["config", "serve"])
def test_a_wrong_setting_is_named_without_its_value(
    jixie: Jixie, command: str, variables: dict[str, str], complaint: str
) -> None:
    said = jixie(command, **variables)
    assert said.code == 1
    assert complaint in said.line
    assert "hidden" not in said.err


def test_config_shows_what_is_set_and_masks_secrets(jixie: Jixie) -> None:
    said = jixie("config", **_PRODUCTION, JIXIE_OIDC_ALGORITHMS="RS256, ES256")
    lines = dict(line.split("=", 1) for line in said.out.splitlines())
    assert lines["JIXIE_DATABASE_URL"].startswith("********  # set: ")
    assert lines["JIXIE_SECRET_KEY"].startswith("********  # set: ")
    assert lines["JIXIE_OIDC_ALGORITHMS"].startswith("RS256,ES256  # set: ")
    assert lines["JIXIE_PORT"].startswith("8000  # default: ")
    assert "hidden" not in said.out + said.err
    assert "abab" not in said.out + said.err


def test_a_secret_may_be_a_file_and_an_empty_variable_is_not_set(
    jixie: Jixie, tmp_path: Path
) -> None:
    (tmp_path / "jixie_secret_key").write_text("cd" * 32 + "\n")
    said = jixie("config", JIXIE_SECRETS_DIR=str(tmp_path), JIXIE_PORT="")
    assert "JIXIE_SECRET_KEY=********  # set" in said.out
    assert "JIXIE_PORT=8000  # default" in said.out


@pytest.mark.parametrize("command", ["token auditor", "demo"])
def test_production_has_no_development_issuer_and_no_demo(jixie: Jixie, command: str) -> None:
    said = jixie(*command.split(), **_PRODUCTION)
    assert (said.code, said.out) == (1, "")
    assert "production" in said.line


def test_a_token_names_its_holder_whose_reach_is_granted(jixie: Jixie, empty_database: str) -> None:
    made_up = {"JIXIE_DATABASE_URL": empty_database, "JIXIE_DEVELOPMENT_ISSUER": "true"}
    jixie("migrate", **made_up)
    for _ in range(2):
        words = ("token", "town_officer", "--area", SHISHAN, "--subject", "li", "--hours", 2)
        said = jixie(*words, **made_up)
        claims = jwt.decode(said.out.strip(), options={"verify_signature": False})
        assert claims["sub"] == "li"
        assert claims["exp"] - claims["iat"] == 2 * 3600
        assert not {"role", "areas"} & set(claims)
    held = _rows(empty_database, "select district_code, subject, role, areas from grants")
    assert held == [(DISTRICT, "li", "town_officer", [SHISHAN])]


def test_a_token_is_for_areas_of_one_district(jixie: Jixie, empty_database: str) -> None:
    made_up = {"JIXIE_DATABASE_URL": empty_database, "JIXIE_DEVELOPMENT_ISSUER": "true"}
    jixie("migrate", **made_up)
    for areas in (["4406"], [SHISHAN, "110101001000"]):
        options = [word for area in areas for word in ("--area", area)]
        said = jixie("token", "auditor", *options, **made_up)
        assert said.code == 1
        assert "--area" in said.line


def test_tokens_are_not_signed_for_a_database_of_somebody(
    jixie: Jixie, empty_database: str
) -> None:
    for command in ("token auditor", "serve --port 8639"):
        said = jixie(*command.split(), JIXIE_DATABASE_URL=empty_database)
        assert said.code == 1
        assert "JIXIE_OIDC_JWKS_URL" in said.line
        assert "JIXIE_DEVELOPMENT_ISSUER" in said.line


def test_no_tokens_are_signed_for_a_database_of_another_machine(jixie: Jixie) -> None:
    elsewhere = {"JIXIE_DATABASE_URL": "postgresql://jixie@db.example/jixie"}
    for command in ("token auditor", "serve --port 8639"):
        said = jixie(*command.split(), JIXIE_DEVELOPMENT_ISSUER="true", **elsewhere)
        assert said.code == 1
        assert "of this machine" in said.line


def test_a_folder_that_cannot_be_written_is_named(jixie: Jixie, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("migrate", "token auditor"):
        said = jixie(*command.split(), JIXIE_DATA_DIR=str(tmp_path / "file"))
        assert said.code == 1
        assert str(tmp_path / "file") in said.line


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("postgresql://jixie:hidden@127.0.0.1:1/jixie", "Connect call failed"),
        ("postgresql://jixie:hidden@no-such-host.invalid/jixie", "does not serve"),
        ("postgresql://jixie:hidden@127.0.0.1:1/jixie?sslmode=maybe", "sslmode"),
    ],
)
def test_a_database_that_does_not_serve_is_one_line(
    jixie: Jixie, address: str, complaint: str
) -> None:
    for command in ("migrate", "demo", "worker", "serve --port 8639"):
        issuer = "https://issuer.example/keys"
        said = jixie(*command.split(), JIXIE_DATABASE_URL=address, JIXIE_OIDC_JWKS_URL=issuer)
        assert said.code == 1
        assert complaint in said.line
        assert "hidden" not in said.err


def test_a_production_without_its_database_does_not_start(jixie: Jixie) -> None:
    said = jixie("serve", "--port", 8639, **_PRODUCTION)
    assert said.code == 1
    assert said.line.startswith("the database does not serve")


def test_migrating_twice_is_migrating_once(jixie: Jixie, empty_database: str) -> None:
    for _ in range(2):
        said = jixie("migrate", JIXIE_DATABASE_URL=empty_database)
        assert (said.code, said.out) == (0, f"The schema is at {schema.head()}.\n")


def test_a_schema_of_a_later_version_is_left_alone(jixie: Jixie, empty_database: str) -> None:
    jixie("migrate", JIXIE_DATABASE_URL=empty_database)
    _rows(empty_database, "update alembic_version set version_num = '9999'")
    made_up = {"JIXIE_DATABASE_URL": empty_database, "JIXIE_DEVELOPMENT_ISSUER": "true"}
    for command in (["migrate"], ["serve", "--port", 8639]):
        said = jixie(*command, **made_up)
        assert said.code == 1
        assert "'9999'" in said.line


def test_what_needs_the_schema_says_how_to_get_it(
    jixie: Jixie, empty_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.csv"
    file.write_text(_BEIJING)
    for command in (["areas", "load", file], ["import", "members", file], ["worker"]):
        said = jixie(*command, JIXIE_DATABASE_URL=empty_database)
        assert said.code == 1
        assert said.line.endswith("run `jixie migrate`")


def test_areas_of_another_file_load_and_a_second_time_change_nothing(
    jixie: Jixie, empty_database: str, tmp_path: Path
) -> None:
    jixie("migrate", JIXIE_DATABASE_URL=empty_database)
    file = tmp_path / "areas.csv"
    villages = [f"110101{n // 100 + 1:03d}{n % 100 + 200}" for n in range(9_000)]
    towns = sorted({code[:9] for code in villages})
    file.write_text(
        _BEIJING
        + "110100000000,市辖区,prefecture,110000000000\n110101000000,东城区,district,110100000000\n"
        + "".join(f"{code}000,镇{code},town,110101000000\n" for code in towns)
        + "".join(f"{code},村{code},village,{code[:9]}000\n" for code in villages)
    )
    count = 3 + len(towns) + len(villages)
    first = jixie("areas", "load", file, JIXIE_DATABASE_URL=empty_database)
    second = jixie("areas", "load", file, JIXIE_DATABASE_URL=empty_database)
    assert first.out == f"{count} of {count} areas are new or renamed.\n"
    assert second.out == f"0 of {count} areas are new or renamed.\n"


_NO_AREAS: tuple[tuple[bytes, str], ...] = (
    (b"", "Line 1 is not an area"),
    (b"name,code\n", "Line 1 is not an area"),
    (f"{_BEIJING}110000000000,北京,province,\n".encode(), "Line 3 is not an area"),
    (f"{_BEIJING}110101000000,东城区,county,110000000000\n".encode(), "Line 3"),
    (f"{_BEIJING}120100000000,天津,prefecture,110000000000\n".encode(), "Line 3"),
    (f"{_BEIJING}1101,北京,prefecture,110000000000\n".encode(), "Line 3"),
    (f"{_BEIJING}１１0100000000,北京,prefecture,110000000000\n".encode(), "Line 3"),
    (f"{_HEADER}110000000000,北京市,province\n".encode(), "Line 2"),
    (f"{_HEADER}110000000000,北京市,province,,more\n".encode(), "Line 2"),
    (f"{_HEADER}110101000000,东城区,district,110100000000\n".encode(), "Load the file that"),
    ("代码,名称\n".encode("gbk"), "the file is not UTF-8 text"),
    (b"PK\x03\x04\xff\xfe", "the file is not UTF-8 text"),
)


def test_a_wrong_area_file_is_refused_whole(
    jixie: Jixie, empty_database: str, tmp_path: Path
) -> None:
    jixie("migrate", JIXIE_DATABASE_URL=empty_database)
    file = tmp_path / "areas.csv"
    for content, complaint in _NO_AREAS:
        file.write_bytes(content)
        said = jixie("areas", "load", file, JIXIE_DATABASE_URL=empty_database)
        assert said.code == 1
        assert complaint in said.line, content
    assert _rows(empty_database, "select count(*) from areas") == [(0,)]


def test_the_demo_goes_only_into_an_empty_database(jixie: Jixie, district: str) -> None:
    said = jixie("demo", "--members", 100, JIXIE_DATABASE_URL=district)
    assert said.code == 1
    assert "only loaded into an empty database" in said.line
    assert _rows(district, "select count(*) from members") == [(100,)]


def test_a_roster_is_tried_stored_and_found_unchanged(
    jixie: Jixie, district: str, tmp_path: Path
) -> None:
    ((association,),) = _rows(
        district, "select id from associations where mode = 'independent' limit 1"
    )
    file, rejected = tmp_path / "roster.csv", tmp_path / "rejected.csv"
    people = make_people(5)
    people[3]["身份证号码"] = "440101199001011234"
    file.write_bytes(make_csv(people))

    def load(*options: object) -> Said:
        words = ("import", "members", file, "--association", association, *options)
        return jixie(*words, JIXIE_DATABASE_URL=district)

    tried = load()
    assert tried.out.splitlines()[0].endswith("1 rejected; nothing is stored")
    assert "line 5: " in tried.out
    aborted = load("--commit", "--on-error", "abort")
    assert aborted.code == 1
    assert "nothing was stored" in aborted.line
    stored = load("--commit", "--rejected", rejected)
    assert stored.out.startswith("4 created, 0 updated, 0 unchanged, 1 rejected; stored\n")
    assert "5/5" in stored.err
    assert "440101199001011234" not in stored.out + stored.err
    assert rejected.read_text("utf-8-sig").count("\n") == 2
    assert load("--commit").out.startswith("0 created, 0 updated, 4 unchanged, 1 rejected")


_NO_ROSTERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04 but no workbook", ".xlsx"),
    (b"", "Send an .xlsx or .csv file"),
    (b"a,b\n1,2\n", "has a column 姓名"),
    ("姓名\n张三\n".encode(), "协会"),
)


def test_what_is_no_roster_is_refused(jixie: Jixie, district: str, tmp_path: Path) -> None:
    file = tmp_path / "roster.xlsx"
    for content, complaint in _NO_ROSTERS:
        file.write_bytes(content)
        said = jixie("import", "members", file, JIXIE_DATABASE_URL=district)
        assert said.code == 1
        assert complaint in said.line


def test_where_the_rejected_rows_go_is_looked_at_first(
    jixie: Jixie, empty_database: str, tmp_path: Path
) -> None:
    file = tmp_path / "roster.csv"
    file.write_bytes(make_csv(make_people(1)))
    words = ("import", "members", file, "--commit", "--rejected", tmp_path / "no" / "folder.csv")
    said = jixie(*words, JIXIE_DATABASE_URL=empty_database)
    assert said.line == f"cannot write into {tmp_path / 'no'}"


def test_the_openapi_document_is_written_and_compared(jixie: Jixie, tmp_path: Path) -> None:
    file = tmp_path / "folder" / "openapi.json"
    assert jixie("openapi", file).code == 0
    document = json.loads(file.read_text("utf-8"))
    assert document["openapi"].startswith("3.1")
    assert jixie("openapi", file, "--check").code == 0
    document["info"]["title"] = "Another"
    file.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    said = jixie("openapi", file, "--check")
    assert said.code == 1
    assert "Another" in said.line
