"""``portal tokens``: what a step read, on the terminal or as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portal.cli.portals import AsJson, RunArgument, StepArgument, Url, checked_step, open_portal
from portal.cli.terminal import complain, number, print_json, say, size, visible
from portal.client import Portal, save_batch
from portal.errors import BadRequest, UsageError

FORMATS = {".npy": "npy", ".parquet": "parquet", ".jsonl": "jsonl"}
PAGE = 200
"""Rows asked for at a time: a batch of Amber's has 2,240."""


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("tokens")(show_tokens)


def show_tokens(  # noqa: PLR0913 - the command line is read from the signature
    run: RunArgument,
    step: StepArgument,
    rows: Annotated[
        str, typer.Option(help="Rows A:B of the batch, B not included; default 0:3, all with --json.")
    ] = "",
    ids: Annotated[bool, typer.Option("--ids", help="Print token ids instead of text.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say how many reads and bytes it took.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the whole batch: .npy, .parquet or .jsonl.")
    ] = None,
    url: Url = "",
    as_json: AsJson = False,
) -> int:
    """Show the rows a step read, with the confidence of their order."""
    step = checked_step(step)
    if output is not None:
        if rows or ids or as_json or explain:
            raise UsageError("-o writes the whole batch as it is.", "Leave out --rows, --ids, --json and --explain.")
        kind = _kind(output)
        with open_portal(url) as portal:
            return _save(portal, run, step, output, kind)
    first, last = _interval(rows, 0, None if as_json else 3)
    with open_portal(url) as portal:
        batch = _read(portal, run, step, first, last, text=not ids)
        if first >= batch["rows_total"]:
            raise BadRequest(f"The batch of step {step} has {number(batch['rows_total'])} rows, counted from 0.", "")
        if as_json:
            print_json(batch)
        else:
            _print(batch, ids, explain)
        return int(any(row["fault"] for row in batch["rows"]))


def _read(portal: Portal, run: str, step: str, first: int, last: int | None, text: bool) -> dict[str, Any]:
    """Rows first to last, page by page."""
    count = PAGE if last is None else min(PAGE, last - first)
    batch = portal.tokens(run, step, first, count, text)
    end = batch["rows_total"] if last is None else min(last, batch["rows_total"])
    while (at := first + len(batch["rows"])) < end:
        page = portal.tokens(run, step, at, min(PAGE, end - at), text)
        if not page["rows"]:
            break
        batch["rows"] += page["rows"]
        for name, value in page["explain"].items():
            if isinstance(value, int):
                batch["explain"][name] = batch["explain"].get(name, 0) + value
    return batch


def _print(batch: dict[str, Any], ids: bool, explain: bool) -> None:
    order = batch["order"]
    say(
        f"{batch['run']}, step {number(batch['step'])}: {number(batch['rows_total'])} rows, order {order['confidence']}"
    )
    say(order["reason"])
    if not batch["tokenizer"] and not ids:
        complain("The run has no tokenizer here; ids are shown.")
    for row in batch["rows"]:
        say()
        source = f", source {row['source']}" if row["source"] else ""
        say(f"row {row['position']}: {row['chunk']} row {number(row['row'])}{source}, {len(row['token_ids'])} tokens")
        if row["fault"]:
            complain(f"row {row['position']} cannot be read: {row['fault']}")
        elif ids or row["pieces"] is None:
            say(" ".join(str(i) for i in row["token_ids"]))
        else:
            text = "".join(row["pieces"])
            # Line breaks are what makes text readable; everything else that acts is shown.
            print("\n".join(visible(line) for line in text.split("\n")))
    if explain:
        say()
        took = batch["explain"]
        say(
            f"It took {number(took['reads'])} reads of {size(took['bytes_read'])} in all; "
            f"the rows themselves are {size(took['row_bytes'])}."
        )
        if took.get("requests"):
            say(
                f"{number(took['requests'])} requests went elsewhere and brought {size(took['bytes_received'])}; "
                f"no digest vouches for {size(took['bytes_unverified'])} of what was read."
            )


def _kind(output: Path) -> str:
    """The format its suffix asks for; UsageError when it cannot be written."""
    format = FORMATS.get(output.suffix.lower())
    if format is None:
        raise UsageError(f"{output.name!r} does not say what to write.", f"End it in {', '.join(FORMATS)}.")
    if not output.parent.is_dir():
        raise UsageError(f"There is no folder {output.parent}.", "Make it first.")
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", "Name a file.")
    return format


def _save(portal: Portal, run: str, step: str, output: Path, kind: str) -> int:
    save_batch(portal, run, step, kind, output)
    complain(f"{output}: {size(output.stat().st_size)}")
    return 0


def _interval(rows: str, first: int, last: int | None) -> tuple[int, int | None]:
    if not rows:
        return first, last
    start, colon, end = rows.partition(":")
    try:
        a = int(start) if start else 0
        b = int(end) if end else (None if colon else a + 1)
    except ValueError:
        a, b = -1, None
    if a < 0 or (b is not None and b <= a):
        raise UsageError(f"{rows!r} is no interval of rows.", "Write A:B, e.g. --rows 0:20.")
    return a, b
