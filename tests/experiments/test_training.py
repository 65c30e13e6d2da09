import json
import shutil

import keras
import numpy as np
import pytest

from keras_provlae import datasets, presets
from keras_provlae.experiments import runs, sources, training, traversals
from keras_provlae.experiments.scales import run as run_at
from keras_provlae.training.errors import NonFiniteLossError

# 4 parts of 3 steps, and a last part of 1
RUN = {**run_at("smoke", "shapes3d", beta=1, L=2, latent_dim=2, seed=3), "iterations": 13, "fade_in": 6}
RUN["num_images"] = 40
KILLED_AT = 9  # stage 1 begins at 6


def grid_of_blobs():
    """60 images of blobs at 6 x 10 positions."""
    factors = np.array([(row, column) for row in range(6) for column in range(10)])
    y, x = np.mgrid[0:16, 0:16]
    squares = (y - 2 - 2 * factors[:, :1, None]) ** 2 + (x - 3 - factors[:, 1:, None]) ** 2
    images = np.round(255 * np.exp(-squares / 8))[..., None].astype("uint8")
    truth = datasets.GroundTruth.from_arrays(images, factors, ["row", "column"], "blobs", "procedural")
    return sources.Data(truth, None, ("row", "column"), "blobs, procedural", False)


@pytest.fixture(scope="module")
def blobs():
    return grid_of_blobs()


