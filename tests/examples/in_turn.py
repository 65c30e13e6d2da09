"""Runs examples in turn, each in a process of its own: takes their command lines and a file for what each left.

The processes are forks of this one, which has imported TensorFlow and started nothing of it.
"""

import gc
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

import keras_provlae  # noqa: F401
from tests.conftest import REPOSITORY


def run(example, *arguments):
    """Runs one example as its command line does; returns its exit code and what it printed."""
    path = REPOSITORY / "examples" / f"{example}.py"
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), sys.stdout.fileno())
            os.dup2(err.fileno(), sys.stderr.fileno())
            sys.argv, sys.path[0] = [str(path), *arguments], str(path.parent)
            runpy.run_path(str(path), run_name="__main__")
            sys.exit()
        _, status = os.waitpid(child, 0)
        printed = {name: file.seek(0) or file.read() for name, file in (("stdout", out), ("stderr", err))}
    return {"returncode": os.waitstatus_to_exitcode(status), **printed}


if __name__ == "__main__":
    gc.freeze()  # each end would search all that is imported here for garbage, for more than a second
    Path(sys.argv[2]).write_text(json.dumps([run(*command) for command in json.loads(sys.argv[1])]))
