"""The search of examples/tune.py, with tiny models that train eagerly."""

import csv
import functools
import json
import shutil
import sqlite3

import keras
import numpy as np
import pytest
from absl import app, flags

import keras_provlae as kp
from tests.datasets.test_image_folder import write
from tests.examples.conftest import example, run

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402
from tuning import data as tuning_data  # noqa: E402
from tuning import results  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize"),
]
load = functools.cache(tuning_data.load)  # each source once
TINY = ("--source=procedural", "--size=8", "--iterations=4", "--range=num_rungs=1,2")


@pytest.fixture(scope="module", autouse=True)
def _small_and_eager(folder):
    compiled = kp.recipes.compiled_model

    def tiny(recipe):
        model = compiled(recipe, channels=2, dense=2)
        model.run_eagerly = True
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kp.recipes, "compiled_model", tiny)
        patch.setattr("tuning.data.HELD", 300)
        patch.setattr("tuning.data.load", load)
        patch.setattr(kp.report, "write_report", lambda model, data, path, **about: path)
        yield


@pytest.fixture
def _no_plots(monkeypatch):
    monkeypatch.setattr(results, "PLOTS", {})


def rows_of(output):
    with (output / "trials.csv").open(newline="") as file:
        return {int(row["trial"]): row for row in csv.DictReader(file)}


def study_of(output):
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{output / 'study.db'}")


@pytest.fixture(scope="module")
def searched(folder):
    """A search of two trials: its folder and what it printed."""
    printed = run("tune", *TINY, "--trials=2", "--output=searched")
    return folder / "searched", printed


def test_a_search_leaves_a_table_plots_and_the_best_model(searched, folder):
    output, printed = searched
    listed = [folder / line.strip() for line in printed.split("Look at:")[1].strip().splitlines()]
    assert {path.name for path in listed} - {"report.html"} == {
        *(f"{name}.png" for name in results.PLOTS), "search.html", "trials.csv", "best_recipe.json", "model.keras",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in listed if path.suffix == ".png")
    rows = rows_of(output)
    assert sorted(rows) == [0, 1]
    paper = {
        "num_rungs": 2,
        "latent_dim": 3,
        "beta": 8 / 64,
        "tc_weight": 0,
        "new_rung_pressure": 1,
        "last_pressure": 1,
    }
    assert {name: float(rows[0][name]) for name in paper} == paper
    values = [float(row["mig"]) for row in rows.values()]  # as in the table
    assert values == sorted(values, reverse=True)
    assert next(line for line in printed.splitlines() if "complete" in line).split()[0] == str(next(iter(rows)))


