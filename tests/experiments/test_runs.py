import json

import numpy as np
import pytest

from keras_provlae import presets
from keras_provlae.experiments import ablation, guidance, runs, scales, suite, training

RUN = {"model": "pro-VLAE", "data": "shapes3d", "beta": 4, "L": 3, "latent_dim": 2, "seed": 0}
RUN |= {"iterations": 90, "size": 32, "gamma": 0.5, "fade_in": 10}


def test_equal_runs_alone_have_equal_names():
    assert runs.complete(runs.complete(RUN)) == runs.complete(RUN)
    assert runs.key(RUN) == runs.key({**RUN, "beta": np.float32(4.0), "batch_size": np.int64(100), "tc_weight": 0})
    changed = {"beta": 4.5, "seed": 1, "gamma": 0.0, "fade_in": 0, "iterations": 91, "size": 64, "scores": ["sap"]}
    names = {runs.key({**RUN, name: value}) for name, value in changed.items()} | {runs.key(RUN)}
    assert len(names) == len(changed) + 1


def test_only_a_pro_vlae_has_strategies():
    vlae = runs.complete({**RUN, "model": "VLAE"})
    assert vlae["gamma"] is vlae["fade_in"] is None
    assert runs.key(vlae) == runs.key({**RUN, "model": "VLAE", "gamma": 0.1})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"betta": 1}, ValueError, "unknown: betta"),
        ({"model": "VAE"}, ValueError, "`model` must be one of pro-VLAE.*'VAE'"),
        ({"data": "cifar"}, ValueError, "`data` must be one of"),
        ({"size": 48}, ValueError, "must divide 64.*size=48"),
        ({"L": 0}, ValueError, "`L` of a run must be finite and at least 1"),
        ({"seed": 1.5}, TypeError, "`seed`"),
        ({"beta": -1}, ValueError, "`beta`"),
        ({"beta": float("inf")}, ValueError, "`beta`.*finite"),
        ({"channels": 0}, ValueError, "`channels`"),
        ({"gamma": -0.5}, ValueError, "`gamma`"),
        ({"iterations": 2}, ValueError, "Every stage needs at least one step"),
        ({"fade_in": 31}, ValueError, "`fade_in` must not be longer than a stage, 30 steps. Received: 31"),
        ({"scores": ["mutual_info"]}, ValueError, "`scores` must be a list of mutual_information.*'mutual_info'"),
        ({"scores": "sap"}, ValueError, "`scores` must be a list"),
        ({"learning_rate": 0}, ValueError, "`learning_rate`"),
        ({"num_images": 1}, ValueError, "`num_images` of a run must be finite and at least 2"),
    ],
)
def test_invalid_runs_are_rejected(changes, error, message):
    with pytest.raises(error, match=message):
        runs.complete({**RUN, **changes})


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="Missing: beta, seed"):
        runs.complete({name: value for name, value in RUN.items() if name not in ("beta", "seed")})


@pytest.mark.parametrize("model", list(runs.MODELS))
def test_every_model_has_the_same_number_of_latents(model):
    """Every model gets its own optional settings as well: a total-correlation term, widths, a learning rate."""
    own = {
        "pro-VLAE": {"tc_weight": 2.0},
        "VLAE": {"data": "celeb_a"},  # whose preset is not a small ladder
        "beta-VAE": {"learning_rate": 0.01},
        "teacher-student": {},
    }[model]
    built = runs.build(runs.complete({**RUN, "model": model, "channels": 4, "dense": 8, **own}), (32, 32, 3), 480_000)
    assert type(built) is runs.MODELS[model]
    assert sum(built.rung_widths) == 6
    assert built.beta == 4
    rate = {"teacher-student": 3e-4, "beta-VAE": 0.01}.get(model, 5e-4)
    assert float(built.optimizer.learning_rate) == pytest.approx(rate)
    if model == "pro-VLAE":
        assert (built.gamma, built.tc_weight, built.dataset_size) == (0.5, 2.0, 480_000)
    if model == "VLAE":
        assert built.spec.channels == (4, 4, 4)
        assert built.spec.head_convs == (((4, 2),),) * 3


def test_stages_share_the_iterations():
    assert runs.stage_ends(runs.complete({**RUN, "iterations": 100})) == [33, 66, 100]
    assert runs.stage_ends(runs.complete({**RUN, "model": "VLAE"})) == [90]


def test_a_progress_function_is_checked_first(tmp_path):
    with pytest.raises(TypeError, match="`progress` must be a function"):
        training.execute(RUN, tmp_path, progress=[])


@pytest.mark.parametrize("scale", list(scales.SCALES))
@pytest.mark.parametrize("experiment", list(suite.EXPERIMENTS))
def test_all_models_of_an_experiment_train_equally(experiment, scale):
    """The paper: "we strictly required all models to have the same number of latent variables and of iterations"."""
    grid = suite.grid(experiment, scale, seeds=2, data=("shapes3d", "dsprites"))
    groups = {}
    for run in grid:
        groups.setdefault((run["data"], run["L"], run["latent_dim"]), set()).add((run["iterations"], run["batch_size"]))
    assert all(len(trainings) == 1 for trainings in groups.values())
    assert {run["seed"] for run in grid} == {0, 1}
    assert len({runs.key(run) for run in grid}) == len(grid)


