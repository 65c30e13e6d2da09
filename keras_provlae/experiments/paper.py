"""The paper's numbers, for comparison with ours."""

from typing import NamedTuple


class Table(NamedTuple):
    """I(x; z_l) of one architecture after each stage: a table of the paper."""

    name: str
    data: str
    L: int
    latent_dim: int
    steps: tuple  # per stage: (mean, standard deviation or None) of each I(x; z_l), deepest rung first
    totals: tuple  # per stage: (mean, standard deviation or None) of I(x; z)


# nats; appendix D, three runs each
FLOW_TABLES = (
    Table(
        "Table 3", "shapes3d", 2, 3,
        (((10.68, 0.19),), ((7.22, 0.30), (5.94, 0.26))),
        ((10.68, 0.19), (12.88, 0.20)),
    ),
    Table(
        "Table 4", "shapes3d", 3, 2,
        (((10.16, 0.13),), ((9.76, 0.05), (7.36, 0.10)), ((6.83, 1.37), (6.66, 0.17), (5.80, 0.41))),
        ((10.16, 0.13), (13.00, 0.02), (13.07, 0.02)),
    ),
    Table(
        "Table 5", "shapes3d", 4, 1,
        (
            ((4.89, 0.03),), ((4.77, 0.04), (3.55, 0.04)), ((4.66, 0.04), (3.75, 0.04), (2.70, 0.10)),
            ((4.55, 0.11), (3.53, 0.35), (2.80, 0.19), (2.17, 0.14)),
        ),
        ((4.89, 0.03), (8.14, 0.09), (10.67, 0.09), (11.72, 0.03)),
    ),
    Table(
        "Table 6", "mnist", 3, 1,
        (((5.86, 1.19),), ((3.62, 1.04), (4.64, 2.83)), ((3.88, 0.75), (4.99, 0.98), (2.37, 0.77))),
        ((5.86, 1.19), (7.62, 2.63), (8.25, 1.65)),
    ),
    Table(
        "Table 7", "mnist", 3, 3,
        (((10.08, 0.10),), ((9.97, 0.05), (8.03, 0.17)), ((9.91, 0.04), (8.09, 0.07), (6.27, 0.02))),
        ((10.08, 0.10), (11.01, 0.04), (11.02, 0.02)),
    ),
    Table(
        "Table 8", "mnist", 4, 3,
        (
            ((10.06, 0.22),), ((10.11, 0.06), (7.95, 0.08)), ((10.06, 0.08), (8.1, 0.04), (6.39, 0.12)),
            ((9.99, 0.09), (8.11, 0.03), (6.45, 0.15), (3.52, 0.07)),
        ),
        ((10.06, 0.22), (10.98, 0.02), (10.98, 0.06), (11.03, 0.03)),
    ),
)  # fmt: skip

# Figure 5 and section 4: one model, so no standard deviation
FIGURE_5 = Table(
    "Figure 5", "shapes3d", 3, 3,
    (((10.59, None),), ((6.94, None), (5.98, None)), ((6.94, None), (6.07, None), (0.00, None))),
    ((10.61, None), (12.84, None), (13.02, None)),
)  # fmt: skip

# Table 1: (I(x; z_3), I(x; z_2), I(x; z_1), I(x; z)) in nats, from one model each
TABLE_1 = {
    ("shapes3d", "VLAE"): (4.41, 4.69, 5.01, 12.75),
    ("shapes3d", "pro-VLAE"): (6.94, 6.07, 0.00, 13.02),
    ("mnist", "VLAE"): (8.28, 8.89, 7.86, 11.04),
    ("mnist", "pro-VLAE"): (9.83, 8.24, 6.28, 10.93),
}

# Table 2: success rates over 15 experiments, by (gamma penalty, fade-in)
SUCCESS = {(False, False): 0.0, (True, False): 0.667, (False, True): 0.733, (True, True): 0.867}
STRATEGIES = {
    (False, False): "no strategies",
    (True, False): "pre-trained KL only",
    (False, True): "fade-in only",
    (True, True): "both",
}

# Figure 9: the best model on 3DShapes
BEST_SCORES = {"mig": 0.9524, "mig_sup": 0.9488, "factor_vae_score": 0.9975}
