"""Numbers of a version in this portal's own folder: the catalog may be shared, the metric store is not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from portal.catalog.published import Published
from portal.exchange.ingest import Numbers
from portal.metrics.series import StoredSeries, write_series


@dataclass(frozen=True)
class NumbersFolder:
    """Where the series of one content of a run lie."""

    root: Path
    """The metric store."""
    key: str
    """The folder inside it: the run and the beginning of the content's fingerprint."""

    @classmethod
    def of(cls, data: Path, run: str, fingerprint: str) -> NumbersFolder:
        """The folder of ``run`` with this content below ``PORTAL_DATA``."""
        return cls(data / "store" / "metrics", f"{run}/{fingerprint[:20]}")

    def exists(self) -> bool:
        """Whether something is stored already."""
        return (self.root / self.key).exists()

    def lacks(self, current: Published) -> bool:
        """Whether a file that the catalog names is not here."""
        return not all((self.root / place.partition("#")[0]).is_file() for place in set(current.locations.values()))

    def write(self, numbers: Numbers) -> list[StoredSeries]:
        """Store the series; their rows for the catalog."""
        return write_series(self.root, self.key, numbers.series)

    def remove(self) -> None:
        """Take everything away again."""
        shutil.rmtree(self.root / self.key, ignore_errors=True)

    def restore(self, numbers: Numbers, current: Published) -> str:
        """Store what another machine published, or what was lost here; one sentence about it.

        Nothing is kept when this version of the portal would cut the series in other files than the catalog names.
        """
        existed = self.exists()
        if {s.name: s.location for s in self.write(numbers)} == current.locations:
            return "Its metrics were not in this portal's folder; they are there now."
        if not existed:
            self.remove()
        return (
            "Its metrics are not in this portal's folder, and reading them here gives other series than were published: "
            f"copy {self.root / self.key} from the portal that published it."
        )
