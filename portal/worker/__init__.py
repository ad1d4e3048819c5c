"""The worker: attaches compute to a portal. An agent leases jobs, an executor runs them, a runner watches the trainer.

Talks to the portal over HTTP and to nothing else of it; needs no database, no keys of a store, no listening port.
"""
