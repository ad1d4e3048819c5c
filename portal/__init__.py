"""LLM360 Portal: look inside fully open LLM training, step by step."""

__version__ = "0.1.0"
