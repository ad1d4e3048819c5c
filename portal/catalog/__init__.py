"""What we know: all SQL is here, and every answer is a frozen dataclass from `answers`."""
