"""The portal's log: lines to read, or JSON lines to collect, each with the id of its request and without any secret."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from pydantic import SecretStr
from sqlalchemy.engine import make_url  # noqa: TID251 - reads the password out of an address, asks no database

from portal.settings import Settings
from portal.web.door.asked import current

ACCESS = "portal.access"
SLOW_S = 1.0
"""A request that took longer is told even where only notable ones are."""
HIDDEN = "[hidden]"
LEAST_SECRET = 6
"""Shorter values of settings are not looked for in every line."""
_QUIET = (
    "botocore",
    "boto3",
    "urllib3",
    "httpx",
    "httpx2",
    "httpcore",
    "s3transfer",
    "sqlalchemy",
    # The pool's own logger bears the name of its class.
    "portal.database._Pool",
    "alembic",
    "huggingface_hub",
    "asyncio",
)
_SECRETS = re.compile(
    r"llm360_[A-Za-z0-9_-]{16,}"
    r"|hf_[A-Za-z0-9]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"
    r"|(?i:(?<=x-amz-signature=)|(?<=x-amz-credential=)|(?<=x-amz-security-token=)|(?<=signature=))[^&\s\"'<>]+"
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:(?<=portal-session=)|(?<=set-cookie: )|(?<=cookie: ))[^\s;\"']+"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
"""Tokens of portals, of the Hub, of AWS and of web servers, signatures of signed addresses, cookies, passwords in
addresses and private keys: by their looks, wherever they come from."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Scrubber:
    """Takes secrets out of text: by their looks, and those of the settings by their value."""

    def __init__(self, settings: Settings | None = None) -> None:
        values = sorted(set(_secret_values(settings)) if settings else (), key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, values))) if values else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._values is not None:
            text = self._values.sub(HIDDEN, text)
        return _SECRETS.sub(HIDDEN, text)


class JsonLines(logging.Formatter):
    """One object a line: at, level, logger, message, request_id, what the line is about, and the exception."""

    def __init__(self, scrub: Scrubber) -> None:
        super().__init__()
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._scrub(record.getMessage()),
        }
        asked = current.get()
        if asked is not None:
            told["request_id"] = asked.id
        fields: dict[str, Any] = getattr(record, "fields", {})
        told |= {k: self._scrub(v) if isinstance(v, str) else v for k, v in fields.items()}
        if record.exc_info:
            told["exception"] = self._scrub(self.formatException(record.exc_info))
        return orjson.dumps(told, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "backslashreplace")


class ReadableLines(logging.Formatter):
    """Time, level, where, what, and the request's id; line breaks of what others sent are shown, not made."""

    def __init__(self, scrub: Scrubber) -> None:
        super().__init__()
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the exception."""
        asked = current.get()
        fields: dict[str, Any] = getattr(record, "fields", {})
        about = "".join(f" {name}={value}" for name, value in fields.items() if value not in ("", None))
        message = _shown(self._scrub(record.getMessage() + about)).replace("\n", "\\n")
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower():7} {record.name}: {message}"
        if asked is not None:
            line += f" [{asked.id}]"
        if record.exc_info:
            line += "\n" + _shown(self._scrub(self.formatException(record.exc_info)))
        return line


class Handed(logging.Handler):
    """Writes whole lines to stderr, whatever that is at the moment; a reader that went away does not end the portal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            stream = self._stream or sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()
        except (OSError, ValueError):
            return


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to stderr, as PORTAL_LOG and PORTAL_LOG_LEVEL say."""
    scrub = Scrubber(settings)
    handler = Handed(stream)
    handler.setFormatter(JsonLines(scrub) if settings.log == "json" else ReadableLines(scrub))
    handler.addFilter(_told_once)
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, Handed)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        # What they tell below this level holds addresses and headers as they were sent, or is of no use to an operator.
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Who starts and stops is told by who starts and stops it.
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if settings.log_level == "debug" else logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL)


def _told_once(record: logging.LogRecord) -> bool:
    """The server logs again what the application has logged and answered."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name == "uvicorn.error" and getattr(error, "told_by_portal", False))


def _secret_values(settings: Settings) -> Iterable[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and len(value.get_secret_value()) >= LEAST_SECRET:
            yield value.get_secret_value()
    yield from (value for value in settings.keys_around if len(value) >= LEAST_SECRET)
    password = make_url(settings.resolved_database_url).password
    if password and len(password) >= LEAST_SECRET:
        yield str(password)


def _shown(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
