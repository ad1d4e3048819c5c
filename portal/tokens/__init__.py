"""From a step to what the model read: orders (arithmetic), readers (bytes), decode (text)."""
