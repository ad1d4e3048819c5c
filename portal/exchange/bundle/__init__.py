"""A run as a folder or archive that needs no portal: manifest, signatures, numbers, provenance, pages and digests.

What it holds of a release lies under the paths of the release, so that `portal verify` and `portal publish` take the
folder like any other; what the portal adds lies in ``bundle/``, beside ``index.html``, ``bundle.json`` and ``SHA256SUMS``.
"""
