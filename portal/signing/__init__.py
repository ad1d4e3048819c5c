"""Keys, envelopes and statements: what a signature is, and how one is checked. Knows no run and no catalog."""
