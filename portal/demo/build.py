"""Publish the demo's releases, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.demo.amber_scale import build_amber_scale
from portal.errors import RunNotFound, UsageError
from portal.exchange.publish import PublishProgress, publish
from portal.exchange.releases import list_releases
from portal.settings import Settings
from portal.storage.local import uri_of

TINY = Path(__file__).parent / "tiny"
"""demo/tiny as it was trained; `portal.demo.build_tiny` writes it anew."""


@dataclass(frozen=True)
class DemoRelease:
    """One release of the demo."""

    name: str
    """For people: ``tiny``."""
    run: str
    """``demo/tiny``."""
    place: Path | None
    """Its folder or manifest; None for the one that is generated into the data folder."""


def demo_releases() -> list[DemoRelease]:
    """All of them, in the order in which they are published."""
    return [
        DemoRelease("tiny", "demo/tiny", TINY),
        DemoRelease("amber-scale", "demo/amber-scale", None),
        *(DemoRelease(shipped.name, shipped.run, shipped.path) for shipped in list_releases()),
    ]


def build_demo(
    settings: Settings, engine: Engine, only: str | None = None, progress: PublishProgress | None = None
) -> list[str]:
    """Publish demo/tiny, demo/amber-scale and the shipped manifests; the names of the runs that are there now.

    ``only`` picks one by name (``tiny``) or run (``demo/tiny``); UsageError names them all when there is no such.
    What is published already is left as it is, and so is a run of the same name that came from elsewhere.
    """
    chosen = choose_releases(only)
    for release in chosen:
        place = place_of(release, settings, progress)
        if _is_free(engine, release.run, place):
            if progress:
                progress.begin(f"Preparing {release.run}", 0)
            publish(place, settings, engine)
    return [release.run for release in chosen]


def choose_releases(only: str | None = None) -> list[DemoRelease]:
    """All of them, or the one of this name (``tiny``) or run (``demo/tiny``); UsageError names them all otherwise."""
    releases = demo_releases()
    if only is None:
        return releases
    chosen = [release for release in releases if only in (release.name, release.run)]
    if not chosen:
        names = ", ".join(release.name for release in releases)
        raise UsageError(f"The demo has no release {only!r}.", f"Choose one of {names}.")
    return chosen


def place_of(release: DemoRelease, settings: Settings, progress: PublishProgress | None = None) -> Path:
    """Its folder or manifest; what is generated is generated under PORTAL_DATA where it is not there yet."""
    return release.place or _amber_scale(settings, progress)


def _is_free(engine: Engine, run: str, place: Path) -> bool:
    """Whether the run is not in the catalog yet, or came from this very place."""
    folder = (place if place.is_dir() else place.parent).absolute()
    with open_session(engine) as session:
        try:
            return load_facts(session, run).head.root == uri_of(folder)
        except RunNotFound:
            return True


def _amber_scale(settings: Settings, progress: PublishProgress | None) -> Path:
    folder = settings.data / "demo" / "amber-scale"
    if progress:
        progress.begin("Generating demo/amber-scale", 0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    build_amber_scale(folder, TINY / "tokenizer.json")
    return folder
