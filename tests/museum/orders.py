"""Orders that overlap, leave steps out, or name rows that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.museum.exhibit import Release, exhibit, published, refused


def _index(run: Release, entries: Any, **about: Any) -> None:
    run.path("order.npy").write_bytes(np.asarray(entries).tobytes())
    run.manifest["data"]["order"] = [
        {"first_step": 1, "last_step": 20, "chunks": ["part_0", "part_1"], "kind": "index",
         "file": {"path": "order.npy"}, "dtype": "u32", **about}
    ]  # fmt: skip


@exhibit("Two orders cover the same steps.", refused("data.order[1].first_step: 8 overlaps data.order[0]"))
def orders_that_overlap(run: Release) -> None:
    rule = {"kind": "sequential"}
    run.manifest["data"]["order"] = [
        {"first_step": 1, "last_step": 10, "chunks": ["part_0"], **rule},
        {"first_step": 8, "last_step": 17, "chunks": ["part_1"], **rule},
    ]


@exhibit(
    "No order covers some steps: nobody wrote down what they read.",
    published("steps-without-order@9"),
    {"tokens 9": "order-unknown", "tokens 11": "part_1:0 part_1:1 part_1:2 part_1:3"},
)
def steps_without_an_order(run: Release) -> None:
    rule = {"kind": "sequential"}
    run.manifest["data"]["order"] = [
        {"first_step": 1, "last_step": 8, "chunks": ["part_0"], **rule},
        {"first_step": 11, "last_step": 20, "chunks": ["part_1"], **rule},
    ]


@exhibit("The order goes on after the run's last step.", refused("data.order[0].last_step: 21 lies beyond"))
def order_beyond_the_run(run: Release) -> None:
    run.orders[0]["last_step"] = 21


@exhibit(
    "Chunks were read in another order than they are named in, as K2's.",
    published(),
    {"tokens 1": "part_1:0 part_1:1 part_1:2 part_1:3", "pair 5": "5 + part_1"},
)
def chunks_read_out_of_turn(run: Release) -> None:
    run.orders[0]["chunks"] = ["part_1", "part_0"]


@exhibit("The order file is shorter than the run, as in OLMo #837.", published("order-file-short@1"))
def order_file_cut_short(run: Release) -> None:
    _index(run, np.arange(60, dtype="<u4"))


@exhibit(
    "The order file names a row that no file holds: index 925,801,835 of 925,201,012 in OLMo #538.",
    published("order-outside-data@18"),
    {"tokens 1": "part_0:0 part_0:1 part_0:2 part_0:3", "tokens 18": "data-fault"},
)
def order_that_names_rows_beyond_the_data(run: Release) -> None:
    entries = np.arange(80, dtype="<u4")
    entries[70] = 81
    _index(run, entries)


@exhibit(
    "The order file names rows of a chunk whose file holds fewer than its manifest says.",
    published("chunk-rows-differ", "order-outside-data@9"),
    {"tokens 8": "part_0:28 part_0:29 part_0:30 part_0:31", "tokens 11": "part_1:0 part_1:1 part_1:2 part_1:3"},
)
def order_that_names_rows_a_chunk_lost(run: Release) -> None:
    _index(run, np.arange(80, dtype="<u4"))
    run.manifest["data"]["chunks"][0]["rows"] = 40
    lines = run.path("data/part_0.jsonl").read_text().splitlines(keepends=True)
    run.path("data/part_0.jsonl").write_text("".join(lines[:33]))


@exhibit("The order file is u32 and declared as u16.", published("order-outside-data@1"))
def order_file_of_another_width(run: Release) -> None:
    _index(run, np.arange(80, dtype="<u4") + 65536 * 99, dtype="u16")


@exhibit("The order file ends in the middle of a number.", published("order-file-short@1", "order-unreadable@1"))
def order_file_cut_in_a_number(run: Release) -> None:
    _index(run, np.arange(80, dtype="<u4"))
    run.path("order.npy").write_bytes(run.path("order.npy").read_bytes()[:-3])


@exhibit("A shuffle is declared without its seed.", refused("data.order[0].seed: is missing"))
def shuffle_without_a_seed(run: Release) -> None:
    run.orders[0].update(kind="permutation", rng="numpy-PCG64")


@exhibit("A shuffle by a generator that nobody else has.", refused("data.order[0].rng: "))
def shuffle_by_an_unknown_generator(run: Release) -> None:
    run.orders[0].update(kind="permutation", rng="torch-mt19937", seed=1)


@exhibit(
    "The order was never released, as CrystalCoder's.",
    published(),
    {"tokens 1": "order-unknown", "pair 10": "10 + part_0 part_1"},
)
def order_never_released(run: Release) -> None:
    run.orders[0]["kind"] = "unknown"


@exhibit(
    "The batch doubles in the middle and one order runs through it.",
    refused("data.order[0]: runs through stages with different rows_per_step (4, 8)"),
)
def batch_that_changes_under_one_order(run: Release) -> None:
    run.manifest["stages"] = [
        {"name": "a", "first_step": 1, "last_step": 10},
        {"name": "b", "first_step": 11, "last_step": 20, "rows_per_step": 8},
    ]


@exhibit("Tokens of a step are not rows times length: the batch was an option of the command line (OLMo #704).",
         published("batch-disagrees@1"))  # fmt: skip
def batch_that_is_not_its_product(run: Release) -> None:
    run.manifest["training"]["tokens_per_step"] = 4 * 8 * 2


@exhibit("Stages leave a step out.", refused("stages[1].first_step: leaves a gap after a"))
def stages_with_a_gap(run: Release) -> None:
    run.manifest["stages"] = [
        {"name": "a", "first_step": 1, "last_step": 9},
        {"name": "b", "first_step": 11, "last_step": 20},
    ]


@exhibit("Two stages hold the same step.", refused("stages[1].first_step: 10 overlaps a"))
def stages_that_overlap(run: Release) -> None:
    run.manifest["stages"] = [
        {"name": "a", "first_step": 1, "last_step": 10},
        {"name": "b", "first_step": 10, "last_step": 20},
    ]
