"""compose.yaml on a real engine: ``python -m tests.compose``."""
