"""What a first visitor sees: a tiny run really trained, a synthetic one at full size, and the known open runs."""

from portal.demo.build import DemoRelease, build_demo, choose_releases, demo_releases, place_of

__all__ = ["DemoRelease", "build_demo", "choose_releases", "demo_releases", "place_of"]
