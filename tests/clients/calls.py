"""The calls, made inside an environment of clients by ``python -m tests.clients.calls FACTS.json [NAME…]``, a line for each.

Only the clients' own packages are imported here. `FACTS.json` says where the portal is and what must come out.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALLS: dict[str, Callable[[dict[str, Any]], object]] = {}


def call(check: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    """Register a check under its name."""
    CALLS[check.__name__] = check
    return check


@contextmanager
def raises(*kinds: type[BaseException]) -> Iterator[None]:
    """The block must raise one of ``kinds``."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"nothing was raised instead of {' or '.join(k.__name__ for k in kinds)}")


def sha256_of(path: str | Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def main() -> None:
    """Make every call and print how it went."""
    # Each of them registers its calls when it is imported.
    from tests.clients import calls_data, calls_files, calls_models, calls_repos, calls_snippets  # noqa: F401

    facts = json.loads(Path(sys.argv[1]).read_text())
    for name in sys.argv[2:] or list(CALLS):
        check = CALLS[name]
        told: dict[str, Any] = {"call": name, "passed": True}
        try:
            check(facts)
        except Exception:
            told |= {"passed": False, "why": traceback.format_exc()[-3000:]}
        print(f"CALL {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    from tests.clients.calls import main as run

    run()
