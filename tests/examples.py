"""The stand-alone checkers of `examples/`, run as anyone would run them."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path("examples")


def checkers() -> list[list[str]]:
    """Give the commands of the checkers that this machine can run; Python's always."""
    found = [[sys.executable, str(FOLDER / "verify_draw.py")]]
    if node := shutil.which("node"):
        found.append([node, str(FOLDER / "verify_draw.mjs")])
    return found


def said(command: list[str], document: dict[str, Any] | str) -> tuple[int, str]:
    """Give the exit code of a checker, and what it says of a document."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draw.json"
        written = document if isinstance(document, str) else json.dumps(document)
        path.write_text(written, "utf-8")
        done = subprocess.run(  # noqa: S603  (our own checkers)
            [*command, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
    return done.returncode, done.stdout + done.stderr


def verified(document: dict[str, Any]) -> bool:
    """Tell whether every checker agrees with a document."""
    return all(said(command, document)[0] == 0 for command in checkers())
