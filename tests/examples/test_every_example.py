import os
import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def run(folder, example, *arguments):
    """Runs an example in a folder that is not the repository, without data prepared by others."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TFDS_DATA_DIR": str(folder), "KERAS_HOME": str(folder)}
    command = [sys.executable, str(REPOSITORY / "examples" / f"{example}.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_help_explains_every_flag(tmp_path):
    done = run(tmp_path, "shapes3d", "--help")
    text = " ".join(done.stdout.split())
    flags = re.findall(r'flags.DEFINE_\w+\(\s*"(\w+)"', (REPOSITORY / "examples/shapes3d.py").read_text())
    assert len(flags) >= 8
    for flag in flags:
        assert f"--{flag}:" in text or f"--[no]{flag}:" in text, flag


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_short(example):
    assert len(example.read_text().splitlines()) < 120
