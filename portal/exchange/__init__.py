"""Runs come in, runs go out: publishing, importers of public layouts, the manifests that ship with the portal."""
