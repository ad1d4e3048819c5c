"""Every setting, typed, with its help; read from ``PORTAL_*`` variables, then ``portal.toml``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import Field, SecretStr
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
    signing_key: Path | None = Field(
        None, description="File with the private key that the portal signs with; none: it signs nothing."
    )
    history_sign_every: str = Field(
        "1h",
        pattern=r"^(\d+(\.\d+)?[smhdw])?$",
        description="How often the head of the history is signed where it has grown; empty means never.",
    )
    hf_endpoint: str = Field("https://huggingface.co", description="Hugging Face Hub that hf:// locations point to.")
    hf_token: SecretStr = Field(SecretStr(""), description="Token for that Hub; sent to no other host.")
    s3_endpoint: str = Field("", description="S3-compatible server that s3:// locations point to; empty means AWS.")
    s3_public_endpoint: str = Field("", description="The same server as users reach it; used in signed addresses.")
    s3_region: str = Field("us-east-1", description="Region that requests to it are signed for.")
    storage_url: str = Field(
        "",
        description="Where the portal keeps files of its own: a folder, or s3://bucket/prefix; empty: inside PORTAL_DATA.",
    )
    s3_buckets: str = Field("", description="Buckets that may be read, by commas; empty means all its keys can read.")
    presign_seconds: int = Field(6 * 3600, ge=1, le=7 * 86400, description="How long a signed address is good for.")
    private_hosts: str = Field(
        "", description="Hosts and networks of the operator that https:// and hf:// files may be read from, by commas."
    )
    remote_files: str = Field(
        "redirect",
        pattern="^(redirect|proxy)$",
        description="How files elsewhere are handed out: by their own (for S3 signed) address, or through the portal.",
    )
    remote_timeout: float = Field(20.0, gt=0, description="Seconds of silence after which a request is given up.")
    remote_attempts: int = Field(4, ge=1, le=20, description="How often a failing request is tried in all.")
    verify_reads: str = Field(
        "blocks",
        pattern="^(blocks|off)$",
        description="Whether reads elsewhere fetch whole 8 MiB blocks and compare them with their digests.",
    )
    verify_every: str = Field(
        "",
        pattern=r"^(\d+(\.\d+)?[smhdw])?$",
        description="How often `portal serve` looks at the bytes of every file again, e.g. 30d; empty means never.",
    )
    verify_rate: str = Field("50MB/s", description="Bytes a second that it reads for that, at most.")
    verify_sample: str = Field("1%", description="Share or number of 8 MiB blocks it reads of each file elsewhere.")
    block_cache_bytes: int = Field(2 << 30, ge=0, description="Room under PORTAL_DATA for verified blocks, in bytes.")
    max_line_bytes: int = Field(64 * MIB, description="Longest jsonl line that is read, in bytes.")
    max_manifest_bytes: int = Field(64 * MIB, description="Largest manifest that is parsed, in bytes.")
    token: SecretStr = Field(SecretStr(""), description="API token that commands send to a portal elsewhere.")
    max_blob_bytes: int = Field(1 << 40, ge=1, description="Largest file that may be uploaded, in bytes.")
    max_release_bytes: int = Field(
        0, ge=0, description="Largest release that may be uploaded, in bytes; 0 means any size."
    )
    upload_bytes: int = Field(
        0, ge=0, description="Room that unfinished uploads may take together, in bytes; 0 means what the disk has."
    )
    disk_reserve_bytes: int = Field(
        1 << 30, ge=0, description="Bytes that uploads leave free on the portal's own disk."
    )
    max_uploads: int = Field(64, ge=1, description="Uploads that one process takes at a time.")
    upload_seconds: float = Field(
        30.0, gt=0, description="Seconds in which an upload must bring another 64 KiB, else it is cut off."
    )
    hash_workers: int = Field(0, description="Threads that hash files while publishing; 0 means one per core.")
    lease_seconds: float = Field(
        90.0, gt=0, description="How long a worker may be silent before its job goes to another one."
    )
    heartbeat_seconds: float = Field(15.0, gt=0, description="How often workers tell that they are alive.")
    reaper_seconds: float = Field(10.0, gt=0, description="How often the portal looks for workers that fell silent.")
    retry_seconds: float = Field(
        10.0, ge=0, description="Pause before a failed attempt is followed by another; doubles each time."
    )
    cancel_grace_seconds: float = Field(
        120.0, ge=0, description="How long a cancelled job may take to save its state before it is killed."
    )
    job_attempts: int = Field(3, ge=1, le=100, description="Attempts a job gets before it has failed.")
    jobs_per_person: int = Field(0, ge=0, description="Jobs of one token that may run at a time; 0: any number.")
    job_log_bytes: int = Field(256 * MIB, ge=0, description="Log kept of one attempt, in bytes.")
    leftovers_after: str = Field(
        "30d",
        pattern=r"^(\d+(\.\d+)?[smhdw])?$",
        description="After what time checkpoints of ended jobs that no run uses, and files of the portal's own store that"
        " nothing refers to, are removed; empty means never.",
    )
    anonymous_jobs: bool = Field(
        False, description="Whether jobs may be submitted and cancelled without a token (`portal demo` sets it)."
    )
    session_hours: float = Field(
        168.0, gt=0, le=8760, description="How long a browser stays signed in, however often it is used, in hours."
    )
    session_idle_hours: float = Field(
        24.0, ge=0, le=8760, description="Hours without a request after which it is signed out; 0: it is not."
    )
    token_days: int = Field(90, ge=1, le=3650, description="Days that tokens are good which people make themselves.")
    token_max_days: int = Field(365, ge=1, le=3650, description="Days that such a token may be good at most.")
    oidc_issuer: str = Field(
        "",
        pattern=r"^(https://[^\s?#]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s?#]*)?)?$",
        description="OpenID Connect provider that people sign in with, as it names itself; empty: tokens alone.",
    )
    oidc_client_id: str = Field("", description="What that provider knows this portal by.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="The portal's secret there; empty: it has none.")
    oidc_scope: str = Field("openid profile email", description="What is asked of that provider.")
    oidc_claim: str = Field("groups", description="Claim of its ID tokens that roles follow from; a.b for b inside a.")
    oidc_roles: str = Field(
        "", description="Who gets which role: VALUE=ROLE[@ORGANISATION], by semicolons; the first that fits counts."
    )
    anonymous_reading: bool = Field(
        True, description="Whether public runs may be read without a token; off: everybody has to sign in."
    )
    answer_cache_bytes: int = Field(128 * MIB, description="Memory for ready-made answers of published runs, in bytes.")

    trusted_proxies: str = Field(
        "", description="Addresses and networks of proxies whose X-Forwarded-For, -Proto and X-Request-Id are believed."
    )
    rates: str = Field(
        "",
        description="Requests a minute of one client by kind, e.g. reads=6000,costly=600; 0: no limit; off: none at all.",
    )
    max_running: int = Field(64, ge=1, description="Requests that one process works on at a time.")
    max_waiting: int = Field(256, ge=0, description="Requests that wait for that; further ones are told to come again.")
    max_requests: int = Field(4096, ge=1, description="Requests, downloads included, that one process takes at a time.")
    statement_seconds: float = Field(
        5.0, ge=0, description="Seconds after which the database gives up a question of a page; 0: never."
    )
    stop_delay: float = Field(
        0.0, ge=0, description="Seconds for which a process told to stop goes on answering, while /readyz says 503."
    )
    stop_seconds: int = Field(
        60, ge=1, description="Seconds that answers which have begun, downloads too, may take to end once it stops."
    )
    log: str = Field("text", pattern="^(text|json)$", description="How the log on stderr is written.")
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="What is logged: this level and above."
    )
    access_log: str = Field(
        "",
        pattern="^(all|notable|none)?$",
        description="Requests that are logged; notable: failed, refused or slow; empty: all where the log is json.",
    )
    metrics_from: str = Field(
        "127.0.0.0/8, ::1",
        description="Addresses and networks that may read /metrics without an administrator's token.",
    )
    otel_endpoint: str = Field(
        "",
        description="OTLP/HTTP address that traces are sent to; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or none are made.",
    )

    @property
    def resolved_otel_endpoint(self) -> str:
        """Where traces go; OpenTelemetry's own variable counts, too."""
        return self.otel_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")

    @property
    def keys_around(self) -> list[str]:
        """Secrets that libraries find in the environment by themselves: never to be told."""
        named = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN")
        return [value for name in named if (value := os.environ.get(name))]

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


def named_variables() -> list[str]:
    """Names of all variables that begin like settings, known or not."""
    return sorted(name for name in os.environ if name.upper().startswith("PORTAL_"))


def secret_files(settings: Settings) -> list[Path]:
    """Files of this process that hold secrets, where they are there."""
    home = Path(os.environ.get("HOME", "/"))
    named = [
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"),
        Path(os.environ.get("PGPASSFILE") or home / ".pgpass"),
        Path(".env"),
    ]
    toml = Path("portal.toml")
    if toml.is_file() and _holds_secret(toml):
        named.append(toml)
    if settings.signing_key:
        named.append(settings.signing_key)
    return [path for path in named if path.is_file()]


def _holds_secret(toml: Path) -> bool:
    try:
        found = tomllib.loads(toml.read_text("utf-8"))
    except (OSError, ValueError):
        return True
    secret = {name for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    return any(found.get(name) for name in secret) or "@" in str(found.get("database_url", ""))
