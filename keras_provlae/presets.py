"""The paper's settings as plain dicts, and recipes of our own.

`model` holds constructor arguments of `ProgressiveVAE`, `training` settings for `compile`, `fit` and `GrowthCallback`.
Sequences per rung start at rung 1. Where the authors' released program differs from the paper, these settings follow
the paper (the README lists the differences).

A recipe is one way to a higher score in less time than the paper's: `model` as above, `data` for the data set, and
`training`, where weights of the loss change (`callbacks.Annealing`). `recipes` turns it into a model and callbacks, and
`examples/ground_truths.py --recipe` runs it.
"""

import copy

_SMALL = {"channels": 32, "dense": 256, "activation": "elu"}
_TRAINING = {"learning_rate": 5e-4, "adam_epsilon": 1e-8, "fade_in_steps": 5000}  # section 3.3

PRESETS = {
    "mnist": {
        "description": "MNIST, 28 x 28 x 1, three rungs of 3 (tables 1 and 7, figure 6).",
        "model": {"image_shape": (28, 28, 1), "num_rungs": 3, "latent_dim": 3, "beta": 1.0, "gamma": 0.5, **_SMALL},
        # the paper gives no beta, batch size or epochs for MNIST: these are ours
        "training": {**_TRAINING, "epochs_per_rung": 25, "batch_size": 100},
    },
    "dsprites": {
        "description": "dSprites, 64 x 64 x 1, three rungs of 2.",
        "model": {"image_shape": (64, 64, 1), "num_rungs": 3, "latent_dim": 2, "beta": 1.0, "gamma": 0.5, **_SMALL},
        "training": {**_TRAINING, "epochs_per_rung": 30, "batch_size": 128},
    },
    "shapes3d": {
        "description": "3DShapes, 64 x 64 x 3, three rungs of 3 (figure 4, tables 1 and 3-5).",
        "model": {"image_shape": (64, 64, 3), "num_rungs": 3, "latent_dim": 3, "beta": 8.0, "gamma": 0.5, **_SMALL},
        "training": {**_TRAINING, "epochs_per_rung": 15, "batch_size": 100},
    },
    "celeb_a": {
        "description": "CelebA, 64 x 64 x 3, four rungs of 7 (figure 7).",
        "model": {
            "image_shape": (64, 64, 3),
            "num_rungs": 4,
            "latent_dim": 7,
            "beta": 1.0,
            "gamma": 0.1,
            "channels": (64, 128, 256, 512),
            "head_convs": (((64, 2), (64, 1)), ((128, 2), (256, 2)), ((256, 2), (512, 2)), ()),
            "head_dense": ((), (), (), (1024, 1024)),
            "map_dense": ((), (), (), (1024, 1024)),
            "decoder_convs": (((64, 2),), ((128, 2), (64, 1)), ((512, 1), (256, 2)), ()),
            "decoder_affine": (False, True, True, True),
            "activation": "leaky_relu",  # slope 0.2, the default of keras.activations.leaky_relu
        },
        "training": {**_TRAINING, "epochs_per_rung": 5, "batch_size": 128},
    },
}


RECIPES = {
    "shapes3d": {
        "preset": "shapes3d_32",
        "description": "3DShapes at 32 x 32. Stage 0: pressure through the total correlation parts the hues in the "
        "deepest rung. Stage 1: the next rung is cheap, so that it opens, and has to show the contours by itself, so "
        "that its codes mean the same under all hues. Stage 2: little pressure sharpens all codes.",
        "data": {"name": "shapes3d", "downscale": 2},
        "model": {
            "image_shape": (32, 32, 3),
            "num_rungs": 3,
            "latent_dim": 3,
            "beta": 2.0,  # that of 8 at 64 x 64, where a pixel weighs a quarter
            "gamma": 0.5,
            "tc_weight": 4.0,
            "contour_weight": 0.0,
            "dataset_size": 480_000,
            **_SMALL,
        },
        "training": {
            "batch_size": 100,
            "iterations": 12_000,
            "unlock_iterations": [3_000, 8_000],
            "fade_in_steps": 0,
            "annealing": {  # per stage; per rung, from rung 1
                "beta": {0: 2.0, 1: (0.5, 0.5, 2.0), 2: (2.0, 0.4, 0.4)},
                "tc_weight": {0: 4.0, 1: 1.0, 2: 2.0},
                "contour_weight": {0: 0.0, 1: 1.0, 2: 1.0},
            },
            "learning_rate": [(0, 1e-3), (8_000, 5e-4), (11_000, 2e-4)],  # from these steps on
            "adam_epsilon": 1e-8,
        },
    },
}


def preset(name: str) -> dict:
    """Returns the settings for a data set.

    Args:
        name: `"mnist"`, `"dsprites"`, `"shapes3d"` or `"celeb_a"`: the paper's; or `"shapes3d_32"`: a recipe's.

    Returns:
        A new dict with `description`, `model` and `training`.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.

    Example:
        >>> preset("shapes3d")["model"]["beta"]
        8.0

    Source: Li et al. (2020), section 4, and the authors' released program.
    """
    known = {recipe["preset"]: recipe for recipe in RECIPES.values()} | PRESETS
    if name not in known:
        raise ValueError(f"Unknown preset. Known: {', '.join(sorted(known))}. Received: {name!r}.")
    return copy.deepcopy(known[name])


def recipe(name: str) -> dict:
    """Returns a recipe for a data set.

    Args:
        name: `"shapes3d"`.

    Returns:
        A new dict with `preset` (the preset of its model), `description`, `data`, `model` and `training`.

    Raises:
        ValueError: If there is no such recipe; the message lists the known ones.

    Example:
        >>> recipe("shapes3d")["training"]["unlock_iterations"]
        [3000, 6000]
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe. Known: {', '.join(sorted(RECIPES))}. Received: {name!r}.")
    return copy.deepcopy(RECIPES[name])
