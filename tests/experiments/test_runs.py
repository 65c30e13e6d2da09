import numpy as np
import pytest

from keras_provlae.experiments import ablation, runs, scales, suite, training

RUN = {"model": "pro-VLAE", "data": "shapes3d", "beta": 4, "L": 3, "latent_dim": 2, "seed": 0}
RUN |= {"iterations": 90, "size": 32, "gamma": 0.5, "fade_in": 10}


def test_equal_runs_have_equal_names_and_others_do_not():
    assert runs.complete(runs.complete(RUN)) == runs.complete(RUN)
    assert runs.key(RUN) == runs.key({**RUN, "beta": np.float32(4.0), "batch_size": np.int64(100), "tc_weight": 0})
    changed = {"beta": 4.5, "seed": 1, "gamma": 0.0, "fade_in": 0, "iterations": 91, "size": 64, "scores": ["sap"]}
    names = {runs.key({**RUN, name: value}) for name, value in changed.items()} | {runs.key(RUN)}
    assert len(names) == len(changed) + 1


def test_strategies_are_of_a_pro_vlae_alone():
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
        ({"L": 0}, ValueError, "`L` of a run must be at least 1"),
        ({"seed": 1.5}, TypeError, "`seed`"),
        ({"beta": -1}, ValueError, "`beta`"),
        ({"beta": float("inf")}, ValueError, "`beta`.*finite"),
        ({"channels": 0}, ValueError, "`channels`"),
        ({"gamma": -0.5}, ValueError, "`gamma`"),
        ({"iterations": 2}, ValueError, "Every stage needs a step"),
        ({"fade_in": 31}, ValueError, "`fade_in` must not be longer than a stage, 30 steps. Received: 31"),
        ({"scores": ["mutual_info"]}, ValueError, "`scores` must be a list of mutual_information.*'mutual_info'"),
        ({"scores": "sap"}, ValueError, "`scores` must be a list"),
        ({"learning_rate": 0}, ValueError, "`learning_rate`"),
    ],
)
def test_unfit_runs_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        runs.complete({**RUN, **changes})


def test_a_run_without_a_key_is_refused():
    with pytest.raises(ValueError, match="Missing: beta, seed"):
        runs.complete({name: value for name, value in RUN.items() if name not in ("beta", "seed")})


@pytest.mark.parametrize("model", list(runs.MODELS))
def test_every_model_has_as_many_latents_and_its_own_optimiser(model):
    settings = {**RUN, "model": model, "channels": 4, "dense": 8}
    built = runs.build(runs.complete(settings), (32, 32, 3), 480_000)
    assert sum(built.latent_groups) == 6
    assert built.beta == 4
    assert type(built) is runs.MODELS[model]
    rate = 3e-4 if model == "teacher-student" else 5e-4
    assert float(built.optimizer.learning_rate) == pytest.approx(rate)
    if model == "pro-VLAE":
        assert built.gamma == 0.5
    faster = runs.build(runs.complete({**settings, "learning_rate": 0.01}), (32, 32, 3), 480_000)
    assert float(faster.optimizer.learning_rate) == pytest.approx(0.01)


def test_a_total_correlation_term_is_a_setting_of_a_run():
    built = runs.build(runs.complete({**RUN, "tc_weight": 2.0, "channels": 4, "dense": 8}), (32, 32, 3), 480_000)
    assert (built.tc_weight, built.dataset_size) == (2.0, 480_000)


def test_widths_make_a_small_ladder_of_any_data():
    small = runs.build(runs.complete({**RUN, "data": "celeb_a", "channels": 4, "dense": 8}), (32, 32, 3), 10)
    assert small.spec.channels == (4, 4, 4)
    assert small.spec.head_convs == (((4, 2),),) * 3


def test_stages_share_the_iterations():
    assert runs.stage_ends(runs.complete({**RUN, "iterations": 100})) == [33, 66, 100]
    assert runs.stage_ends(runs.complete({**RUN, "model": "VLAE"})) == [90]


def test_what_a_run_would_end_with_is_checked_before_it_begins(tmp_path):
    (tmp_path / "comparison").write_text("no folder")
    with pytest.raises(OSError, match=r"The page cannot be written to .*comparison"):
        suite.run_experiment("comparison", "smoke", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison"]
    with pytest.raises(TypeError, match="`progress` must be a function"):
        training.execute(RUN, tmp_path, progress=[])
    with pytest.raises(ValueError, match="`num_images` of a run must be at least 2"):
        runs.complete({**RUN, "num_images": 1})
    with pytest.raises(TypeError, match="`seeds` must be an integer"):
        suite.grid("comparison", "smoke", seeds=1.5)
    with pytest.raises(ValueError, match="`data` must be a list of"):
        suite.grid("comparison", "smoke", data=())


@pytest.mark.parametrize("scale", list(scales.SCALES))
@pytest.mark.parametrize("experiment", list(suite.EXPERIMENTS))
def test_all_models_of_an_experiment_get_the_same_training(experiment, scale):
    """The paper: "we strictly required all models to have the same number of latent variables and of iterations"."""
    grid = suite.grid(experiment, scale, seeds=2, data=("shapes3d", "dsprites"))
    groups = {}
    for run in grid:
        groups.setdefault((run["data"], run["L"], run["latent_dim"]), set()).add((run["iterations"], run["batch_size"]))
    assert all(len(trainings) == 1 for trainings in groups.values())
    assert {run["seed"] for run in grid} == {0, 1}
    assert len({runs.key(run) for run in grid}) == len(grid)


def test_the_papers_scale_is_the_papers():
    run = suite.grid("information_flow", "paper", seeds=1)[0]
    facts = {"size": 64, "iterations": 3 * 72_000, "beta": 8.0, "gamma": 0.5, "fade_in": 5000, "batch_size": 100}
    assert {name: run[name] for name in facts} == facts
    assert (run["channels"], run["num_images"], run["scores"]) == (None, None, None)  # the preset's, all, all


def test_the_ablation_switches_each_strategy():
    switched = {(run["gamma"], run["fade_in"]) for run in ablation.grid("paper", 0)}
    assert switched == {(0.0, 0), (0.5, 0), (0.0, 5000), (0.5, 5000)}


def test_sources_are_in_a_run_by_name_alone(tmp_path):
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
        (("ablation", "small"), {"seeds": 0}, ValueError, "seeds=0"),
        (("ablation", "small"), {"sources": {"shape3d": "tfds"}}, ValueError, "'shape3d'"),
        (("ablation", "small"), {"sources": {"mnist": "/no/such/folder"}}, FileNotFoundError, "mnist at /no/such"),
    ],
)
def test_unfit_experiments_are_refused(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        suite.grid(*arguments, **settings)


def test_a_fade_in_that_is_not_given_is_half_a_stage_at_most():
    shape = {name: value for name, value in RUN.items() if name != "fade_in"}
    assert runs.complete(shape)["fade_in"] == 15
    assert runs.complete({**shape, "iterations": 90_000})["fade_in"] == 5000
