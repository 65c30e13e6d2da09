"""SavedModels in the layout that TensorFlow Serving watches: `<name>/<version>/`."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_provlae.export.metadata import describe, is_grown, is_version, version_folders, write_metadata
from keras_provlae.export.tensorflow_process import in_tensorflow

EXAMPLES_FILE = Path("assets.extra") / "example_images.npy"


def export_savedmodel(
    model: keras.Model,
    path: str | os.PathLike,
    version: int | None = None,
    overwrite: bool = False,
    require_grown: bool = False,
    example_images: Any = None,
) -> Path:
    """Writes a model as a SavedModel that TensorFlow, TensorFlow Serving and their bindings run without this package.

    All signatures have a dynamic batch. Codes are `(batch, latents)` with the deepest rung's columns first;
    images come out as float32 `(batch, height, width, channels)` in [0, 1], named `images`:

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default`, `reconstruct` | `images` | `images` |
    | `encode` | `images` | `mean`, `log_var`; `mean_rung_l`, `log_var_rung_l` of every rung l |
    | `decode` | `codes` | `images` |
    | `sample` | `n`, `seed` | `images`: those of `model.sample(n, seed=seed)` on TensorFlow |
    | `sample_rung` | `images`, `rung`, `n`, `seed` | `images`: n of the first image, n of the second, ... |
    | `swap_rung` | `images`, `others`, `rung` | `images` with the rung of `others` |
    | `traverse` | `images`, `latent` (a column), `values` | `images`: all values of the first image, ... |
    | `encode_image_bytes` | `image_bytes` | as `encode` |
    | `reconstruct_image_bytes` | `image_bytes` | `images` |

    Images that enter are float32 in [0, 1]; the signatures `<name>_uint8` take uint8. `n`, `seed`, `rung` and
    `latent` are int32 scalars. Values out of range are errors of the graph that say the rule.

    `image_bytes` are strings `(batch,)`, each a whole PNG or JPEG file of any size up to 2 ** 25 pixels, gray or color;
    models of images with 1 or 3 channels take them. As by `image_folder`, the largest part in the middle with
    the proportions of the model's images is resized to their size, so the sides of other proportions are lost. What is
    transparent lies over white. An item that is no such file is an error with its number in the batch, from 0.

    Args:
        model: A `LadderVAE`, growing or grown; what is exported is its present stage.
        path: Folder of the model, which holds its versions, such as `"served/mnist"`; or the folder of one
            version, `"served/mnist/1"`.
        version: Int, 0 .. 2 ** 63 - 1. By default the next free number: 1, or the highest that is there plus one.
        overwrite: Whether an existing version is replaced. It is served on by servers that have loaded it.
        require_grown: Whether to refuse a model with a rung that is locked or still fading in.
        example_images: `None`, or an array of images, float in [0, 1] or uint8, that are stored with the
            export, as uint8, and shown by the latent explorer of `examples/serve.py` (the first 24).

    Returns:
        Path of the version's folder, which appears only when it is complete.

    Raises:
        TypeError: If `model` is not a `LadderVAE`, `version` not an integer or `example_images` not such an array.
        ValueError: If the model is not grown and `require_grown` is set, if `version` is out of range or
            another one than in `path`, or if `example_images` do not fit the model.
        FileExistsError: If the version exists and `overwrite` is not set.
        RuntimeError: On the JAX and PyTorch backends, if the TensorFlow process that does the work fails.

    Example:
        >>> import keras_provlae as kp
        >>> model = kp.ProgressiveVAE((8, 8, 1), num_rungs=2, latent_dim=3, channels=4, dense=8)
        >>> export_savedmodel(model, "served/digits", require_grown=True)
        Traceback (most recent call last):
        ...
        ValueError: The model is still growing: stage 0 of 0 .. 1, alpha 1. Train it on, or export it as it is ...

    Source: Li et al. (2020), figures 4 to 7: what `traverse`, `sample_rung` and `swap_rung` draw.
    """
    check_model(model)
    folder, version = _destination(Path(path).expanduser(), version)
    if require_grown and not is_grown(model):
        raise ValueError(
            f"The model is still growing: stage {model.stage} of 0 .. {model.num_rungs - 1}, alpha {model.alpha:g}. "
            "Train it on, or export it as it is without `require_grown=True`."
        )
    if version is not None and not overwrite:
        _refuse_existing(folder, version)
    examples = None if example_images is None else _as_uint8(example_images, model)
    folder.mkdir(parents=True, exist_ok=True)
    # a name that is no number: servers that watch the folder do not look at it
    temporary = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder))
    try:
        write_savedmodel(model, temporary / "export")
        if examples is not None:
            np.save(temporary / "export" / EXAMPLES_FILE, examples)
        return _publish(temporary / "export", folder, version, overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_savedmodel(model: keras.Model, folder: str | Path) -> None:
    """Writes signatures and metadata into a folder; on JAX and PyTorch by a process that runs TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        in_tensorflow("keras_provlae.export.savedmodel:write_savedmodel", model, folder)
        return
    import tensorflow as tf

    from keras_provlae.export.signatures import described, traced_signatures

    module, signatures = traced_signatures(model)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    write_metadata({**describe(model), "signatures": described(signatures)}, Path(folder))


def check_model(model: Any) -> None:
    """Raises a `TypeError` for what is not a `LadderVAE`."""
    if not hasattr(model, "rung_slices"):
        raise TypeError(f"`model` must be a LadderVAE, such as ProgressiveVAE. Received: {type(model).__name__}.")


def _destination(path, version):
    """The folder of the model, and the version that was asked for, or `None`."""
    if not path.name:
        raise ValueError(f"`path` must name a folder for the model, such as 'served/mnist'. Received: path={path}.")
    if version is not None and (not hasattr(version, "__index__") or isinstance(version, bool)):
        raise TypeError(f"`version` must be an integer. Received: version={version!r}.")
    if is_version(path.name):
        if path.name != str(int(path.name)):
            raise ValueError(f"`path` must end with a version without leading zeros. Received: path={path}.")
        if version not in (None, int(path.name)):
            raise ValueError(
                f"`path` ends with another version than `version`. Received: path={path}, version={version}."
            )
        path, version = path.parent, int(path.name)
    if version is not None and not 0 <= version < 2**63:
        raise ValueError(f"`version` must not be negative, and below 2 ** 63. Received: version={version}.")
    return path, version


def _refuse_existing(folder, version):
    if (existing := version_folders(folder).get(version)) is not None:
        raise FileExistsError(
            f"{existing} exists. Leave out the version to get the next free one, or pass `overwrite=True`."
        )


def _publish(export, folder, version, overwrite):
    """Moves a complete export to its version, in one step."""
    while version is None:
        target = folder / str(max(version_folders(folder), default=0) + 1)
        try:
            return export.rename(target)
        except OSError:
            if not os.path.lexists(target):  # else somebody was faster
                raise
    if not overwrite:
        _refuse_existing(folder, version)
    target = version_folders(folder).get(version, folder / str(version))
    return _replace(target, export) if os.path.lexists(target) else export.rename(target)


def _replace(target, export):
    """As `export.rename(target)`, where something is; if that fails it is put back."""
    replaced = target.with_name(f".replaced-{target.name}-{export.parent.name}")
    target.rename(replaced)
    try:
        export.rename(target)
    except BaseException:
        replaced.rename(target)
        raise
    if replaced.is_symlink() or replaced.is_file():
        replaced.unlink()
    else:
        shutil.rmtree(replaced, ignore_errors=True)
    return target


def _as_uint8(images, model):
    if not hasattr(images, "shape") or len(images.shape) == 0 or images.shape[0] == 0:
        raise TypeError(
            f"`example_images` must be an array of at least one image, {('batch', *model.image_shape)}, float in "
            f"[0, 1] or uint8. Received: {type(images).__name__}. Of a data set take `next(iter(ds))`."
        )
    images = np.asarray(images)
    floats = images if images.dtype != np.uint8 else images.astype("float32") / 255
    model.encode(floats)  # raises a clear error for images that do not fit
    return np.ascontiguousarray(np.rint(floats * 255).astype("uint8"))
