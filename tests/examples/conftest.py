import contextlib
import io
import os
import runpy
import types

import pytest
from absl import flags

from tests.conftest import REPOSITORY


@contextlib.contextmanager
def example(name, *arguments):
    """Yields the globals of an example with its flags parsed; removes the flags afterwards."""
    before = set(flags.FLAGS)
    try:
        program = runpy.run_path(str(REPOSITORY / f"examples/{name}.py"))
        flags.FLAGS([name, *arguments])
        yield types.SimpleNamespace(**program)
    finally:
        for flag in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, flag)


def run(name, *arguments):
    """Runs an example in this process; returns what it printed."""
    with example(name, *arguments) as program, contextlib.redirect_stdout(io.StringIO()) as out:
        program.main([name])
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Working directory of a module's examples, where no data set has been prepared."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TFDS_DATA_DIR", os.fspath(folder))
        patch.setenv("KERAS_HOME", os.fspath(folder))
        yield folder
