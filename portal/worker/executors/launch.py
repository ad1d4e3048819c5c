"""The script that every engine starts: it runs a task's command once and leaves the exit code in the spool.

The exit file outlives the engine's memory of a task, so it is asked first. A folder ``started`` is made before
the command: an engine that starts a task a second time (a forgotten job that was submitted again) changes nothing.
A command that was killed (a runner whose memory ran out) is started again a few times; it finds its trainer running.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from portal.worker.executors.placed import EngineState, Task

SCRIPT = "launch.sh"
EXIT = "exit"
STARTED = "started"
SPOOL_VARIABLE = "PORTAL_SPOOL"
"""Names the spool to every process of a task: the one thing no other task on the machine shares."""
ALREADY_STARTED = 98
"""Exit code of the script where the task had been started before."""
RESTARTS = 5

_TEMPLATE = """#!/bin/sh
cd {spool} || exit 72
umask 077
mkdir {started} 2>/dev/null || exit {already}
# The command is told to stop by the same signal; this shell stays to write down how it ended.
trap : TERM INT
{exports}
left={restarts}
while :; do
  {command} >> runner.log 2>&1 < /dev/null
  code=$?
  [ "$code" -eq 137 ] && [ "$left" -gt 0 ] || break
  left=$((left - 1))
done
# Told once more to stop, the shell would live on, but not the mv below.
trap '' TERM INT
echo "$code" > {exit}.tmp && mv {exit}.tmp {exit}
exit "$code"
"""


def write_script(task: Task) -> Path:
    """Write the task's script into its spool."""
    exports = {**task.environment, SPOOL_VARIABLE: str(task.spool)}
    path = task.spool / SCRIPT
    path.write_text(
        _TEMPLATE.format(
            spool=shlex.quote(str(task.spool)),
            started=STARTED,
            already=ALREADY_STARTED,
            exports="\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
            restarts=RESTARTS,
            command=shlex.join(task.command),
            exit=EXIT,
        ),
        encoding="utf-8",
    )
    path.chmod(0o700)
    return path


def exit_state(spool: Path) -> EngineState | None:
    """How the command ended, from its exit file; None while there is none."""
    try:
        text = (spool / EXIT).read_text("ascii").strip()
    except FileNotFoundError:
        return None
    return EngineState("exited", int(text)) if text.isdigit() else EngineState("gone", None, "its exit file is damaged")


def was_started(spool: Path) -> bool:
    """True once an engine has begun to run the task."""
    return (spool / STARTED).is_dir()
