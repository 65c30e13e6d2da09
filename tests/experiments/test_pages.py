"""The pages of the four experiments, from made-up results with known answers."""

import re

import pytest

from keras_provlae.experiments import (
    ablation,
    comparison,
    guidance,
    harsh_ablation,
    information_flow,
    paper,
    suite,
    tables,
    traversals,
)


def row(page, start):
    """Returns the cells of the table row that starts with these words."""
    lines = [line for line in page.splitlines() if re.match(rf"\| {re.escape(start)}\s*\|", line)]
    assert len(lines) == 1, lines
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


SCORES = {  # {(model, beta): MIG of each seed}
    ("pro-VLAE", 1): (0.2, 0.3, 0.25), ("pro-VLAE", 4): (0.6, 0.7, 0.65), ("pro-VLAE", 8): (0.1, 0.9, 0.5),
    ("VLAE", 1): (0.07, 0.12, 0.11, 0.1), ("VLAE", 4): (0.3, 0.32, 0.31), ("VLAE", 8): (0.5, 0.5, 0.5),
    ("beta-VAE", 1): (0.3, 0.32, 0.31), ("beta-VAE", 4): (0.4, 0.42, 0.41), ("beta-VAE", 8): (0.1, 0.1, 0.1),
    ("teacher-student", 1): (0.05, 0.06, 0.07),
}  # fmt: skip


@pytest.fixture(scope="module")
def compared(made_up, tmp_path_factory):
    """`(page, folder)` of three seeds, and of four of VLAE at beta 1."""
    folder = tmp_path_factory.mktemp("comparison")
    results = []
    for run in suite.grid("comparison", "small", seeds=4):
        scores = SCORES[run["model"], run["beta"]]
        if run["seed"] < len(scores):
            mig = scores[run["seed"]]
            results.append(made_up(run, mig=mig, mig_sup=mig, factor_vae_score=mig))
    return comparison.report(results, folder), folder


def test_the_comparison_shows_means_and_every_run(compared):
    page, folder = compared
    lines = page.splitlines()
    assert "0.500 (0.500 ± 0.400)" in next(line for line in lines if re.match(r"\| pro-VLAE\s*\| 8 ", line))
    # a point is the mean of the best three of four
    assert "0.110 (0.100 ± 0.022)" in next(line for line in lines if re.match(r"\| VLAE\s*\| 1 ", line))
    assert "0.952" in row(page, "the paper's best model (figure 9)")
    assert sum("shapes3d L 3 x 3 beta" in line for line in lines) == 31
    assert "a procedural twin, not the original" in page
    assert "4,500 iterations" in page
    assert "32 x 32 pixels" in page
    pictures = re.findall(r"\]\((.*?\.png)\)", page)
    assert len(pictures) == 2
    for name in pictures:
        assert (folder / name).stat().st_size > 10_000


def test_the_comparison_decides_the_papers_claims(compared):
    page, _ = compared
    # VLAE is below beta-VAE at beta 1 and 4; pro-VLAE is above VLAE at 1 and 4, and above beta-VAE at 4 only
    assert row(page, "VLAE above beta-VAE in MIG at most values of beta")[1] == tables.DIFFERS
    assert row(page, "pro-VLAE above VLAE in MIG at most values of beta")[1] == tables.AGREES
    assert row(page, "pro-VLAE above beta-VAE in MIG at most values of beta")[1] == tables.UNDECIDED
    assert row(page, "pro-VLAE is the best in MIG and MIG-sup together")[1:] == [
        tables.AGREES, "pro-VLAE at beta 4 1.30, VLAE at beta 8 1.00"
    ]  # fmt: skip
    assert row(page, "pro-VLAE is among the top in the FactorVAE score")[1] == tables.AGREES
    assert row(page, "teacher-student is low to moderate")[1:] == [
        tables.AGREES, "MIG 0.06; pro-VLAE at beta 4 0.65"
    ]  # fmt: skip
    assert tables.RULE in page


