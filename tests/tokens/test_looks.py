"""Rows looked at together say what each says alone, as text and as JSON."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.tokens.decode import open_decoder
from tests.tokens.test_decode import FALLBACK, KINDS


@pytest.mark.parametrize("kind", ["level", "fallback", "word"])
@given(data=st.data())
def test_together_as_alone(kind: str, data: st.DataObject) -> None:
    decoder = KINDS[kind][1]
    ids = st.one_of(st.integers(-1, decoder.vocabulary + 1), st.sampled_from([-(2**63), 2**31, 2**63 - 1]))
    rows = data.draw(st.lists(st.lists(ids, max_size=12), max_size=5))
    look = decoder.look(rows)
    alone = [decoder.read(row) for row in rows]
    assert look.pieces() == [row.pieces for row in alone]
    assert look.written() == [orjson.dumps(row.pieces) for row in alone]
    assert [tuple(marks) for marks in look.marks()] == [(row.document_starts, row.specials) for row in alone]


def test_a_half_character_is_not_completed_by_the_next_row() -> None:
    decoder = KINDS["fallback"][1]
    first, second = ([FALLBACK.token_to_id(name) for name in row] for row in (["a", "<0xC3>"], ["<0xA9>", "b"]))
    assert decoder.look([first, second]).pieces() == [["a", "\ufffd"], ["\ufffd", "b"]]
    assert decoder.look([first + second]).pieces() == [["a", "", "é", "b"]]


def test_a_document_that_ends_a_row_begins_none_in_the_next() -> None:
    decoder = KINDS["fallback"][1]
    end, begin, word = (FALLBACK.token_to_id(name) for name in ("</s>", "<s>", "fox"))
    marks = decoder.look([[word, end], [word, end, word], [begin, word]]).marks()
    assert [m.document_starts for m in marks] == [[], [2], [0]]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i8"])
def test_ids_of_any_width(dtype: str) -> None:
    decoder = KINDS["level"][1]
    ids = [1, 5, 90, 100]
    assert decoder.look([np.array(ids, dtype=dtype)] * 2).pieces() == [decoder.pieces(ids)] * 2


def test_what_json_must_escape_is_escaped() -> None:
    decoder = open_decoder(KINDS["level"][0].to_str().encode())
    ids = [KINDS["level"][0].token_to_id(name) for name in ('"', "\\", "Ċ", "Ā", "é")]
    assert decoder.look([ids, []]).written() == [orjson.dumps(decoder.pieces(ids)), b"[]"]
