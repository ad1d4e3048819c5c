"""All checks at once, each in a thread of its own, and none waited for longer than a few seconds in all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from portal.doctor import activity, catalog, configured, data_folder, reach, secrets, software, stores
from portal.doctor.verdicts import Verdict, fail
from portal.errors import PortalError
from portal.settings import Settings

PATIENCE_S = 4.5
Check = Callable[[Settings], Iterable[Verdict]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("libraries", software.check_libraries),
    ("trainer", software.check_trainer),
    ("settings", configured.check_settings),
    ("database", catalog.check_database),
    ("data folder", data_folder.check_data_folder),
    ("disk", data_folder.check_disk),
    ("uploads", data_folder.check_leftovers),
    ("store", stores.check_store),
    ("public store", stores.check_public_endpoint),
    ("uploads in parts", stores.check_parts),
    ("signing key", secrets.check_signing_key),
    ("secrets", secrets.check_secret_files),
    ("portal", activity.check_activity),
    ("backup", activity.check_backup),
    ("address", reach.check_address),
)
"""By the part that is blamed where a check itself breaks or does not end."""


def examine(settings: Settings, patience: float = PATIENCE_S) -> list[Verdict]:
    """Everything there is to say, in the order of the checks; takes ``patience`` seconds at most."""
    found: dict[str, list[Verdict]] = {}
    # Daemons: a thread that hangs in somebody else's server must not keep the command from ending.
    threads = [
        threading.Thread(target=_run, args=(part, check, settings, found), name=f"doctor {part}", daemon=True)
        for part, check in CHECKS
    ]
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [verdict for part, _ in CHECKS for verdict in found.get(part, [_late(part, patience)])]


def _run(part: str, check: Check, settings: Settings, found: dict[str, list[Verdict]]) -> None:
    try:
        found[part] = list(check(settings))
    except PortalError as error:
        found[part] = [fail(part, error.message, error.remedy)]
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        found[part] = [
            fail(part, f"{where}{error.strerror or type(error).__name__}.", "Correct its path or permissions.")
        ]
    except Exception as error:
        # The others still have something to say. Its own words may hold a secret.
        found[part] = [fail(part, f"It could not be looked at ({type(error).__name__}).", "Please report this.")]


def _late(part: str, patience: float) -> Verdict:
    return fail(
        part, f"It did not answer within {patience:g} seconds.", "Check that what it needs is running and reachable."
    )
