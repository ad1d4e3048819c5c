"""Refused whole, with every reason: manifests and jobs."""

from __future__ import annotations

from dataclasses import dataclass

from portal.errors.family import PortalError


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a manifest or a release folder."""

    where: str
    """Path inside the document or folder, e.g. ``checkpoints[3].step``."""
    what: str
    remedy: str


class ManifestRefused(PortalError):
    """A manifest (or the folder it describes) has faults; all of them are in ``faults``."""

    status = 422
    code = "manifest-refused"

    def __init__(self, source: str, faults: list[Fault]) -> None:
        plural = "fault" if len(faults) == 1 else "faults"
        super().__init__(
            f"{source} has {len(faults)} {plural}; nothing was published.",
            faults=[{"where": f.where, "what": f.what, "remedy": f.remedy} for f in faults],
        )
        self.faults = faults


class PreflightRefused(PortalError):
    """A job that cannot be run as it is asked for; all reasons are in ``reasons``, settings to give in ``unknown``."""

    status = 422
    code = "preflight-refused"

    def __init__(self, reasons: list[tuple[str, str, str]], unknown: list[dict[str, str]]) -> None:
        told = [{"code": code, "message": message, "remedy": remedy} for code, message, remedy in reasons]
        first = " ".join(part for part in reasons[0][1:] if part) if reasons else "It cannot be planned."
        more = f" And {len(reasons) - 1} more." if len(reasons) > 1 else ""
        super().__init__(f"The job was not submitted. {first}{more}", reasons=told, unknown=unknown)
