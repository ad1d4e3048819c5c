"""``portal runs`` and ``portal at``: what there is, and what lies at a step."""

from __future__ import annotations

from typing import Any

import typer

from portal.cli.portals import AsJson, RunArgument, StepArgument, Url, checked_step, open_portal
from portal.cli.terminal import number, order_sentence, print_fields, print_json, print_table, say

CONFIG_VALUES = 4


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("runs")(show_runs)
    application.command("at")(show_step)


def show_runs(url: Url = "", as_json: AsJson = False) -> None:
    """List the runs of a portal."""
    with open_portal(url) as portal:
        runs = list(portal.runs())
        if as_json:
            print_json(runs)
        else:
            _print_runs(runs)


def show_step(run: RunArgument, step: StepArgument, url: Url = "", as_json: AsJson = False) -> None:
    """Show what lies at a step: metrics, checkpoints around it, its data, its config, events."""
    with open_portal(url) as portal:
        found = portal.step(run, checked_step(step))
        if as_json:
            print_json(found)
        else:
            _print_step(found)


def _print_runs(runs: list[dict[str, Any]]) -> None:
    headings = ["run", "title", "parameters", "tokens", "steps", "checkpoints", "order", "open", "findings"]
    print_table(headings, [_run_row(r) for r in runs], right=["parameters", "tokens", "steps", "checkpoints", "open"])
    if not runs:
        say("No run is published here yet. Try `portal publish FOLDER` or `portal demo`.")


def _print_step(found: dict[str, Any]) -> None:
    stage, data = found["stage"], found["data"]
    print_fields(
        [
            ("run", found["run"]),
            ("step", number(found["step"])),
            ("stage", f"{stage['name']}, its step {number(found['local_step'])}" if stage else None),
            ("tokens", number(found["tokens"]) if found["tokens"] is not None else None),
            ("checkpoint before", _checkpoint(found["before"])),
            ("checkpoint here", _checkpoint(found["at"])),
            ("checkpoint after", _checkpoint(found["after"])),
            ("batch", _batch(data)),
            ("order", order_sentence(data["order"])),
            ("config", _config(found["config"])),
            ("readable", None if data["readable"] else f"no: {data['reason']}"),
        ]
    )
    if found["metrics"]:
        say()
        rows = [(m["name"], m["special"] or number(m["value"]), m["unit"]) for m in found["metrics"]]
        print_table(["metric", "value", "unit"], rows, right=["value"])
    for name in ("events", "findings"):
        for item in found[name]:
            say(f"{name[:-1]}: {item.get('kind') or item.get('code')} – {item.get('note') or item.get('message')}")


def _batch(data: dict[str, Any]) -> str | None:
    if not data["chunks"]:
        return None
    chunks = data["chunks"]
    named = ", ".join(chunks[:3]) + (f" and {len(chunks) - 3} more chunks" if len(chunks) > 3 else "")
    return f"{number(data['rows'])} rows of {named}"


def _checkpoint(ref: dict[str, Any] | None) -> str | None:
    if ref is None:
        return None
    labels = f" ({', '.join(ref['labels'])})" if ref["labels"] else ""
    return f"step {number(ref['step'])}{labels}{', missing' if ref['missing'] else ''}"


def _config(config: dict[str, Any] | None) -> str | None:
    if config is None:
        return None
    values = ", ".join(f"{name}={value}" for name, value in list(config["values"].items())[:CONFIG_VALUES])
    more = len(config["values"]) - CONFIG_VALUES
    shown = values + (f" and {more} more" if more > 0 else "")
    return "; ".join(part for part in (config["file"] and config["file"]["path"], shown) if part) or None


def _run_row(run: dict[str, Any]) -> list[object]:
    findings = [f"{count} {kind}" for kind, count in run["findings"].items() if count and kind != "info"]
    openness = run["openness"]
    return [
        run["run"],
        run["title"] + (" (synthetic)" if run["synthetic"] else ""),
        _known(run["parameters"]),
        _known(run["tokens"]),
        _known(run["last_step"]),
        f"{run['checkpoints']}/{run['checkpoints_expected']}",
        run["order_confidence"],
        f"{sum(openness.values())}/{len(openness)}",
        ", ".join(findings) or "–",
    ]


def _known(value: int | None) -> str:
    return "unknown" if value is None else number(value)