def test_the_best_model_has_the_score_of_the_table_and_its_recipe_trains_it_again(searched):
    output, _ = searched
    data, model = load("shapes3d", "procedural", 8), keras.models.load_model(output / "model.keras")
    assert len(data.rows) + len(data.images) == 480_000
    row = next(iter(rows_of(output).values()))

    def score(model):
        found = kp.metrics.evaluate(model, (data.images, data.factors), include=["mutual_information"], progress=False)
        return float(found["mig"])

    assert score(model) == pytest.approx(float(row["mig"]), abs=1e-6)
    recipe = json.loads((output / "best_recipe.json").read_text())
    assert recipe["settings"]["beta"] == float(row["beta"])
    assert json.loads(json.dumps(kp.recipes.even_recipe(**recipe["settings"]))).items() <= recipe.items()
    keras.utils.set_random_seed(0)
    again = kp.recipes.compiled_model(recipe)
    ds = data.truth.tf_dataset(100, seed=0, subset=data.rows, repeat=True)
    again.fit(ds, steps_per_epoch=4, verbose=0, callbacks=kp.recipes.fit_callbacks(recipe))
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("_no_plots")
def test_a_killed_search_continues_and_runs_the_lost_trial_again(searched, folder):
    output = folder / "killed"
    shutil.copytree(searched[0], output)
    storage = optuna.storages.RDBStorage(f"sqlite:///{output / 'study.db'}", heartbeat_interval=1)
    lost = optuna.load_study(study_name="tune", storage=storage).ask()
    chosen = lost.suggest_float("beta", 0.125 / 4, 0.125 * 4, log=True)
    storage.record_heartbeat(lost._trial_id)
    with sqlite3.connect(output / "study.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    run("tune", *TINY, "--trials=3", f"--output={output}")
    *_, failed, retried = study_of(output).trials
    assert (failed.number, failed.state, retried.state) == (2, TrialState.FAIL, TrialState.COMPLETE)
    assert retried.params["beta"] == chosen
    assert set(rows_of(output)) == {0, 1, 2, 3}
    assert rows_of(output)[2]["state"] == "fail"
    assert [path.name for path in output.glob("trial_*.keras")] == [f"trial_{next(iter(rows_of(output)))}.keras"]


def test_a_process_that_joins_draws_other_settings(folder):
    (folder / "joined").mkdir()
    with example("tune", *TINY) as program:
        first, second = (program.open_study(folder / "joined", {"beta": 0.3}) for _ in range(2))
    drawn = [study.ask().suggest_float("beta", 0.1, 1.0) for study in (first, second, first)]
    assert drawn[0] == 0.3
    assert drawn[1] != drawn[2]


@pytest.fixture
def pruning(folder, tmp_path, monkeypatch):
    """Trains a trial with given scores at its stage ends, after four trials with 0.5 and 0.9."""
    settings = {"num_rungs": 2, "latent_dim": 1, "dataset_size": 100, "iterations": 4, "image_shape": (8, 8, 3)}
    data, models = load("shapes3d", "procedural", 8), []
    with example("tune", *TINY) as program:
        study = program.open_study(tmp_path, {"beta": 1.0})
        for _ in range(4):
            study.add_trial(optuna.create_trial(value=0.9, intermediate_values={2: 0.5, 4: 0.9}))

        def train(*scores):
            scores = iter(scores)

            def score(trained, _):
                models[:] = trained
                return next(scores)

            monkeypatch.setitem(program.train.__globals__, "score", score)
            return program.train(study.ask(), kp.recipes.even_recipe(**settings), data)

        yield train, models


def test_a_trial_below_the_median_ends_with_its_first_stage(pruning):
    train, models = pruning
    with pytest.raises(optuna.TrialPruned, match="mig 0.4 after 2 steps"):
        train(0.4)
    assert (models[0].iteration, models[0].stage) == (2, 0)


def test_a_trial_above_the_median_goes_on_and_its_last_stage_is_not_pruned(pruning):
    train, _ = pruning
    model, value = train(0.6, 0.1)
    assert (model.iteration, model.stage, value) == (4, 1, 0.1)


@pytest.fixture(scope="module")
def photos(folder):
    rng = np.random.default_rng(0)
    for number in range(30):
        write(folder / f"photos/{number:02}.png", (np.ones((8, 8, 3)) * rng.integers(0, 256, 3)).astype("uint8"))
    return folder / "photos"


@pytest.mark.usefixtures("_no_plots")
def test_a_folder_of_images_is_searched_without_labels_by_two_seeds(folder, monkeypatch):
    rng, codes, udr = np.random.default_rng(0), [], kp.metrics.udr
    for number in range(30):
        write(folder / f"photos/{number:02}.png", (np.ones((8, 8, 3)) * rng.integers(0, 256, 3)).astype("uint8"))
    monkeypatch.setattr(kp.metrics, "udr", lambda pairs, **how: codes.append(pairs) or udr(pairs, **how))
    run("tune", "--data=photos", "--objective=udr", "--size=8", "--iterations=2", "--range=num_rungs=1,1", "--trials=1")
    output = folder / "output/tune_photos_udr"
    data, model = load("photos", "auto", 8), keras.models.load_model(output / "model.keras")
    assert (len(data.rows), len(data.images), data.factors) == (27, 3, None)
    assert model.iteration == 2
    ((first, second),) = codes
    np.testing.assert_allclose(first[0], model.encode(data.images)[0], atol=1e-5)
    assert np.abs(first[0] - second[0]).max() > 1e-3
    score = udr([first, second], method="spearman").scores.mean()
    assert float(rows_of(output)[0]["udr"]) == pytest.approx(score)


def test_the_elbo_is_that_of_the_held_out_images_at_beta_1(searched):
    data, model = load("shapes3d", "procedural", 8), keras.models.load_model(searched[0] / "model.keras")
    with example("tune", "--objective=elbo") as program:
        elbo = program.score([model], data)
    measured = model.evaluate(data.images, verbose=0, return_dict=True)
    assert elbo == pytest.approx(-measured["reconstruction"] - measured["kl"], rel=1e-3)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["--data=mnist"], app.UsageError, "MIG needs data with known factors, dsprites or shapes3d: use --obj"),
        (["--size=24"], app.UsageError, "--size must divide 64 for --data=shapes3d. Received: --size=24"),
        (["--range=gamma=1,2"], app.UsageError, "lowest and highest value of num_rungs,.*Received: --range=gamma=1,2"),
        (["--range=beta=2,1"], app.UsageError, "Received: --range=beta=2,1"),
        (["--range=beta=0,1"], app.UsageError, "Received: --range=beta=0,1"),
        (["--range=beta=2"], app.UsageError, "Received: --range=beta=2"),
        (["--range=latent_dim=1.5,2"], app.UsageError, "Received: --range=latent_dim=1.5,2"),
        (["--range=num_rungs=2,4"], ValueError, "`num_rungs` must be at least 1 and at most 3. Received: num_rungs=4"),
        (["--iterations=3"], ValueError, "`iterations` must be at least 4. Received: iterations=3"),
        (["--output=searched", "--seed=1"], app.UsageError, "searched has a search with --seed=0: repeat that"),
    ],
)
def test_bad_flags_are_refused_before_the_first_trial(searched, given, error, message, monkeypatch):
    monkeypatch.setattr(optuna.Study, "optimize", lambda *_, **__: pytest.fail("a trial began"))
    with pytest.raises(error, match=message):
        run("tune", *TINY, "--output=refused", *given)


@pytest.mark.parametrize("flag", ["--objective=mig_sup", "--minutes=-1", "--trials=0", "--iterations=1"])
def test_bad_values_are_refused(flag):
    with pytest.raises(flags.IllegalFlagValueError, match=flag.split("=")[0].lstrip("-")), example("tune", flag):
        pass


def test_without_time_there_is_no_trial(folder):
    with pytest.raises(SystemExit, match="No trial is complete yet: give the search more --minutes"):
        run("tune", *TINY, "--minutes=0", "--output=empty")
    assert [trial.state for trial in study_of(folder / "empty").trials] == [TrialState.WAITING]
