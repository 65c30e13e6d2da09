import csv

import keras

import keras_provlae as kp


def test_the_example_leaves_model_pictures_and_history(trained):
    output, printed = trained["celeb_a"]
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.iteration, model.num_rungs) == (kp.ProgressiveVAE, 3, 8, 4)
    assert model.count_params() < 38_253_051 / 8
    for picture in "reconstructions", "rung_samples", "traversals", "growth", "training":
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    with (output / "history.csv").open(newline="") as file:
        assert {row["data"] for row in csv.DictReader(file)} == {"faces"}
    assert "I(x; z_l) in nats, of 4 test images" in printed
    assert "on faces 32x32" in (output / "report.html").read_text()
    assert "output/celeb_a/report.html" in printed
    assert "every 10th image is the test split" in printed


def test_without_data_it_says_exactly_how_to_get_them(answers):
    done = answers["no data"]
    assert done.returncode != 0
    assert "Get img_align_celeba.zip" in done.stderr
    assert "tfds build celeb_a" in done.stderr
