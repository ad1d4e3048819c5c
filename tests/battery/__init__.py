"""The battery: bad inputs, injected faults and broken runs, each part with its figures. ``python -m tests.battery``."""
