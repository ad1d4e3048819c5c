"""The counters as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping

from portal import __version__
from portal.catalog.condition import Condition
from portal.settings import Settings
from portal.web.door.counters import BOUNDS, KINDS, Summed

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str | int]
Sample = tuple[Labels, float]


def write_counters(summed: Summed) -> list[str]:
    """What all processes counted."""
    gauges, totals = summed.gauges, summed.totals
    requests: list[Sample] = [({"route": route, "status": status}, n) for (route, status), n in summed.requests.items()]
    lines = [
        *_family("portal_requests_total", "counter", "Requests answered, by route and status.", requests),
        *_durations(summed),
        *_family(
            "portal_sent_bytes_total",
            "counter",
            "Bytes of the bodies of answers.",
            [(_route(r), n) for r, n in summed.bytes.items()],
        ),
        *_family(
            "portal_rate_limited_total",
            "counter",
            "Requests told to come later, by the kind of their quota.",
            [({"kind": kind}, totals[f"limited:{kind}"]) for kind in KINDS],
        ),
    ]
    single = (
        ("portal_shed_total", "counter", "Requests refused because too many were on their way.", totals["shed"]),
        ("portal_requests_in_flight", "gauge", "Requests that are not answered yet.", gauges["in_flight"]),
        ("portal_requests_running", "gauge", "Requests that are worked on.", gauges["running"]),
        ("portal_requests_waiting", "gauge", "Requests that wait to be worked on.", gauges["waiting"]),
        ("portal_kept_answers", "gauge", "Answers kept as bytes.", gauges["kept_answers"]),
        ("portal_kept_answer_bytes", "gauge", "Memory they take, about.", gauges["kept_bytes"]),
        ("portal_kept_answer_hits_total", "counter", "Requests answered from them.", totals["kept_hits"]),
        ("portal_kept_answer_misses_total", "counter", "Requests that made one.", totals["kept_misses"]),
        ("portal_database_connections", "gauge", "Connections of the pools.", gauges["pool_size"]),
        ("portal_database_connections_used", "gauge", "Those in use.", gauges["pool_used"]),
        ("portal_processes", "gauge", "Processes that answer.", summed.processes),
        ("portal_started_seconds", "gauge", "When the oldest of them started, since 1970.", gauges["started"]),
    )
    return lines + [line for name, kind, told, value in single for line in _family(name, kind, told, [({}, value)])]


def write_condition(found: Condition) -> list[str]:
    """What the catalog tells."""
    families: tuple[tuple[str, str, list[Sample]], ...] = (
        ("portal_jobs", "Jobs by state.", _by("state", found.jobs)),
        ("portal_workers", "Workers by state.", _by("state", found.workers)),
        ("portal_findings_open", "Open findings of current releases.", _by("severity", found.findings)),
        ("portal_file_locations", "Places of files, by what was last found there.", _by("state", found.files)),
        ("portal_duty_held_seconds", "How long a task of the portal is still held.", _by("duty", found.duties)),
        ("portal_runs", "Runs in the catalog.", [({}, found.runs)]),
        (
            "portal_oldest_lease_age_seconds",
            "Since the most silent live job was heard of.",
            [({}, found.oldest_lease_s)],
        ),
        ("portal_oldest_check_age_seconds", "Since the file checked longest ago was.", [({}, found.oldest_check_s)]),
    )
    return [line for name, told, samples in families for line in _family(name, "gauge", told, samples)]


def write_surroundings(settings: Settings, ready: Mapping[str, bool]) -> list[str]:
    """The disk, what `/readyz` found, and which version this is."""
    disk = shutil.disk_usage(settings.data)
    build = {"version": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    return [
        *_family("portal_disk_free_bytes", "gauge", "Free on the disk of PORTAL_DATA.", [({}, disk.free)]),
        *_family("portal_disk_size_bytes", "gauge", "Size of that disk.", [({}, disk.total)]),
        *_family("portal_disk_reserve_bytes", "gauge", "What is left free on it.", [({}, settings.disk_reserve_bytes)]),
        *_family("portal_ready", "gauge", "1 for each check of /readyz that is well.", _by("check", ready)),
        *_family("portal_build_info", "gauge", "Always 1.", [(build, 1)]),
    ]


def _durations(summed: Summed) -> Iterable[str]:
    name = "portal_request_seconds"
    yield f"# HELP {name} Seconds from a request's first byte to its answer's last."
    yield f"# TYPE {name} histogram"
    for route, counted in summed.times.items():
        labels = _route(route)
        below = 0.0
        for bound, n in zip((*BOUNDS, "+Inf"), counted[:-1], strict=True):
            below += n
            yield _line(f"{name}_bucket", {"route": route, "le": str(bound)}, below)
        yield _line(f"{name}_sum", labels, counted[-1])
        yield _line(f"{name}_count", labels, below)


def _family(name: str, kind: str, told: str, samples: Iterable[Sample]) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}", *(_line(name, labels, n) for labels, n in samples)]


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(str(told))}"' for key, told in labels.items())
    number = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _by(label: str, found: Mapping[str, float]) -> list[Sample]:
    return [({label: key}, float(n)) for key, n in sorted(found.items())]


def _route(route: str) -> Labels:
    return {"route": route}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
