import csv
import json
from pathlib import Path

import keras
import pytest

import keras_provlae as kp
from tests.examples.conftest import SHORT, run

PICTURES = ("reconstructions", "rung_samples", "traversals", "mutual_information", "rung_factors", "growth", "training")
LATENTS = {"dsprites": 6, "shapes3d": 9}


@pytest.fixture(params=LATENTS)
def finished(request, trained):
    return request.param, *trained[request.param]


def test_the_example_leaves_model_pictures_and_history(finished):
    name, output, _ = finished
    model = keras.models.load_model(output / "model.keras")
    assert (type(model), model.stage, model.iteration) == (kp.ProgressiveVAE, 2, 6)
    assert model.rung_slices[-1][1].stop == LATENTS[name]
    for picture in PICTURES:
        assert (output / f"{picture}.png").read_bytes().startswith(b"\x89PNG"), picture
    with (output / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["stage"]) for row in rows] == [0, 1, 2]
    assert {"loss", "mi_rung_3", "mig", "factor_vae_score"} <= set(rows[0])


def test_card_and_csv_files_name_the_twin(finished):
    name, output, printed = finished
    expected = f"{name} 32x32 procedural"
    assert f"{name}: the procedural twin" in printed
    assert f"data: {expected}" in printed
    card = json.loads((output / "card.json").read_text())
    assert card["about"]["data"] == expected
    assert card["about"]["rows"] == 300
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(card["scores"])
    for file_name in "card.csv", "history.csv":
        with (output / file_name).open(newline="") as file:
            assert {row["data"] for row in csv.DictReader(file)} == {expected}


def test_the_report_is_about_this_training(finished):
    name, output, _ = finished
    text = (output / "report.html").read_text()
    assert f"on {name} 32x32 procedural" in text
    assert "seed of the training" in text
    assert "At the end of every stage" in text
    assert sorted(path.suffix for path in (output / "snapshots").glob("step_*")) == [".npz"] * 3 + [".png"] * 3


def test_the_last_lines_are_the_paths(finished):
    name, output, printed = finished
    paths = printed.split("Look at:")[1].strip().splitlines()
    files = ["report.html", "card.json", "card.csv", "history.csv", "model.keras"]
    names = [*(f"{picture}.png" for picture in PICTURES), *files]
    assert sorted(Path(line.strip()).name for line in paths) == sorted(names)
    assert all((output.parents[1] / line.strip()).is_file() for line in paths)
    assert ("MIG without the shape, as published:" in printed) == (name == "dsprites")


def test_it_goes_on_where_it_stopped(trained):
    output, _ = trained["shapes3d"]  # whose code is that of dsprites
    model = keras.models.load_model(output / "model.keras")
    rows = (output / "history.csv").read_text().splitlines()
    model.iteration_variable.assign(4)  # as if it had been stopped before the last epoch
    model.save(output / "model.keras")
    (output / "history.csv").write_text("\n".join(rows[:-1]) + "\n")
    resume = ("shapes3d", *SHORT, "--resume")
    refused, done = run(output.parents[1], (*resume, "--beta=3"), resume)
    assert refused.returncode != 0
    assert "takes the flags of the run that it goes on with" in refused.stdout + refused.stderr
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Epoch 3/3" in done.stdout
    assert "Epoch 2/3" not in done.stdout
    assert keras.models.load_model(output / "model.keras").iteration == 6
    with (output / "history.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_there_may_be_nothing_to_resume(answers):
    done = answers["resume"]
    assert "There is nothing to resume in output/shapes3d" in done.stdout + done.stderr