def test_a_run_may_follow_a_recipe():
    recipe = presets.recipe("shapes3d")
    run = runs.complete({"recipe": "shapes3d", "seed": 3, "num_images": 50})
    assert runs.complete(json.loads(json.dumps(run))) == run  # as results.jsonl has it
    assert (run["model"], run["data"], run["size"], run["L"], run["seed"]) == ("pro-VLAE", "shapes3d", 32, 3, 3)
    assert runs.stage_ends(run) == [*recipe["training"]["unlock_iterations"], recipe["training"]["iterations"]]
    assert runs.title(run).endswith("recipe seed 3")
    shorter = runs.complete({"recipe": presets.recipe("shapes3d", iterations=60), "seed": 3, "num_images": 50})
    assert (shorter["iterations"], runs.key(shorter) != runs.key(run)) == (60, True)
    assert runs.complete({"recipe": "mnist", "seed": 3})["tc_weight"] == 0.0  # this recipe does not name it
    with pytest.raises(ValueError, match="follows a recipe may have the keys recipe, seed, .*Received: beta"):
        runs.complete({"recipe": "shapes3d", "seed": 3, "beta": 9.0})
    with pytest.raises(ValueError, match="Unknown recipe"):
        runs.complete({"recipe": "shapes4d", "seed": 3})
    with pytest.raises(ValueError, match="Missing: seed"):
        runs.complete({"recipe": "shapes3d"})


def test_the_runs_of_guidance_differ_in_the_guidance_alone():
    grid = suite.grid("guidance", "small", seeds=1)
    names = [guidance.name_of(run) for run in grid]
    assert len(set(names)) == len(grid)
    assert names[:3] == ["pro-VLAE, recipe with contours", "pro-VLAE, recipe without contours", "pro-VLAE"]
    whole, without = grid[0]["recipe"], grid[1]["recipe"]
    assert set(whole["training"]["annealing"]) - set(without["training"]["annealing"]) == {"contour_weight"}
    for name in "size", "channels", "dense", "iterations", "batch_size", "beta":
        assert len({run[name] for run in grid}) == 1, name


def test_the_papers_scale():
    run = suite.grid("information_flow", "paper", seeds=1)[0]
    facts = {"size": 64, "iterations": 3 * 72_000, "beta": 8.0, "gamma": 0.5, "fade_in": 5000, "batch_size": 100}
    assert {name: run[name] for name in facts} == facts
    assert (run["channels"], run["num_images"], run["scores"]) == (None, None, None)  # preset, all, all


def test_the_ablation_switches_each_strategy():
    switched = {(run["gamma"], run["fade_in"]) for run in ablation.grid("paper", 0)}
    assert switched == {(0.0, 0), (0.5, 0), (0.0, 5000), (0.5, 5000)}


def test_the_harsh_ablation_has_a_higher_learning_rate():
    for scale in scales.SCALES:
        harsh, mild = suite.grid("harsh_ablation", scale, seeds=1), suite.grid("ablation", scale, seeds=1)
        assert [(run["gamma"], run["fade_in"]) for run in harsh] == [(run["gamma"], run["fade_in"]) for run in mild]
        assert {run["learning_rate"] for run in harsh} == {4e-3}


def test_a_run_stores_the_name_of_its_source(tmp_path):
    mnist = tmp_path / "mnist"
    mnist.mkdir()
    grid = suite.grid("traversals", "small", seeds=1, sources={"mnist": str(mnist), "celeb_a": "tfds"})
    assert {(run["data"], run["source"]) for run in grid} == {
        ("shapes3d", "auto"), ("mnist", "mnist"), ("celeb_a", "tfds")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (("tables", "small"), {}, ValueError, "one of comparison.*'tables'"),
        (("ablation", "tiny"), {}, ValueError, "one of smoke, small, paper.*'tiny'"),
        (("comparison", "small"), {"data": "shapes3d"}, ValueError, "`data` must be a list"),
        (("comparison", "small"), {"data": ()}, ValueError, "`data` must be a list"),
        (("ablation", "small"), {"seeds": 0}, ValueError, "seeds=0"),
        (("ablation", "small"), {"seeds": 1.5}, TypeError, "`seeds` must be an integer"),
        (("ablation", "small"), {"sources": {"shape3d": "tfds"}}, ValueError, "'shape3d'"),
        (
            ("ablation", "small"),
            {"sources": {"mnist": "/no/such/folder"}},
            FileNotFoundError,
            "No images of mnist found at /no/such",
        ),
    ],
)
def test_invalid_experiments_are_rejected(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        suite.grid(*arguments, **settings)


def test_the_default_fade_in_is_at_most_half_a_stage():
    shape = {name: value for name, value in RUN.items() if name != "fade_in"}
    assert runs.complete(shape)["fade_in"] == 15
    assert runs.complete({**shape, "iterations": 90_000})["fade_in"] == 5000
