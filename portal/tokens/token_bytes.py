"""What bytes a token id stands for, read from the two decoders that nearly all open models use.

*Byte fallback* (Llama, Mistral): a sequence of Replace, ByteFallback, Fuse and Strip; ``<0xE2>`` is one byte.
*Byte level* (GPT-2, GPT-NeoX, OLMo): every character of a token stands for one byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>\Z")


@dataclass(frozen=True)
class ByteTable:
    """Bytes by token id, and what is stripped from the very start of a text."""

    bytes_of: dict[int, bytes]
    stripped: str = ""
    strip_at_most: int = 0


def byte_table(decoder: Mapping[str, Any] | None, spelled: Mapping[int, str]) -> ByteTable | None:
    """The table of a tokenizer (token by id), or None when its decoder joins tokens in another way."""
    if decoder is None:
        return None
    if decoder.get("type") == "ByteLevel":
        characters = _byte_level_characters()
        return ByteTable({id_: _byte_level(token, characters) for id_, token in spelled.items()})
    if decoder.get("type") == "Sequence":
        return _byte_fallback(decoder.get("decoders") or [], spelled)
    return None


def _byte_fallback(parts: list[Mapping[str, Any]], spelled: Mapping[int, str]) -> ByteTable | None:
    """Only the exact shape Replace* ByteFallback Fuse Strip?; any other sequence is left to the library."""
    kinds = [part.get("type") for part in parts]
    replaces = [part for part in parts if part.get("type") == "Replace"]
    rest = kinds[len(replaces) :]
    if rest not in (["ByteFallback", "Fuse"], ["ByteFallback", "Fuse", "Strip"]):
        return None
    pairs = [(part["pattern"].get("String"), part["content"]) for part in replaces]
    if any(pattern is None for pattern, _ in pairs) or parts[-1].get("stop"):
        return None
    strip = parts[-1] if kinds[-1] == "Strip" else {}
    table = {id_: _fallback_bytes(token, pairs) for id_, token in spelled.items()}
    return ByteTable(table, str(strip.get("content", "")), int(strip.get("start", 0)))


def _fallback_bytes(token: str, pairs: list[tuple[str, str]]) -> bytes:
    for pattern, content in pairs:
        token = token.replace(pattern, content)
    single = BYTE_TOKEN.match(token)
    return bytes([int(single[1], 16)]) if single else token.encode()


def _byte_level(token: str, characters: Mapping[str, int]) -> bytes:
    # An added token may hold characters outside the alphabet (runs of spaces); it stands for itself.
    if all(character in characters for character in token):
        return bytes(characters[character] for character in token)
    return token.encode()


def _byte_level_characters() -> dict[str, int]:
    """GPT-2's alphabet (``encoder.py:bytes_to_unicode``): printable bytes are themselves, others move above U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + k): byte for k, byte in enumerate(moved)}
