"""The paper's settings as plain dicts, and recipes of our own.

`model` holds constructor arguments of `ProgressiveVAE`, `training` settings for `compile`, `fit` and `GrowthCallback`.
Sequences per rung start at rung 1. Where the authors' released program differs from the paper, these settings follow
the paper (docs/method/paper-to-code.md lists the differences).

A recipe is one way to a higher score in less time than the paper's: `model` as above, `data` for the data set, and
`training`, where weights of the loss change (`callbacks.Annealing`). `recipes` turns it into a model and callbacks, and
`examples/ground_truths.py --recipe` runs it.
"""

import copy
from typing import Any

_SMALL = {"channels": 32, "dense": 256, "activation": "elu"}
_TRAINING = {"learning_rate": 5e-4, "adam_epsilon": 1e-8, "fade_in_steps": 5000}  # section 3.3

PRESETS: dict[str, dict[str, Any]] = {
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


RECIPES: dict[str, dict[str, Any]] = {
    "shapes3d": {
        "preset": "shapes3d_32",
        "description": "3DShapes at 32 x 32. Stage 0: pressure through the total correlation parts the hues in the "
        "deepest rung. Stage 1: the next rung has to show the contours by itself, so that its codes mean the same "
        "under all hues, and more of the same pressure parts scale and shape. Stage 2: low pressure sharpens all.",
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
            "iterations": 16_000,
            "unlock_iterations": [3_000, 11_000],
            "fade_in_steps": 0,
            "annealing": {  # per stage; per rung, from rung 1
                "beta": {0: 2.0, 1: (2.0, 1.0, 2.0), 2: (2.0, 0.3, 0.3)},
                "tc_weight": {
                    0: 4.0,
                    1: [(0, 4.0), (500, 4.0), (1_000, 12.0)],
                    2: [(0, 12.0), (500, 3.0), (2_000, 2.0), (4_000, 0.5)],
                },
                "contour_weight": {0: 0.0, 1: 1.0, 2: 1.0},
            },
            "learning_rate": [(0, 1e-3), (11_000, 5e-4), (14_000, 2e-4)],  # from these steps on
            "adam_epsilon": 1e-8,
        },
    },
    "dsprites": {
        "preset": "dsprites_32",
        "description": "dSprites at 32 x 32. Stage 0: pressure through the total correlation gives x and y a latent "
        "each in the deepest rung. Stage 1: the next rung, cheaper, takes the scale. Stage 2: low pressure sharpens.",
        "data": {"name": "dsprites", "downscale": 2},
        "model": {
            "image_shape": (32, 32, 1),
            "num_rungs": 3,
            "latent_dim": 2,
            "beta": 0.5,
            "gamma": 0.5,
            "tc_weight": 1.5,
            "dataset_size": 737_280,
            **_SMALL,
        },
        "training": {
            "batch_size": 100,
            "iterations": 12_000,
            "unlock_iterations": [4_000, 8_000],
            "fade_in_steps": 0,
            "annealing": {  # per stage; per rung, from rung 1
                "beta": {0: 0.5, 1: (0.25, 0.25, 0.5), 2: (0.5, 0.02, 0.02)},
                "tc_weight": {0: 1.5, 1: 1.0, 2: [(0, 0.5), (2_000, 0.1)]},
            },
            "learning_rate": [(0, 1e-3), (8_000, 5e-4), (11_000, 2e-4)],  # from these steps on
            "adam_epsilon": 1e-8,
        },
    },
    "mnist": {
        "preset": "mnist",
        "description": "MNIST at 28 x 28: the paper's own training, 15,000 steps a stage, on its own numbers.",
        "data": {"name": "mnist", "downscale": 1},
        "model": PRESETS["mnist"]["model"],
        "training": {
            "batch_size": 100,
            "iterations": 45_000,
            "unlock_iterations": [15_000, 30_000],
            "fade_in_steps": 5_000,
            "annealing": {},
            "learning_rate": 5e-4,
            "adam_epsilon": 1e-8,
        },
    },
}


