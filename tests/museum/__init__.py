"""Broken runs, small and generated: each is broken in one way that real releases were, and has the verdict it must get."""
