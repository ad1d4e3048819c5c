"""Pieces join back to the text, half characters are shown for what they are, and nothing is dropped."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from portal.errors import DataFault
from portal.tokens.decode import Decoder, open_decoder

TEXTS = ["Once upon a time there was a fox.", "def add(a, b):\n    return a + b\n", "日本語 ▁ é 🙂🙃", "x" * 20] * 4


def byte_level() -> tokenizers.Tokenizer:
    """GPT-2's kind: every character of a token is one byte."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(TEXTS, trainer)
    made.add_tokens([tokenizers.AddedToken("    ", normalized=False)])
    return made


def byte_fallback() -> tokenizers.Tokenizer:
    """Llama's kind: a character without a token becomes ``<0xE2>`` tokens."""
    words = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words += ["▁", "a", "b", "fox", "▁fox", "▁a", "é"]
    vocabulary = {word: k for k, word in enumerate(words)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def word_piece() -> tokenizers.Tokenizer:
    """A kind that the byte tables do not know."""
    vocabulary = {word: k for k, word in enumerate(["[UNK]", "[EOS]", "un", "##aff", "##able", "fox", "##es"])}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece(cleanup=False)
    made.add_special_tokens(["[EOS]"])
    return made


LEVEL, FALLBACK, PIECES = byte_level(), byte_fallback(), word_piece()
KINDS: dict[str, tuple[tokenizers.Tokenizer, Decoder]] = {
    name: (made, open_decoder(made.to_str().encode()))
    for name, made in {"level": LEVEL, "fallback": FALLBACK, "word": PIECES}.items()
}


@pytest.mark.parametrize("kind", ["level", "fallback", "word"])
@given(data=st.data())
def test_pieces_join_to_what_the_library_decodes(kind: str, data: st.DataObject) -> None:
    library, decoder = KINDS[kind]
    ids = data.draw(st.lists(st.integers(0, decoder.vocabulary - 1), max_size=30))
    pieces = decoder.pieces(ids)
    expected = library.decode(ids, skip_special_tokens=False)
    assert len(pieces) == len(ids)
    if "\ufffd" not in expected:
        assert "".join(pieces) == expected
    elif kind == "level":
        # The library replaces broken bytes in the same units; only byte fallback spoils whole runs.
        assert "".join(pieces) == expected


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    decoder = KINDS["level"][1]
    assert "".join(decoder.pieces(LEVEL.encode(text).ids)) == text


def ids_of(*names: str) -> list[int]:
    return [FALLBACK.token_to_id(name) for name in names]


class TestHalfCharacters:
    """A character that several tokens share."""

    DECODER = KINDS["fallback"][1]

    @pytest.mark.parametrize(
        ("names", "pieces"),
        [
            (["a", "<0xE2>", "<0x96>", "<0x81>", "b"], ["a", "", "", "▁", "b"]),
            (["<0x96>", "<0x81>", "a"], ["\ufffd", "\ufffd", "a"]),
            (["a", "<0xE2>", "<0x96>"], ["a", "\ufffd", ""]),
            (["<0xE2>", "b", "<0x81>"], ["\ufffd", "b", "\ufffd"]),
            (["<0xE2>", "<0xE2>", "<0x96>", "<0x81>"], ["\ufffd", "", "", "▁"]),
            (["<0xC3>", "<0xA9>", "<0xC3>", "<0xA9>"], ["", "é", "", "é"]),
            (["<0x41>", "<0xFF>"], ["A", "\ufffd"]),
            (["▁fox", "▁fox"], ["fox", " fox"]),
            (["▁", "▁", "a"], ["", " ", "a"]),
            (["▁"], [""]),
        ],
    )
    def test_notation(self, names: list[str], pieces: list[str]) -> None:
        assert self.DECODER.pieces(ids_of(*names)) == pieces

    def test_labels_are_never_empty(self) -> None:
        labels = [self.DECODER.label(id_) for id_ in ids_of("<0xE2>", "▁fox", "</s>", "<0x41>")]
        assert labels == ["<0xE2>", " fox", "</s>", "A"]
        for _, decoder in KINDS.values():
            assert all(decoder.label(id_) for id_ in range(-1, decoder.vocabulary + 1))

    def test_a_long_broken_run_is_read_in_linear_time(self) -> None:
        ids = ids_of("<0xE2>", "<0x96>") * 50_000
        assert self.DECODER.pieces(ids)[:2] == ["\ufffd", ""]


@pytest.mark.parametrize("kind", ["level", "fallback", "word"])
def test_ids_that_do_not_exist_are_shown(kind: str) -> None:
    decoder = KINDS[kind][1]
    shown = decoder.pieces([5, 99_999, -1, 5])
    assert shown[1:3] == ["⟨id 99999⟩", "⟨id -1⟩"]
    assert decoder.label(99_999) == "⟨id 99999⟩"


def test_numpy_ids_are_as_good_as_lists() -> None:
    decoder = KINDS["level"][1]
    ids = LEVEL.encode(TEXTS[0]).ids
    for dtype in (np.uint16, np.uint32, np.int64):
        assert decoder.pieces(np.array(ids, dtype)) == decoder.pieces(ids)
        assert decoder.document_starts(np.array([*ids, 0, 5], dtype)) == [len(ids) + 1]


@pytest.mark.parametrize(
    ("names", "starts"),
    [
        ([], []),
        (["a", "b"], []),
        (["a", "</s>", "b"], [2]),
        (["a", "</s>"], []),
        (["</s>", "a"], [1]),
        (["<s>", "a", "</s>", "<s>", "b"], [0, 3]),
        (["a", "</s>", "</s>", "</s>", "b"], [4]),
        (["<s>", "<s>", "a"], [0, 1]),
    ],
)
def test_documents_begin_after_an_end_or_at_a_begin(names: list[str], starts: list[int]) -> None:
    assert KINDS["fallback"][1].document_starts(ids_of(*names)) == starts


def test_special_tokens_and_vocabulary() -> None:
    decoder = KINDS["level"][1]
    assert decoder.is_special(LEVEL.token_to_id("<|endoftext|>"))
    assert not decoder.is_special(LEVEL.token_to_id("    "))
    assert decoder.vocabulary == LEVEL.get_vocab_size()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": 3}', b"not json"])
def test_what_is_no_tokenizer_is_refused(text: bytes) -> None:
    with pytest.raises(DataFault, match="tokenizer cannot be read"):
        open_decoder(text)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "Fuse"},
        {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 1}]},
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    ],
)  # fmt: skip
def test_every_decoder_gives_one_piece_an_id(decoder: dict[str, Any] | None) -> None:
    described = json.loads(FALLBACK.to_str()) | {"decoder": decoder}
    opened = open_decoder(json.dumps(described).encode())
    library = tokenizers.Tokenizer.from_str(json.dumps(described))
    ids = ids_of("a", "b", "fox")
    pieces = opened.pieces(ids)
    assert len(pieces) == 3
    if decoder is not None:
        assert "".join(pieces) == library.decode(ids, skip_special_tokens=False)
    assert opened.pieces([*ids, *ids_of("<0xE2>")])[-1]
