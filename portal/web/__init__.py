"""Pages and JSON side by side, one file per noun."""
