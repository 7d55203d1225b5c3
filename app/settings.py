"""Everything that a deployment may set, read from `JIXIE_*` variables or mounted secret files."""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app import crashes

Algorithm = Literal["EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256"]
Acr = Annotated[str, Field(pattern=r"^[!#-\[\]-~]+$")]
_SECRETS = "JIXIE_SECRETS_DIR", "/run/secrets"
_POSTGRES = re.compile(r"postgres(ql)?(\+asyncpg)?://[^\s]+")
_HTTP = re.compile(r"https?://[^\s?#@]+")
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_VERSIONED_KEY = re.compile(r"([1-9][0-9]{0,2}):[0-9a-fA-F]{64}(:international|:guomi)?")
_LAST_VERSION = 255
_PRIVATE = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
MOST_ELSEWHERE = 500
"""Some hundreds may be enrolled elsewhere when a factory of thousands changes hands."""


class Settings(BaseSettings):
    """The settings of one process; a variable that is set to nothing is not set."""

    model_config = SettingsConfigDict(
        env_prefix="JIXIE_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    mode: Literal["development", "production"] = Field(
        default="development",
        description="Production refuses the development issuer and generated keys.",
    )
    data_dir: Path = Field(
        default=Path(".jixie"), description="Where the embedded database and generated keys live."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql://… of PostgreSQL 15 or newer; unset: an embedded server.",
    )
    owner_url: SecretStr | None = Field(
        default=None,
        description="The same database as its owner, for `migrate`; development can derive one.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    pool_size: int = Field(
        default=8, ge=2, le=100, description="Connections of each of the two pools."
    )
    operations_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = Field(
        default=[ip_network(each) for each in _PRIVATE],
        description="From where /healthz and /metrics are answered, with commas between.",
    )
    statement_timeout_ms: int = Field(
        default=5_000, ge=100, description="Longest statement of a request."
    )
    lock_timeout_ms: int = Field(default=2_000, ge=100, description="Longest wait for a row lock.")
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Largest JSON body.")
    max_upload_bytes: int = Field(default=33_554_432, ge=1024, description="Largest uploaded file.")
    body_seconds: float = Field(
        default=120, gt=0, le=3600, description="Longest wait for a whole body or file."
    )
    worker: bool = Field(
        default=True,
        description="Whether `serve` also works the queue; off where workers run apart.",
    )
    audit_heads: Path | None = Field(
        default=None,
        description="Where each seal of the audit is published as a JSON line; keep it elsewhere,"
        " as on a volume that the database's people cannot write. Unset, in development alone: in"
        " the data directory.",
    )
    audit_reads_wait: bool = Field(
        default=False,
        description="Whether reads too wait until their entry is on the disk, so that not even a"
        " crash of the database loses one; at half the throughput.",
    )
    oidc_issuer: str = Field(
        default="urn:jixie:development", description="`iss` of accepted tokens."
    )
    oidc_audience: str = Field(default="jixie", description="`aud` of accepted tokens.")
    oidc_jwks_url: str | None = Field(
        default=None, description="Where the issuer publishes its keys."
    )
    oidc_algorithms: Annotated[list[Algorithm], NoDecode] = Field(
        default=["EdDSA", "ES256", "RS256"],
        min_length=1,
        description="Signature algorithms accepted, with commas between.",
    )
    oidc_rsa_bits: int = Field(
        default=3072, ge=2048, le=16384, description="Shortest RSA key of the issuer accepted."
    )
    oidc_step_up_acr: Annotated[list[Acr], NoDecode] = Field(
        default=["urn:jixie:acr:two-factor"],
        min_length=1,
        description="`acr` values of sign-ins strong enough for all, with commas between.",
    )
    development_issuer: bool = Field(
        default=False,
        description="Whether a database that is set, on this machine, is made up, so that tokens"
        " may be signed here.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="32 random bytes in hex: the root of the file, cursor and signing keys.",
    )
    master_keys: SecretStr | None = Field(
        default=None,
        description="`2:64 hex digits,1:…`: the first wraps new data keys, all unwrap.",
    )
    index_keys: SecretStr | None = Field(
        default=None,
        description="As `master_keys`, two at most: the keys of blind indexes. A key that was used"
        " under another profile says so: `1:…:international`.",
    )
    crypto_profile: Literal["international", "guomi"] = Field(
        default="international",
        description="AES-256-GCM and HMAC-SHA-256, or SM4-GCM and HMAC-SM3, for what is new.",
    )
    member_issuer: str = Field(
        default="urn:jixie:members", description="`iss` of the tokens that members log in to."
    )
    member_token_minutes: int = Field(
        default=60, ge=5, le=720, description="How long a member stays logged in."
    )
    sms_url: str | None = Field(
        default=None, description="The SMS provider; unset: no login by phone."
    )
    sms_key: SecretStr | None = Field(
        default=None, description="By which the SMS provider knows us."
    )
    sms_signature: str = Field(
        default="计协", min_length=1, max_length=20, description="Sender named in messages."
    )
    sms_timeout_seconds: float = Field(
        default=5, gt=0, le=60, description="Longest wait for the SMS provider."
    )
    sms_daily_limit: int = Field(
        default=5_000, ge=1, description="Codes sent in a district each day; then none."
    )
    wrong_codes_hourly_limit: int = Field(
        default=2_000, ge=1, description="Wrong codes in a district each hour; then all must wait."
    )
    enrolled_elsewhere_daily_limit: int = Field(
        default=MOST_ELSEWHERE,
        ge=1,
        description="How many ID numbers a day a caller is told to be enrolled beyond her reach;"
        " then none is looked up for her.",
    )
    gateway_url: str | None = Field(
        default=None, description="The payment gateway; unset: no run is paid over it."
    )
    gateway_key: SecretStr | None = Field(
        default=None, description="By which the payment gateway knows us."
    )
    gateway_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="Longest wait for the payment gateway."
    )
    crash_at: str | None = Field(
        default=None,
        description="For tests: kills the process at a named point, as `work.before_commit:2`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    log_json: bool = Field(default=True, description="JSON lines; off: lines for a terminal.")
    demo_members: int = Field(
        default=20_000, ge=100, le=1_100_000, description="Members of the demo."
    )

    @property
    def heads_file(self) -> Path:
        """Where the worker publishes the heads of the audit's seals."""
        return self.audit_heads or self.data_dir / "audit-heads.jsonl"

    @field_validator("oidc_algorithms", "oidc_step_up_acr", "operations_networks", mode="before")
    @classmethod
    def split_at_commas(cls, value: object) -> object:
        """Take `EdDSA,ES256` for a list."""
        return [each.strip() for each in value.split(",")] if isinstance(value, str) else value

    @field_validator("database_url")
    @classmethod
    def refuse_other_databases(cls, value: SecretStr | None) -> SecretStr | None:
        """Raise ValueError when the address is not PostgreSQL's."""
        if value is not None and not _POSTGRES.fullmatch(value.get_secret_value()):
            raise ValueError("must be like postgresql://user:password@host:5432/database")
        return value

    @field_validator("oidc_jwks_url")
    @classmethod
    def refuse_other_issuers(cls, value: str | None) -> str | None:
        """Raise ValueError when the address is none, or holds a name and password."""
        if value is not None and not _HTTP.fullmatch(value):
            raise ValueError("must be like https://login.example.cn/keys")
        return value

    @field_validator("sms_url", "gateway_url")
    @classmethod
    def refuse_other_providers(cls, value: str | None) -> str | None:
        """Raise ValueError when the address is none; paths are put behind it."""
        if value is not None and not _HTTP.fullmatch(value):
            raise ValueError("must be like https://provider.example.cn/v1")
        return value and value.rstrip("/")

    @field_validator("crash_at")
    @classmethod
    def refuse_other_points(cls, value: str | None) -> str | None:
        """Raise ValueError when it is no name of a crash point."""
        if value is not None and not crashes.SHAPE.fullmatch(value):
            raise ValueError("must be like work.before_commit:2, as app/crashes.py says")
        return value

    @field_validator("secret_key")
    @classmethod
    def refuse_other_keys(cls, value: SecretStr | None) -> SecretStr | None:
        """Raise ValueError when the key is not 32 bytes in hex."""
        if value is not None and not _HEX_KEY.fullmatch(value.get_secret_value()):
            raise ValueError("must be 64 hex digits, as `openssl rand -hex 32` gives them")
        return value

    @field_validator("master_keys", "index_keys")
    @classmethod
    def refuse_other_versions(cls, value: SecretStr | None) -> SecretStr | None:
        """Raise ValueError when the keys have no versions, or one version twice."""
        if value is None:
            return value
        found = [_VERSIONED_KEY.fullmatch(e.strip()) for e in value.get_secret_value().split(",")]
        versions = [int(match[1]) for match in found if match is not None]
        if len(set(versions)) < len(found) or max(versions) > _LAST_VERSION:
            raise ValueError("must be like 2:64 hex digits,1:64 hex digits; versions up to 255")
        return value

    @field_validator("index_keys")
    @classmethod
    def refuse_a_third_index_key(cls, value: SecretStr | None) -> SecretStr | None:
        """Raise ValueError when more than one key is being replaced."""
        if value is not None and value.get_secret_value().count(",") > 1:
            raise ValueError("takes two versions; end one rotation before the next")
        return value

    @model_validator(mode="after")
    def refuse_a_production_that_is_not_one(self) -> Self:
        """Raise ValueError when production lacks what development would make up."""
        if self.mode == "development":
            return self
        if self.development_issuer:
            raise ValueError("production has no development issuer")
        if self.crash_at is not None:
            raise ValueError("production does not end itself: unset JIXIE_CRASH_AT")
        required: tuple[str, ...] = (
            "database_url",
            "oidc_jwks_url",
            "secret_key",
            "master_keys",
            "index_keys",
            "audit_heads",
        )
        providers = {"sms": "sends codes", "gateway": "pays"}
        used = [name for name in providers if getattr(self, f"{name}_url") is not None]
        required += tuple(f"{name}_key" for name in used)
        unset = [f"JIXIE_{name.upper()}" for name in required if getattr(self, name) is None]
        if unset:
            raise ValueError(f"production needs {', '.join(unset)}")
        for name in used:
            if not getattr(self, f"{name}_url").startswith("https:"):
                setting = f"JIXIE_{name.upper()}_URL"
                raise ValueError(f"production {providers[name]} over https alone: {setting}")
        if not str(self.oidc_jwks_url).startswith("https:"):
            raise ValueError("production trusts keys over https alone: JIXIE_OIDC_JWKS_URL")
        return self


@lru_cache
def load() -> Settings:
    """Read the settings once for this process; a secret may be a file, as `jixie_secret_key`."""
    secrets = Path(os.environ.get(*_SECRETS))
    found = secrets if secrets.is_dir() else None
    return Settings(_secrets_dir=found)  # type: ignore[call-arg]  # the library's own argument


def described(current: Settings) -> Iterator[str]:
    """Write each setting with its meaning and whether it was set; secrets are stars."""
    for name, field in Settings.model_fields.items():
        origin = "set" if name in current.model_fields_set else "default"
        shown = _shown(getattr(current, name))
        yield f"JIXIE_{name.upper()}={shown}  # {origin}: {field.description}"


def _shown(value: object) -> str:
    """Write a setting as its variable would hold it."""
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
