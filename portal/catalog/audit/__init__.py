"""The history: what was done by whom, each entry bound to the one before it, so that nothing is altered unnoticed."""
