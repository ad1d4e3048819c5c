"""Every setting, typed, with its help; read from ``PORTAL_*`` variables, then ``portal.toml``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MIB = 1 << 20


class Settings(BaseSettings):
    """What an operator may set. Importing this module reads nothing; constructing it does."""

    model_config = SettingsConfigDict(env_prefix="PORTAL_", toml_file="portal.toml", extra="forbid", frozen=True)

    data: Path = Field(Path("portal-data"), description="Folder for the embedded database, stored metrics and indexes.")
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite (WAL) inside PORTAL_DATA.")
    public_url: str = Field("", description="Address under which users reach the portal; used in links it hands out.")
    url: str = Field("", description="Portal that reading commands ask; empty means the local catalog.")
    sendfile: str = Field(
        "builtin",
        pattern="^(builtin|xaccel)$",
        description="How local files are sent: by the portal itself, or handed to nginx.",
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Hugging Face Hub that hf:// locations point to.")
    max_line_bytes: int = Field(64 * MIB, description="Longest jsonl line that is read, in bytes.")
    max_manifest_bytes: int = Field(64 * MIB, description="Largest manifest that is parsed, in bytes.")
    hash_workers: int = Field(0, description="Threads that hash files while publishing; 0 means one per core.")
    answer_cache_bytes: int = Field(128 * MIB, description="Memory for ready-made answers of published runs, in bytes.")

    @property
    def resolved_database_url(self) -> str:
        """The database in use, with the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'portal.sqlite3'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then ``portal.toml`` in the working folder."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
