"""The pages of the four experiments, of results that are made up: what they must say is known."""

import re

import pytest

from keras_provlae.experiments import ablation, comparison, information_flow, paper, suite, tables, traversals


def row(page, start):
    """The cells of the line of a table that begins with these."""
    lines = [line for line in page.splitlines() if re.match(rf"\| {re.escape(start)}\s*\|", line)]
    assert len(lines) == 1, lines
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


SCORES = {  # (model, beta): MIG of three seeds
    ("pro-VLAE", 1): (0.2, 0.3, 0.25), ("pro-VLAE", 4): (0.6, 0.7, 0.65), ("pro-VLAE", 8): (0.1, 0.9, 0.5),
    ("VLAE", 1): (0.1, 0.12, 0.11), ("VLAE", 4): (0.3, 0.32, 0.31), ("VLAE", 8): (0.5, 0.5, 0.5),
    ("beta-VAE", 1): (0.3, 0.32, 0.31), ("beta-VAE", 4): (0.4, 0.42, 0.41), ("beta-VAE", 8): (0.1, 0.1, 0.1),
    ("teacher-student", 1): (0.05, 0.06, 0.07),
}  # fmt: skip


@pytest.fixture
def compared(made_up, tmp_path):
    results = []
    for run in suite.grid("comparison", "small", seeds=3):
        mig = SCORES[run["model"], run["beta"]][run["seed"]]
        results.append(made_up(run, mig=mig, mig_sup=mig, factor_vae_score=mig))
    return comparison.report(results, tmp_path), tmp_path


def test_the_comparison_shows_means_beside_the_papers_and_every_seed(compared):
    page, folder = compared
    cells = next(line for line in page.splitlines() if re.match(r"\| pro-VLAE\s*\| 8 ", line))
    assert "0.500 (0.500 ± 0.400)" in cells
    assert "0.952" in row(page, "the paper's best model (figure 9)")
    assert sum("shapes3d L 3 x 3 beta" in line for line in page.splitlines()) == 30
    assert "a procedural twin, not the original" in page
    assert "4,500 iterations" in page
    assert "32 x 32 pixels" in page
    for name in re.findall(r"\]\((.*?\.png)\)", page):
        assert (folder / name).stat().st_size > 10_000


def test_the_comparison_marks_what_agrees(compared):
    page, _ = compared
    assert row(page, "VLAE above beta-VAE in MIG at most values of beta")[1] == tables.DIFFERS  # below it at 1 and 4
    assert row(page, "pro-VLAE above VLAE in MIG at most values of beta")[1] == tables.AGREES  # at 1 and 4
    assert (
        row(page, "pro-VLAE above beta-VAE in MIG at most values of beta")[1] == tables.UNDECIDED
    )  # at 4; at 8 it varies
    assert row(page, "pro-VLAE is the best in MIG and MIG-sup together")[1:] == [
        tables.AGREES, "pro-VLAE at beta 4 1.30, VLAE at beta 8 1.00"
    ]  # fmt: skip
    assert row(page, "pro-VLAE is among the top in the FactorVAE score")[1] == tables.AGREES
    assert row(page, "teacher-student is low to moderate")[1] == tables.AGREES
    assert tables.RULE in page


def test_the_comparison_decides_nothing_from_one_seed_or_one_model(made_up, tmp_path):
    results = [made_up(run, mig=0.1 + run["beta"] / 10) for run in suite.grid("comparison", "small", seeds=1)]
    page = comparison.report(results, tmp_path)
    assert not re.search(r"\| (agrees|differs) ", page)
    alone = comparison.report([result for result in results if result["run"]["model"] == "VLAE"], tmp_path)
    assert not re.search(r"\| (agrees|differs) ", alone)


def test_runs_that_were_not_finite_are_named_and_in_no_mean(made_up, tmp_path):
    results = [made_up(run) for run in suite.grid("comparison", "small", seeds=2)]
    for result in results:
        if result["run"]["seed"] == 1:
            result |= {"finite": False, "stopped_at": 150, "stages": []}
            del result["scores"], result["reconstruction"]
    for experiment in comparison, information_flow, traversals:
        page = experiment.report(results, tmp_path / "page")
        assert "The loss of 10 runs was not finite" in page
        assert "beta-VAE shapes3d L 3 x 3 beta 8 seed 1 (after 150 steps)" in page
    assert "The loss of 20 runs was not" not in page
    nothing = [result for result in results if not result["finite"]]
    for experiment in comparison, information_flow, traversals:
        assert "10 runs was not finite" in experiment.report(nothing, tmp_path / "page")


def test_a_point_is_the_mean_of_the_best_three(made_up, tmp_path):
    results = [
        made_up(run, mig=[0.1, 0.5, 0.6, 0.7][run["seed"]])
        for run in suite.grid("comparison", "smoke", seeds=4)
        if run["model"] == "pro-VLAE"
    ]
    page = comparison.report(results, tmp_path)
    assert "0.600 (0.475 ± 0.263)" in page


def flow_results(made_up):
    """Growing models give exactly the paper's means; VLAE spreads the information the other way round."""
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


