"""Runs examples in turn, so that TensorFlow starts once: takes their command lines and a file for what each left."""

import contextlib
import io
import json
import runpy
import sys
import traceback
from pathlib import Path

from absl import flags

from tests.conftest import REPOSITORY


def run(example, *arguments):
    """Runs one example as its command line does; returns its exit status and what it printed."""
    path = str(REPOSITORY / "examples" / f"{example}.py")
    before, status = set(flags.FLAGS), 0
    sys.argv = [path, *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except Exception:
            status = 1
            traceback.print_exc()
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)  # the next example defines its own
    return {"returncode": status, "stdout": out.getvalue(), "stderr": err.getvalue()}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps([run(*command) for command in json.loads(sys.argv[1])]))