def preset(name: str) -> dict:
    """Returns the settings for a data set.

    Args:
        name: `"mnist"`, `"dsprites"`, `"shapes3d"` or `"celeb_a"`: the paper's; `"shapes3d_32"`,
            `"shapes3d_64"` or `"dsprites_32"`: a recipe's.

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


def recipe(name: str, size: int | None = None, iterations: int | None = None) -> dict:
    """Returns a recipe for a data set.

    Args:
        name: `"shapes3d"`, `"shapes3d_64"`, `"dsprites"` or `"mnist"`.
        size: Int. Height and width of the images in pixels, if not the recipe's: it divides the data set's own. The
            weights of the KL and of the total correlation grow with the number of pixels, as the reconstruction does,
            and that of the contours with its root.
        iterations: Int. Optimizer steps of the whole training, if not the recipe's: unlocks, annealing and learning
            rate move with it.

    Returns:
        A new dict with `preset` (the preset of its model), `description`, `data`, `model` and `training`.

    Raises:
        ValueError: If there is no such recipe (the message lists the known ones), or a number does not fit it.

    Example:
        >>> recipe("shapes3d", size=64)["model"]["beta"]
        8.0
    """
    if name not in RECIPES:
        raise ValueError(f"Unknown recipe. Known: {', '.join(sorted(RECIPES))}. Received: {name!r}.")
    made = copy.deepcopy(RECIPES[name])
    if size is not None:
        _resize(made, size)
    if iterations is not None:
        _stretch(made, iterations)
    return made


def _resize(recipe, size):
    """Changes the size of the images, and with it the weights that stand against the sum over the pixels."""
    model, annealing = recipe["model"], recipe["training"]["annealing"]
    old, whole = model["image_shape"][0], model["image_shape"][0] * recipe["data"]["downscale"]
    if size < 1 or whole % size:
        raise ValueError(f"`size` must divide {whole}. Received: size={size}.")
    recipe["data"]["downscale"], model["image_shape"] = whole // size, (size, size, model["image_shape"][-1])
    pixels = (size / old) ** 2
    # the contours of an image grow with its side
    times = {"beta": pixels, "gamma": pixels, "tc_weight": pixels, "contour_weight": pixels**0.5}
    for weight in times.keys() & set(model):
        model[weight] *= times[weight]
        stages = annealing.get(weight, {})
        stages.update({stage: _changed(values, value=times[weight]) for stage, values in stages.items()})


def _stretch(recipe, iterations):
    """Changes the length of the training, and with it every step at which something happens."""
    training = recipe["training"]
    times = iterations / training["iterations"]
    training["iterations"] = iterations
    training["unlock_iterations"] = [round(step * times) for step in training["unlock_iterations"]]
    training["fade_in_steps"] = round(training["fade_in_steps"] * times)
    if not isinstance(training["learning_rate"], float):
        training["learning_rate"] = _changed(training["learning_rate"], step=times)
    for stages in training["annealing"].values():
        stages.update({stage: _changed(values, step=times) for stage, values in stages.items()})
    if not 0 < training["unlock_iterations"][0] < training["unlock_iterations"][-1] < iterations:
        raise ValueError(f"`iterations` must leave steps for every stage. Received: iterations={iterations}.")


def _changed(values, value=1.0, step=1.0):
    """Multiplies a weight: one number, one per rung, or a list of points (step, weight), the last of each step."""
    if isinstance(values, list):
        return list({round(at * step): _changed(weight, value) for at, weight in values}.items())
    return tuple(weight * value for weight in values) if isinstance(values, tuple) else values * value


def _larger_shapes3d():
    """The recipe of 3DShapes at the paper's size, with what it needs beside larger weights."""
    made = recipe("shapes3d", size=64)
    made["preset"] = "shapes3d_64"
    made["description"] = (
        "3DShapes at 64 x 64: the recipe of 32 x 32 with a fade-in, without which rung 2 stays empty or the KL "
        "explodes. Narrower dense layers at rungs 1 and 2 make it a quarter of the paper's network."
    )
    widths = ((32,), (128,), (256,))
    made["model"] |= {"head_dense": widths, "map_dense": widths}
    made["training"]["fade_in_steps"] = 500
    made["training"]["annealing"]["beta"][1] = [
        (step, (8.0, rung_2, 8.0)) for step, rung_2 in ((0, 2.0), (1_000, 2.0), (2_000, 4.0))
    ]
    return made


RECIPES["shapes3d_64"] = _larger_shapes3d()
