"""Texts that cannot be indexed: finding that out takes as long as reading them, so it is told again for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from portal.errors import DataFault, TooLarge
from portal.tokens.readers.source import FileBytes

Built = TypeVar("Built")

REFUSED_SECONDS = 300
"""How long a refusal holds: a disk that failed may have recovered."""
MOST = 1024
"""Refusals that are remembered."""

_refused: OrderedDict[tuple[Path, int, int | None], tuple[float, DataFault | TooLarge]] = OrderedDict()
_guard = threading.Lock()


def unless_refused(path: Path, source: FileBytes, build: Callable[[], Built]) -> Built:
    """What ``build`` makes of ``source`` for the index at ``path``; raises again what it raised for the same bytes before.

    Bytes are the same while size and time of the file are.
    """
    key = (path, source.size, source.modified_ns)
    with _guard:
        until, error = _refused.get(key, (0.0, None))
    if error is not None and time.monotonic() < until:
        raise error.with_traceback(None)
    try:
        return build()
    except (DataFault, TooLarge) as found:
        with _guard:
            _refused[key] = time.monotonic() + REFUSED_SECONDS, found
            _refused.move_to_end(key)
            while len(_refused) > MOST:
                _refused.popitem(last=False)
        raise