def test_runs_with_a_non_finite_loss_are_named_and_in_no_mean(made_up, tmp_path):
    """One finite seed is left, which decides nothing."""
    results = [made_up(run, mig=0.1 + run["beta"] / 10) for run in suite.grid("comparison", "small", seeds=2)]
    for result in results:
        if result["run"]["seed"] == 1:
            result |= {"finite": False, "stopped_at": 150, "stages": []}
            del result["scores"], result["reconstruction"]
    nothing = [result for result in results if not result["finite"]]
    for experiment in comparison, information_flow, traversals:
        page = experiment.report(results, tmp_path / "page")
        assert "10 runs had a non-finite loss" in page
        assert "beta-VAE shapes3d L 3 x 3 beta 8 seed 1 (after 150 steps)" in page
        assert experiment is not comparison or not re.search(r"\| (agrees|differs) ", page)
        assert "10 runs had a non-finite loss" in experiment.report(nothing, tmp_path / "page")


def test_a_comparison_of_one_model_decides_nothing(made_up, tmp_path):
    results = [
        made_up(run) for run in suite.grid("comparison", "smoke", seeds=2, data=["dsprites"]) if run["model"] == "VLAE"
    ]
    page = comparison.report(results, tmp_path)
    assert not re.search(r"\| (agrees|differs) ", page)
    assert comparison.DSPRITES in page


def flow_results(made_up):
    """Growing models give exactly the paper's means; VLAE has the opposite order of rungs."""
    steps = {(t.data, t.L, t.latent_dim): [[mean for mean, _ in step] for step in t.steps] for t in paper.FLOW_TABLES}
    totals = {(t.data, t.L, t.latent_dim): [mean for mean, _ in t.totals] for t in paper.FLOW_TABLES}
    steps["shapes3d", 3, 3] = [[10.59], [6.94, 5.98], [6.94, 6.07, 0.01]]
    totals["shapes3d", 3, 3] = [10.61, 12.84, 13.02]
    results = []
    for run in suite.grid("information_flow", "small", seeds=2):
        shape = (run["data"], run["L"], run["latent_dim"])
        if run["model"] == "pro-VLAE":
            results.append(made_up(run, mi=steps[shape], totals=totals[shape]))
        elif run["model"] == "VLAE":
            results.append(made_up(run, mi=[[1.0, 2.0, 3.0]], totals=[5.0]))
        else:
            results.append(made_up(run, mi=[[8.0], [8.0, 1.0], [8.0, 1.0, 1.0]], totals=[8.0, 8.5, 9.0]))
    return results


def test_the_information_flow_shows_the_papers_numbers_and_claims(made_up, tmp_path):
    page = information_flow.report(flow_results(made_up), tmp_path)
    for table in paper.FLOW_TABLES:
        assert table.name in page
    section = page.split("## Table 4")[1].split("##")[0]
    assert "6.83 ± 0.00 [6.83 ± 1.37] =" in section
    figure_5 = page.split("## Figure 5")[1].split("##")[0]
    assert "10.59 ± 0.00 [10.59] =" in figure_5
    assert "0.01 ± 0.00 [0.00] =" in figure_5
    table_1 = page.split("## Table 1:")[1].split("##")[0]
    vlae = next(line for line in table_1.splitlines() if re.match(r"\| shapes3d \| VLAE", line))
    assert "1.00 ± 0.00 [4.41]" in vlae
    assert "=" not in vlae
    assert "ln N" in page
    assert "10.00 for mnist, real" in page
    verdicts = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in page.splitlines() if "| " in line}
    assert verdicts["shapes3d, L = 3, z = 2: I(x; z_l) decreases from deep to shallow"] == tables.AGREES
    # 3.88 < 4.99 in the paper
    assert verdicts["mnist, L = 3, z = 1: I(x; z_l) decreases from deep to shallow"] == tables.DIFFERS
    assert verdicts["shapes3d, L = 2, z = 3: information moves out of z_2"] == tables.AGREES
    assert verdicts["shapes3d, L = 2, z = 3: the total rises as rungs are unlocked"] == tables.AGREES
    student = [
        verdict
        for claim, verdict in verdicts.items()
        if claim.startswith(("teacher-student moves", "teacher-student has"))
    ]
    assert student == [tables.AGREES, tables.AGREES]


