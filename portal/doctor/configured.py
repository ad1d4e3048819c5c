"""Settings: misspelt ones, and those that contradict each other."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.settings import Settings, named_variables

PART = "settings"


def check_settings(settings: Settings) -> Iterator[Verdict]:
    """Every fault there is; one ``ok`` where there is none."""
    found = [*_unknown(), *_addresses(settings), *_jobs(settings), *_stores(settings), *_others(settings)]
    yield from found or [ok(PART, "Every PORTAL_ variable is known, and none contradicts another.")]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unknown() -> Iterator[Verdict]:
    known = {f"PORTAL_{name.upper()}" for name in Settings.model_fields}
    for name in named_variables():
        if name.upper() in known or name.startswith("PORTAL_TEST_"):
            continue
        close = difflib.get_close_matches(name.upper(), known, 1, 0.8)
        if close:
            yield fail(PART, f"{name} is no setting; it has no effect.", f"Did you mean {close[0]}?")
        else:
            yield warn(PART, f"{name} is no setting; it has no effect.", "Remove it; the README lists the settings.")


def _addresses(settings: Settings) -> Iterator[Verdict]:
    for name, value in (
        ("PORTAL_PUBLIC_URL", settings.public_url),
        ("PORTAL_S3_ENDPOINT", settings.s3_endpoint),
        ("PORTAL_S3_PUBLIC_ENDPOINT", settings.s3_public_endpoint),
        ("PORTAL_HF_ENDPOINT", settings.hf_endpoint),
    ):
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            yield fail(PART, f"{name} is no address: {value[:100]!r}.", "Write http:// or https:// and a host.")
    public = urlsplit(settings.public_url)
    if public.scheme == "http" and public.hostname and not is_loopback(public.hostname):
        yield warn(
            PART, "PORTAL_PUBLIC_URL is http: tokens and sessions cross the network in the clear.", "Serve https."
        )
    if settings.sendfile == "xaccel" and not settings.public_url:
        yield warn(
            PART,
            "PORTAL_SENDFILE is xaccel, so nginx stands in front, and PORTAL_PUBLIC_URL is not set.",
            "Set it to the address that nginx answers under: links would name the inner one.",
        )


def _jobs(settings: Settings) -> Iterator[Verdict]:
    if settings.lease_seconds < 2 * settings.heartbeat_seconds:
        yield fail(
            PART,
            f"A lease of {settings.lease_seconds:g} s does not outlast two heartbeats of "
            f"{settings.heartbeat_seconds:g} s: workers lose jobs they are at.",
            "Raise PORTAL_LEASE_SECONDS, or lower PORTAL_HEARTBEAT_SECONDS.",
        )
    host = urlsplit(settings.public_url).hostname or ""
    if settings.anonymous_jobs and host and not is_loopback(host):
        yield fail(
            PART,
            f"PORTAL_ANONYMOUS_JOBS lets anybody who reaches {host} use the workers.",
            "Unset it; `portal demo` sets it for itself.",
        )


def _stores(settings: Settings) -> Iterator[Verdict]:
    if settings.s3_public_endpoint and not settings.s3_endpoint:
        yield fail(
            PART,
            "PORTAL_S3_PUBLIC_ENDPOINT is set and PORTAL_S3_ENDPOINT is not: files are read from AWS, and clients sent "
            "elsewhere.",
            "Set both, or neither.",
        )
    if "max_blob_bytes" not in settings.model_fields_set:
        return
    for name, value in (("UPLOAD", settings.upload_bytes), ("MAX_RELEASE", settings.max_release_bytes)):
        if 0 < value < settings.max_blob_bytes:
            yield warn(
                PART,
                f"PORTAL_{name}_BYTES is less than PORTAL_MAX_BLOB_BYTES: the largest files can never be sent.",
                "Raise the one, or lower the other.",
            )


def _others(settings: Settings) -> Iterator[Verdict]:
    if not settings.data.is_absolute():
        yield warn(
            PART,
            f"PORTAL_DATA is {str(settings.data)!r}, which depends on the folder a command is started in "
            f"(here: {settings.data.absolute()}).",
            "Write an absolute path.",
        )
    if settings.url:
        yield warn(
            PART,
            "PORTAL_URL is set: reading commands on this machine ask that portal, not this one.",
            "Unset it where the portal itself runs.",
        )
