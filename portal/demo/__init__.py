"""What a first visitor sees: a tiny run really trained, a synthetic one at full size, and the known open runs."""

from portal.demo.build import DemoRelease, build_demo, demo_releases

__all__ = ["DemoRelease", "build_demo", "demo_releases"]