def test_the_papers_numbers():
    assert paper.SUCCESS == {(False, False): 0.0, (True, False): 0.667, (False, True): 0.733, (True, True): 0.867}
    assert paper.TABLE_1["shapes3d", "VLAE"] == (4.41, 4.69, 5.01, 12.75)
    assert paper.TABLE_1["mnist", "pro-VLAE"] == (9.83, 8.24, 6.28, 10.93)
    tables_by_name = {table.name: table for table in paper.FLOW_TABLES}
    assert tables_by_name["Table 8"].steps[-1] == ((9.99, 0.09), (8.11, 0.03), (6.45, 0.15), (3.52, 0.07))
    assert tables_by_name["Table 6"].totals == ((5.86, 1.19), (7.62, 2.63), (8.25, 1.65))
    for table in paper.FLOW_TABLES:
        assert [len(step) for step in table.steps] == list(range(1, table.L + 1))


def test_only_values_close_to_the_papers_are_marked(made_up):
    table = paper.FLOW_TABLES[0]
    run = next(run for run in suite.grid("information_flow", "small", seeds=1) if run["L"] == 2)
    result = made_up(run, mi=[[5.0], [7.3, 1.0]], totals=[5.0, 8.0])
    assert information_flow._steps([result], table).splitlines()[2:] == [
        "| 0     | 5.00 (1 run) [10.68 ± 0.19]  |                            | 5.00 (1 run) [10.68 ± 0.19] |",
        "| 1     | 7.30 (1 run) [7.22 ± 0.30] = | 1.00 (1 run) [5.94 ± 0.26] | 8.00 (1 run) [12.88 ± 0.20] |",
    ]


def test_the_page_leaves_out_tables_without_runs(made_up, tmp_path):
    runs = [run for run in suite.grid("information_flow", "small", seeds=1) if run["data"] == "mnist"]
    page = information_flow.report([made_up(run) for run in runs if run["model"] == "pro-VLAE"], tmp_path)
    titles = [line.split(":")[0] for line in page.splitlines() if line.startswith("## Table")]
    assert titles == ["## Table 6", "## Table 7", "## Table 8", "## Table 1"]
    assert "shapes3d" not in page
    assert "nan" not in page


def test_the_ablation_counts_successes(made_up, tmp_path):
    outcomes = {
        (0.0, 0): {"finite": False},
        (0.5, 0): {"peak_variance": 101.0},
        (0.0, 500): {"mi": [[5.0], [5.0, 2.0], [5.0, 0.05, 1.0]]},
        (0.5, 500): {"mi": [[5.0], [5.0, 2.0], [5.0, 0.5, 0.0]]},
    }
    results = [
        made_up(run, **(outcomes[run["gamma"], run["fade_in"]] if run["seed"] else {}))
        for run in suite.grid("ablation", "small", seeds=2)
    ]
    page = ablation.report(results, tmp_path)
    assert row(page, "our runs")[1:] == ["0.500 (1 of 2)", "0.500 (1 of 2)", "0.500 (1 of 2)", "1.000 (2 of 2)"]
    strict = row(page, "our runs, all grown rungs used")[1:]
    assert strict == [
        "0.500 (1 of 2)",
        "0.500 (1 of 2)",
        "0.500 (1 of 2)",
        "0.500 (1 of 2)",
    ]  # z_1 of the last holds 0.0
    assert row(page, "the paper (15 runs)")[1:] == ["0.000", "0.667", "0.733", "0.867"]
    assert ablation.DEFINITION in page
    for outcome in "not finite", "exploding variance", "grown rung not used":
        assert page.count(f"| {outcome}") == 1
    assert row(page, "no run succeeds without strategies")[1] == tables.DIFFERS
    assert row(page, "both together help most")[1] == tables.AGREES
    assert row(page, "each strategy helps")[1] == tables.UNDECIDED  # the success rates are equal