@pytest.fixture(scope="module", autouse=True)
def _load_blobs(blobs):
    """Trains on blobs: the shapes3d twin renders its images in the graph, which takes seconds to trace."""
    loaders = {"auto": lambda: blobs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CHUNKS", 4)
        patch.setattr(training.sources, "load", lambda run, source: loaders[source or run["source"]]())
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`(result, folder, folder of a run killed mid-fade)`: a copy of the files during the first part of stage 1."""
    folder, killed = tmp_path_factory.mktemp("whole") / "models", tmp_path_factory.mktemp("killed")

    def copy(iteration, seconds):
        if iteration == KILLED_AT:
            shutil.copytree(folder, killed, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "KEEP_EVERY", 0.0)
        return training.execute(RUN, folder, copy), folder / runs.key(RUN), killed


@pytest.fixture(scope="module")
def model(blobs):
    return runs.build(runs.complete(RUN), blobs.truth.image_shape, 60)


def test_a_result_holds_the_run_and_its_scores(whole):
    result, folder, _ = whole
    json.dumps(result, allow_nan=False)
    assert result["run"] == runs.complete(RUN)
    assert result["key"] == runs.key(RUN)
    assert result["finite"]
    assert not result["real"]
    assert result["data"] == "blobs, procedural"
    assert [(stage["stage"], stage["iteration"]) for stage in result["stages"]] == [(0, 6), (1, 13)]
    assert [set(stage["mi"]) for stage in result["stages"]] == [{"2"}, {"2", "1"}]
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(result["scores"])
    assert result["card"]["scores"]["mig"]["convention"]["rows"] == RUN["num_images"]
    assert result["scores"]["mig"] == pytest.approx(result["card"]["scores"]["mig"]["value"], abs=1e-6)
    assert result["scores"]["mig"] == pytest.approx(result["stages"][-1]["mig"], abs=1e-3)
    assert result["reconstruction"] > result["kl"] > 0
    assert [iteration for iteration, _ in result["variance"]] == [3, 6, 9, 12, 13]
    assert result["peak_variance"] == max(variance for _, variance in result["variance"])
    assert result["seconds"]["training"] > 0
    assert {"keras", "backend"} <= set(result["versions"])
    files = [".lock", "model.keras", "result.json", "stage_0.npz", "stage_1.npz"]
    assert sorted(path.name for path in folder.iterdir()) == files


def test_a_run_killed_mid_fade_ends_like_an_uninterrupted_one(whole):
    expected, _, killed = whole
    folder = killed / runs.key(RUN)
    assert training._Checkpoint(folder).restore("other data") is None
    # the log of a later part was written, its model was not
    log = json.loads((folder / "half.json").read_text())
    log["stages"].append({"stage": 0, "iteration": 1000})
    log["variance"].append([1000, 7.0])
    (folder / "half.json").write_text(json.dumps(log))
    reports = []
    result = training.execute(RUN, killed, lambda *report: reports.append(report))
    assert [iteration for iteration, _ in reports] == [12, 13]
    assert reports[-1][1]["scores"] < result["seconds"]["scores"] + 0.05  # the final scores come after the last report
    for name in "stages", "scores", "variance", "peak_variance", "reconstruction", "kl":
        assert result[name] == expected[name], name


def test_a_run_of_a_recipe_follows_it_after_a_kill_as_well(tmp_path):
    recipe = presets.recipe("shapes3d", size=16, iterations=13)
    recipe["model"] |= {"image_shape": (16, 16, 1), "channels": 3, "dense": 8, "dataset_size": 60}
    run = {"recipe": recipe, "seed": 3, "num_images": 40, "scores": ["mutual_information"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "KEEP_EVERY", 0.0)
        whole = training.execute(run, tmp_path / "whole")

        def stop(iteration, seconds):
            if iteration == KILLED_AT:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            training.execute(run, tmp_path / "killed", stop)
        killed = training.execute(run, tmp_path / "killed")
    assert [stage["iteration"] for stage in whole["stages"]] == [*recipe["training"]["unlock_iterations"], 13]
    for name in "stages", "scores", "variance", "reconstruction":
        assert killed[name] == whole[name], name
    model = keras.saving.load_model(tmp_path / "whole" / runs.key(run) / "model.keras")
    last = recipe["training"]["annealing"]["beta"][2]
    assert model.beta == pytest.approx(last)


def test_an_incomplete_checkpoint_is_ignored(tmp_path):
    (tmp_path / "part_half.keras").write_bytes(b"PK cut off")
    (tmp_path / "half.json").write_text(json.dumps({"data": "any", "stages": [], "variance": []}))
    assert training._Checkpoint(tmp_path).restore("any") is None


def test_a_trained_model_is_drawn(whole):
    result, folder, _ = whole
    page = traversals.report([result], folder.parents[1] / "traversals")
    assert "![figure 4: best pro-VLAE on shapes3d](best_pro-VLAE_on_shapes3d.png)" in page
    assert "model not found" not in page
    assert (folder.parents[1] / "traversals" / "best_pro-VLAE_on_shapes3d.png").stat().st_size > 1000


def test_a_repeated_end_of_a_stage_replaces_the_first(model, blobs, tmp_path):
    """A kill between the writes of log and model makes the resumed run unlock again."""
    log = {**training._new_log(blobs), "stages": [{"stage": 0, "iteration": 0, "mi": "of the killed run"}]}
    watch = training._Watch(runs.complete(RUN), blobs, log, training._Checkpoint(tmp_path), None, 0)
    watch.set_model(model)
    watch.on_train_begin()
    watch.before_unlock(model)
    assert [scores["stage"] for scores in log["stages"]] == [0]
    assert set(log["stages"][0]["mi"]) == {"2"}


@pytest.mark.parametrize(("log_var", "expected"), [(0.5, 1.649), (1000.0, 1e300)])
def test_the_variance_is_the_largest_of_the_unlocked_latents(model, blobs, tmp_path, monkeypatch, log_var, expected):
    """JSON has no infinity."""
    codes = np.array([[0.0, log_var, 3.0, 3.0]] * 2)  # rung 1 is locked
    monkeypatch.setattr(training, "encode_all", lambda *args: (None, codes))
    log = training._new_log(blobs)
    watch = training._Watch(runs.complete(RUN), blobs, log, training._Checkpoint(tmp_path), None, 0)
    watch.set_model(model)
    watch.on_train_begin()
    watch.on_epoch_end(0)
    assert log["variance"] == [[0, expected]]


def test_codes_that_are_not_finite_raise_like_a_loss(blobs, monkeypatch):
    """The last update can spoil the weights after the last loss was found finite."""
    monkeypatch.setattr(training, "encode", lambda *args: [np.full((5, 2), np.nan)] * 3)
    with pytest.raises(NonFiniteLossError, match="The loss is not finite: the codes are not"):
        training.stage_scores(None, runs.complete(RUN), blobs, 0)


def test_images_without_known_factors_get_information_scores_only(model, blobs):
    faces = sources.Data(blobs.truth, None, (), "celeb_a, 60 faces", True)
    run = {**runs.complete(RUN), "num_images": None}
    log = {"stages": [training.stage_scores(model, run, faces, 0)]}
    result = training._score(model, run, faces, log)
    assert "mig" not in log["stages"][0]
    assert result["card"] is None
    assert set(result["scores"]) == {"mi_rung_2", "mi_total"}  # rung 1 is still locked
    assert result["reconstruction"] > 0


def test_a_loss_that_is_not_finite_is_a_result(tmp_path):
    run = {**RUN, "learning_rate": 1e30, "L": 1, "iterations": 3, "fade_in": 0}
    result = training.execute(run, tmp_path)
    json.dumps(result, allow_nan=False)
    assert not result["finite"]
    assert result["error"].startswith("The loss is not finite")
    assert result["stopped_at"] < 3
    assert training.execute(run, tmp_path) == result  # not trained again


def test_other_errors_are_raised(tmp_path):
    with pytest.raises(KeyError, match="missing"):
        training.execute({**RUN, "source": "missing"}, tmp_path)
    with pytest.raises(KeyError, match="given"):
        training.execute(RUN, tmp_path, source="given")
