"""Everything that a deployment may set, read from `JIXIE_*` variables or mounted secret files."""

from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(env_prefix="JIXIE_", env_file=".env", extra="ignore")

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
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port to listen on.")
    pool_size: int = Field(
        default=8, ge=2, le=100, description="Connections of each of the two pools."
    )
    statement_timeout_ms: int = Field(
        default=5_000, ge=100, description="Longest statement of a request."
    )
    lock_timeout_ms: int = Field(default=2_000, ge=100, description="Longest wait for a row lock.")
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Largest JSON body.")
    max_upload_bytes: int = Field(default=33_554_432, ge=1024, description="Largest uploaded file.")
    worker: bool = Field(
        default=True,
        description="Whether `serve` also works the queue; off where workers run apart.",
    )
    oidc_issuer: str = Field(
        default="urn:jixie:development", description="`iss` of accepted tokens."
    )
    oidc_audience: str = Field(default="jixie", description="`aud` of accepted tokens.")
    oidc_jwks_url: str | None = Field(
        default=None, description="Where the issuer publishes its keys."
    )
    oidc_algorithms: list[str] = Field(
        default=["EdDSA", "ES256", "RS256"],
        description="Signature algorithms accepted, never `none`.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="32 random bytes in hex: the root of the field, index and cursor keys.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info")
    log_json: bool = Field(default=True, description="JSON lines; off: lines for a terminal.")
    demo_members: int = Field(
        default=20_000, ge=100, le=1_100_000, description="Members of the demo."
    )

    @model_validator(mode="after")
    def refuse_a_production_that_is_not_one(self) -> Self:
        """Raise ValueError when production lacks what development would make up."""
        if self.mode == "development":
            return self
        required = ("database_url", "oidc_jwks_url", "secret_key")
        unset = [f"JIXIE_{name.upper()}" for name in required if getattr(self, name) is None]
        if unset:
            msg = f"production needs {', '.join(unset)}"
            raise ValueError(msg)
        return self


@lru_cache
def load() -> Settings:
    """Read the settings once for this process."""
    return Settings()
