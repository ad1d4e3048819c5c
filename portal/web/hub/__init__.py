"""The Hugging Face dialect: clients of the Hub read runs unmodified, with ``HF_ENDPOINT`` set to this portal."""