def test_a_kl_beyond_what_the_images_hold_is_a_failure(made_up, tmp_path):
    run = suite.grid("harsh_ablation", "small", seeds=1)[0]
    assert ablation.failure(made_up(run, kl=26.1)) == ""  # 2 ln 480,000 is 26.16
    assert ablation.failure(made_up(run, kl=26.2)) == "exploding KL"
    page = harsh_ablation.report([made_up(run, kl=1e6)], tmp_path)
    assert page.startswith(f"# {harsh_ablation.TITLE}")
    assert row(page, "our runs")[1] == "0.000 (0 of 1)"


@pytest.mark.parametrize(("data", "how"), [("shapes3d", "with"), ("dsprites", "without")])
def test_guidance_shows_scores_and_factors_of_every_model(made_up, tmp_path, data, how):
    results, factors = [], {"shapes3d": ["floor_hue (10)", "scale (8)"], "dsprites": ["shape (3)", "scale (6)"]}[data]
    for run in suite.grid("guidance", "small", seeds=2, data=(data,)):
        mig = 0.9 + 0.02 * run["seed"] if "recipe" in run else 0.3
        result = made_up(run, mig=mig, mig_sup=0.5, dci_disentanglement=0.7)
        result["stages"][-1]["normalized"] = [[0.1, 0.5, 0.2], [0.05, 0.0, mig]]
        results.append({**result, "card": {"about": {"factors": factors}}})
    page = guidance.report(results, tmp_path)
    rows = [line for line in page.splitlines() if re.match(rf"\| pro-VLAE, recipe {how} contours +\|", line)]
    scores, effects, *seeds = ([cell.strip() for cell in line.strip("|").split("|")] for line in rows)
    assert scores[1:4] == ["2", "1000.0 ± 0.0", "0.910 ± 0.014"]
    assert effects[1:] == ["0.50 (0.20)", "0.91 (0.05)"]
    assert ("MIG without the shape" in page) == (data == "dsprites")
    assert ("0.952" in page) == (data == "shapes3d")
    if data == "dsprites":
        assert scores[-1] == "0.860 ± 0.014"  # of scale: 0.91 - 0.05
    assert [(seed[1], seed[3], seed[-1]) for seed in seeds] == [("0", "0.900", "1"), ("1", "0.920", "1")]


def test_traversals_name_missing_models(made_up, tmp_path):
    results = [made_up(run) for run in suite.grid("traversals", "small", seeds=1)]
    page = traversals.report(results, tmp_path / "traversals")
    assert page.count("model not found") == 8  # figure 4 of three models, 6, 10 of three rungs, 7
    assert "figure 10" in page


@pytest.mark.parametrize(
    ("signs", "verdict"), [([1], "agrees"), ([0, 0, 1], "undecided"), ([-1, -1, 1], "differs"), ([], "undecided")]
)
def test_the_majority_of_comparisons_decides(signs, verdict):
    assert tables.majority(signs) == verdict


def test_only_a_difference_beyond_its_error_counts():
    assert tables.compared([0.5, 0.7], [0.45, 0.68]) == 0
    assert tables.compared([0.50, 0.51], [0.45, 0.46]) == 1
    assert tables.compared([0.9], [0.1]) == 0  # one run has no standard error
    assert tables.compared([], [0.4]) == 0


def test_traversals_list_the_scores_of_the_other_seeds(made_up, tmp_path):
    mnist = [run for run in suite.grid("traversals", "small", seeds=3) if run["data"] == "mnist"]
    results = [made_up(run, mi=[[1], [1, 1], [run["seed"] + 2, 1, 0.5]]) for run in mnist]
    page = traversals.report(results, tmp_path)
    assert row(page, "figure 6")[2:5] == [
        "0",
        "z_3 2.0 nats, z_2 1.0 nats, z_1 0.5 nats",
        "1: z_3 3.0 nats, z_2 1.0 nats, z_1 0.5 nats; 2: z_3 4.0 nats, z_2 1.0 nats, z_1 0.5 nats",
    ]
    assert "model not found" in row(page, "figure 6")[5]