def test_the_information_flow_stands_beside_the_papers_tables(made_up, tmp_path):
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
    assert verdicts["shapes3d, L = 3, z = 2: descending from deep to shallow"] == tables.AGREES
    assert (
        verdicts["mnist, L = 3, z = 1: descending from deep to shallow"] == tables.DIFFERS
    )  # 3.88 < 4.99 in the paper
    assert verdicts["shapes3d, L = 2, z = 3: information moves out of z_2"] == tables.AGREES
    assert verdicts["shapes3d, L = 2, z = 3: the total rises with the growth"] == tables.AGREES
    student = [
        verdict
        for claim, verdict in verdicts.items()
        if claim.startswith(("teacher-student moves", "teacher-student has"))
    ]
    assert student == [tables.AGREES, tables.AGREES]


def test_the_papers_numbers_are_the_papers():
    assert paper.SUCCESS == {(False, False): 0.0, (True, False): 0.667, (False, True): 0.733, (True, True): 0.867}
    assert paper.TABLE_1["shapes3d", "VLAE"] == (4.41, 4.69, 5.01, 12.75)
    assert paper.TABLE_1["mnist", "pro-VLAE"] == (9.83, 8.24, 6.28, 10.93)
    tables_by_name = {table.name: table for table in paper.FLOW_TABLES}
    assert tables_by_name["Table 8"].steps[-1] == ((9.99, 0.09), (8.11, 0.03), (6.45, 0.15), (3.52, 0.07))
    assert tables_by_name["Table 6"].totals == ((5.86, 1.19), (7.62, 2.63), (8.25, 1.65))
    for table in paper.FLOW_TABLES:
        assert [len(step) for step in table.steps] == list(range(1, table.L + 1))


def test_values_that_are_off_are_not_marked(made_up):
    table = paper.FLOW_TABLES[0]
    run = next(run for run in suite.grid("information_flow", "small", seeds=1) if run["L"] == 2)
    result = made_up(run, mi=[[5.0], [7.3, 1.0]], totals=[5.0, 8.0])
    assert information_flow._steps([result], table).splitlines()[2:] == [
        "| 0    | 5.00 (1 run) [10.68 ± 0.19]  |                            | 5.00 (1 run) [10.68 ± 0.19] |",
        "| 1    | 7.30 (1 run) [7.22 ± 0.30] = | 1.00 (1 run) [5.94 ± 0.26] | 8.00 (1 run) [12.88 ± 0.20] |",
    ]


def test_the_ablation_counts_successes_by_its_definition(made_up, tmp_path):
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
    assert row(page, "here")[1:] == ["0.500 (1 of 2)", "0.500 (1 of 2)", "0.500 (1 of 2)", "1.000 (2 of 2)"]
    strict = row(page, "here, all grown rungs used")[1:]
    assert strict == ["0.500 (1 of 2)", "0.500 (1 of 2)", "0.500 (1 of 2)", "0.500 (1 of 2)"]  # z_1 of the last: 0.0
    assert row(page, "the paper, of 15")[1:] == ["0.000", "0.667", "0.733", "0.867"]
    assert ablation.DEFINITION in page
    for outcome in "not finite", "exploding variance", "grown rung not used":
        assert page.count(f"| {outcome}") == 1
    assert row(page, "without strategies no training succeeds")[1] == tables.DIFFERS
    assert row(page, "both together help most")[1] == tables.AGREES
    assert row(page, "each strategy helps")[1] == tables.UNDECIDED  # as many succeed without


def test_traversals_name_the_models_that_are_not_at_hand(made_up, tmp_path):
    results = [made_up(run) for run in suite.grid("traversals", "small", seeds=1)]
    page = traversals.report(results, tmp_path / "traversals")
    assert page.count("its model is not at hand") == 8  # figure 4 of three models, 6, 10 of three rungs, 7
    assert "figure 10" in page


@pytest.mark.parametrize(
    ("signs", "verdict"), [([1], "agrees"), ([0, 0, 1], "undecided"), ([-1, -1, 1], "differs"), ([], "undecided")]
)
def test_the_verdict_of_many_comparisons(signs, verdict):
    assert tables.majority(signs) == verdict


def test_a_difference_within_its_error_decides_nothing():
    assert tables.compared([0.5, 0.7], [0.45, 0.68]) == 0
    assert tables.compared([0.50, 0.51], [0.45, 0.46]) == 1
    assert tables.compared([0.9], [0.1]) == 0  # one run has no error
    assert tables.compared([], [0.4]) == 0


def test_what_is_drawn_of_one_seed_is_said_of_all(made_up, tmp_path):
    drawn_of = [run for run in suite.grid("traversals", "small", seeds=3) if run["data"] == "mnist"]
    results = [made_up(run, mi=[[1], [1, 1], [run["seed"] + 2, 1, 0.5]]) for run in drawn_of]
    page = traversals.report(results, tmp_path)
    assert row(page, "figure 6")[2:5] == [
        "0",
        "z_3 2.0 nats, z_2 1.0 nats, z_1 0.5 nats",
        "1: z_3 3.0 nats, z_2 1.0 nats, z_1 0.5 nats; 2: z_3 4.0 nats, z_2 1.0 nats, z_1 0.5 nats",
    ]
    assert "its model is not at hand" in row(page, "figure 6")[5]
