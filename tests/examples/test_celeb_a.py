import csv

import keras
import numpy as np

import keras_provlae as kp
from tests.datasets.test_image_folder import write
from tests.examples.test_every_example import run


def test_the_example_leaves_model_pictures_and_history(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        image = np.ones((218, 178, 3)) * rng.integers(0, 256, 3)
        write(tmp_path / f"faces/{number:06}.jpg", image.astype("uint8"))
    done = run(tmp_path, "celeb_a", "--data_dir=faces", "--epochs=4", "--steps_per_epoch=2")
    assert done.returncode == 0, done.stderr[-3000:]
    output = tmp_path / "output/celeb_a"
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.iteration, model.num_rungs) == (kp.ProgressiveVAE, 3, 8, 4)
    assert model.count_params() < 38_253_051 / 8
    for picture in "reconstructions", "rung_samples", "traversals", "training":
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    with (output / "history.csv").open(newline="") as file:
        assert {row["data"] for row in csv.DictReader(file)} == {"faces"}
    assert "I(x; z_l) in nats, of 4 test images" in done.stdout
    assert "every 10th image is the test split" in done.stdout


def test_without_data_it_says_exactly_how_to_get_them(tmp_path):
    done = run(tmp_path, "celeb_a")
    assert done.returncode != 0
    assert "Get img_align_celeba.zip" in done.stderr
    assert "tfds build celeb_a" in done.stderr
