"""Tests of backups: made under writes, damaged, restored elsewhere."""
