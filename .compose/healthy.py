"""Exit 0 where the portal at the first argument is ready, and, with a second one, takes that worker for alive."""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.request import urlopen

SECONDS = 4


def main(address: str, worker: str = "") -> int:
    """The exit code that a container engine understands."""
    if not worker:
        return 0 if ask(f"{address}/readyz")["status"] == "ok" else 1
    return 0 if any(w["name"] == worker for w in ask(f"{address}/api/v1/workers?alive=true")["items"]) else 1


def ask(address: str) -> Any:
    """What is answered there; raises for any status that is an error."""
    with urlopen(address, timeout=SECONDS) as answer:  # noqa: S310 - the address is written in the compose file
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
