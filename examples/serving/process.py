"""Runs the server in its own process on a free port, for tests and benchmarks."""

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "serve.py"


@contextlib.contextmanager
def served(folder: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen, list[str]]]:
    """Starts the server, waits until it listens, and kills it on exit.

    Args:
        folder: Folder of the model's versions.
        *flags: Other flags of `examples/serve.py`.

    Yields:
        `(address, process, lines)`: `lines` grows with the output.

    Raises:
        RuntimeError: If the server exits before it listens; the message is its output.
    """
    command = [sys.executable, str(SCRIPT), f"--model_base_path={folder}", "--rest_api_port=0", *flags]
    # no PYTHONPATH and another working directory: the server must not need the package
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    addresses: queue.Queue[str | None] = queue.Queue()

    def read():
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"Serving .* at (http://\S+)", line):
                addresses.put(found[1])
        addresses.put(None)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        address = addresses.get(timeout=120)
        if address is None:
            raise RuntimeError("".join(lines))
        yield address, process, lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
