"""What the handbook promises is what the code does: limits, logs, calls, algorithms, settings."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from app import answers, apart, calls, crypto, workbooks
from app.identity import STEP_UP_SECONDS
from app.models.columns import Retention, Sensitivity
from app.models.events.attendances import Batch
from app.models.privacy.phone_codes import MAX_TRIES
from app.paging import Filters
from app.services.channels import cash_lists
from app.services.membership import roster_rows
from app.services.privacy import phone_codes, reveals
from app.settings import Settings

_HANDBOOK = Path("docs/operations.md").read_text("utf-8")
_PRIVACY = Path("docs/privacy.md").read_text("utf-8")
_APP = {path: ast.parse(path.read_text("utf-8")) for path in sorted(Path("app").rglob("*.py"))}
_DEMO = re.compile(r"demo")
_CRYPTOGRAPHY = {
    *("AESGCM", "SM4", "GCM", "SM3", "HMAC", "SHA256", "HKDF", "Ed25519PrivateKey"),
    *("Encoding", "PublicFormat"),  # of a public key that is handed out
    *("RSAPublicKey", "InvalidTag", "ciphers"),
}


def section(heading: str) -> str:
    """Give the text below a heading of the handbook."""
    found = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", _HANDBOOK, re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"docs/operations.md has no heading {heading!r}"
    return found[1]


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def _importers(*modules: str) -> set[str]:
    return {
        path.stem
        for path, tree in _APP.items()
        if any(name == m or name.startswith(f"{m}.") for name, _ in _imports(tree) for m in modules)
    }


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _logged() -> set[str]:
    events = set()
    for tree in _APP.values():
        for name, call in _calls(tree):
            is_log = re.fullmatch(r"_log\.(debug|info|warning|error)|write", name) is not None
            if is_log and call.args and isinstance(call.args[0], ast.Constant):
                events.add(str(call.args[0].value))
    return events


def test_every_event_that_is_logged_is_in_the_inventory() -> None:
    rows = re.findall(r"^\| (`.*?) \| (?:info|warning|error)", section("Logs"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == _logged()


def test_the_log_goes_nowhere_else() -> None:
    writers = {
        path.stem
        for path, tree in _APP.items()
        for name, _ in _calls(tree)
        if re.search(r"(File|Socket|SysLog|HTTP|SMTP)Handler$|LoggerFactory$", name)
    }
    assert writers == {"logging"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bJIXIE_(\w+)", _HANDBOOK))))
def test_a_setting_that_is_named_exists(name: str) -> None:
    assert name.lower() in {*Settings.model_fields, "secrets_dir"}


def test_the_limits_are_those_of_the_code() -> None:
    said = section("Limits")
    default = {name: field.default for name, field in Settings.model_fields.items()}
    phone, member, address = (
        each.most for each in (phone_codes.OF_PHONE, phone_codes.OF_MEMBER, phone_codes.OF_ADDRESS)
    )
    page, lines = _most_of(Filters, "limit"), _most_of(Batch, "lines")
    fields = f"{answers._MAX_HEADERS} of {answers._MAX_HEADER_BYTES} bytes"
    most = [
        f"{default['max_body_bytes'] // 2**20} MiB (`JIXIE_MAX_BODY_BYTES`)",
        f"{default['max_upload_bytes'] // 2**20} MiB (`JIXIE_MAX_UPLOAD_BYTES`)",
        f"{default['body_seconds']} seconds (`JIXIE_BODY_SECONDS`)",
        f"{answers._MAX_TARGET_BYTES} bytes; {fields}",
        f"{page}; {lines} lines; {cash_lists.MAX_LINES} lines",
        f"{default['statement_timeout_ms'] // 1000} seconds;",
        f"{default['lock_timeout_ms'] // 1000} seconds |",
        f"{phone} a day, one a minute; {member} a day; {address} an hour",
        f"{MAX_TRIES}, {phone_codes.LIFETIME.seconds // 60} minutes",
        f"a new phone | {phone_codes.MOST_WRONG_OF_ONE} an hour",
        f"{default['sms_daily_limit']} a day (`JIXIE_SMS_DAILY_LIMIT`)",
        f"{default['wrong_codes_hourly_limit']} an hour (`JIXIE_WRONG_CODES_HOURLY_LIMIT`)",
        f"{reveals.PER_DAY} a day",
    ]
    assert not [each for each in most if each not in said]
    assert f"{STEP_UP_SECONDS // 60} minutes" in section("Signing in")
    assert str(default["member_token_minutes"]) in section("Sessions")


def _most_of(shape: type[BaseModel], name: str) -> int:
    bounds = [
        getattr(each, "le", None) or getattr(each, "max_length", None)
        for each in shape.model_fields[name].metadata
    ]
    return int(next(bound for bound in bounds if bound is not None))


def test_the_limits_of_files_are_those_of_the_code() -> None:
    said = " ".join(section("Files").split())
    for number in (
        f"{workbooks._MAX_UNPACKED // 2**20} MiB",
        f"{workbooks._MAX_RATIO} times",
        f"{workbooks._MAX_MEMBERS} members",
        f"{workbooks._MAX_CELLS // 10**6} million cells",
        f"{apart._MAX_MEMORY // 2**30} GiB of memory",
        f"{apart._MAX_SECONDS} seconds of processor time",
        f"{roster_rows.MAX_ROWS} rows",
    ):
        assert number in said


def test_only_one_place_calls_out_and_only_to_what_is_set() -> None:
    assert _importers("httpx") == {"calls"}
    assert not _importers("requests", "aiohttp", "urllib3", "urllib.request", "smtplib", "ftplib")
    callers = {
        (path.stem, ast.unparse(call.args[0]))
        for path, tree in _APP.items()
        for name, call in _calls(tree)
        if name == "Peer"
    }
    assert callers == {
        ("tokens", "url"),
        ("sms", "settings.sms_url"),
        ("payment_gateway", "settings.gateway_url"),
    }
    listed = set(re.findall(r"`JIXIE_(\w+_URL)`", section("Outgoing calls")))
    assert listed == {name.upper() for name in Settings.model_fields if name.endswith("_url")}
    assert f"{calls._MAX_ANSWER_BYTES // 2**20} MiB" in section("Outgoing calls")


def test_the_algorithms_are_those_of_the_inventory() -> None:
    used = {
        name
        for tree in _APP.values()
        for module, name in _imports(tree)
        if module.startswith("cryptography")
    }
    assert used == _CRYPTOGRAPHY
    hashes = {
        match
        for tree in _APP.values()
        for match in re.findall(
            r"hashlib\.(\w+)\(|hmac\.(?:digest|new)\([^'\n]*'(\w+)'", ast.unparse(tree)
        )
    }
    assert {either or other for either, other in hashes} == {"sha256"}
    said = section("Cryptography")
    for name in ("AES-256-GCM", "SM4-GCM", "HMAC-SHA-256", "HMAC-SM3", "HKDF-SHA-256", "Ed25519"):
        assert name in said
    for algorithm in Settings.model_fields["oidc_algorithms"].default:
        assert algorithm in said


def test_what_we_sign_is_never_of_less_than_128_bits() -> None:
    sources = {path.stem: ast.unparse(tree) for path, tree in _APP.items()}
    lengths = {
        name: re.findall(r"\.sign\([^\n]*length=(\w+)", source) for name, source in sources.items()
    }
    named = [(name, length) for name, found in lengths.items() for length in found]
    assert len(named) >= 2
    for name, length in named:
        (value,) = re.findall(rf"^{length} = (\d+)$", sources[name], re.MULTILINE)
        assert int(value) >= 16
    (default,) = re.findall(r"def sign\([^\n]*length: int=(\d+)", sources["crypto"])
    assert int(default) >= 16


def test_chance_that_must_not_be_foretold_comes_from_the_system() -> None:
    assert all(_DEMO.search(name) for name in _importers("random"))
    assert _importers("secrets") == {"crypto"}


def test_nothing_that_came_in_is_run() -> None:
    dangerous = re.compile(
        r"eval|exec|compile|__import__|os\.(system|popen|exec\w*)|.*\.extractall"
    )
    found = {
        (path.stem, name)
        for path, tree in _APP.items()
        for name, _ in _calls(tree)
        if dangerous.fullmatch(name)
    }
    assert not found
    assert not _importers("pickle", "marshal", "shelve", "yaml", "jinja2", "lxml", "ldap3")
    # Their readers refuse document types, and so entities; the tests of both try.
    assert _importers("xml") == {"plain_xml", "workbooks"}
    assert _importers("subprocess") <= {"apart", "embedded"}
    shells = [
        name
        for tree in _APP.values()
        for name, call in _calls(tree)
        if any(keyword.arg == "shell" for keyword in call.keywords)
    ]
    assert not shells


def test_the_classes_and_retentions_of_data_are_explained() -> None:
    for word in (*Sensitivity, *Retention):
        assert f"| `{word}` |" in _PRIVACY


def test_each_key_is_in_the_table_of_keys() -> None:
    named = set(re.findall(r"`JIXIE_(\w+_KEYS?)`", section("Keys")))
    keys = {name.upper() for name in Settings.model_fields if re.search(r"_keys?$", name)}
    assert named | {"SMS_KEY", "GATEWAY_KEY"} == keys


def test_the_images_context_is_the_code_and_its_lock() -> None:
    lines = Path(".dockerignore").read_text("utf-8").splitlines()
    assert lines[0] == "*"
    assert {line for line in lines if line.startswith("!")} == {"!app", "!requirements.lock"}


def test_no_pattern_is_made_of_input() -> None:
    """A pattern is a literal, or is made once of our constants at the top of a module."""
    searching = re.compile(r"re\.(compile|match|search|fullmatch|sub|findall|finditer|split)")
    top = {
        id(call)
        for tree in _APP.values()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for _, call in _calls(node)
    }
    inner = [
        f"{path}:{call.lineno}"
        for path, tree in _APP.items()
        for name, call in _calls(tree)
        if searching.fullmatch(name)
        and not isinstance(call.args[0], ast.Constant)
        and id(call) not in top
    ]
    assert not inner


def test_words_are_formatted_from_our_catalogue_alone() -> None:
    """What is formatted is a text of the catalogue or a statement of ours, never a value."""
    formatted = {
        (path.stem, name.rpartition(".")[0])
        for path, tree in _APP.items()
        for name, _ in _calls(tree)
        if name.endswith((".format", ".format_map"))
    }
    constant = re.compile(r"(\w+\.)?_?[A-Z][A-Z_]+")
    others = {each for each in formatted if not constant.fullmatch(each[1])}
    assert others == {("wording", "str(template)"), ("streaks", "one"), ("streaks", "unbroken")}


def test_a_phone_code_has_six_digits_that_are_all_as_likely() -> None:
    codes = [crypto.six_digits() for _ in range(20_000)]
    assert all(re.fullmatch(r"[0-9]{6}", code) for code in codes)
    for place in range(6):
        counts = Counter(code[place] for code in codes)
        assert all(1_700 < counts[digit] < 2_300 for digit in "0123456789")
