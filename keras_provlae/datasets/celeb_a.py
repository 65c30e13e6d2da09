"""CelebA: 202,599 faces with 40 attributes, cropped as in the authors' code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_provlae.checks import check_count
from keras_provlae.datasets.availability import keras_datasets, tfds_is_prepared
from keras_provlae.datasets.checks import checked_shard, chosen_seed
from keras_provlae.datasets.folder_files import find_images, shown, walk
from keras_provlae.datasets.image_files import (
    Decoding,
    center_square,
    check_on_bad_image,
    good_images,
    load_images,
    resize,
)
from keras_provlae.datasets.index_batches import index_batches
from keras_provlae.lazy_tensorflow import check_tensorflow, tensorflow_datasets, tf
from keras_provlae.messages import say

_LISTS = (".txt", ".csv")
_SPLITS = ("train", "validation", "test")  # 0, 1 and 2 in list_eval_partition
_ALIGNED = (218, 178)  # height and width of the official files
_TOP, _BOTTOM, _LEFT, _RIGHT = 45, 193, 15, 163  # the authors' crop box
_FOLDERS = ("img_align_celeba", "img_align_celeba_png", "img_celeba")  # published releases; the first one found is used
_TFDS_BUFFER = 10_000  # shuffle buffer, images: tfds reads its records in order
_HELD_OUT = 10  # without a partition list, every tenth image is in the test split
HOW_TO_GET = (
    "Download img_align_celeba.zip (and list_attr_celeba.txt, list_eval_partition.txt) from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack it and pass the folder as `source`, or move it to "
    "{folder}. Or prepare it with `tfds build celeb_a`, whose download often fails (the host has a daily quota)."
)


def celeb_a(
    split: str = "train",
    batch_size: int = 128,
    source: str | os.PathLike = "auto",
    image_size: int = 64,
    with_attributes: bool = False,
    seed: int | None = None,
    on_bad_image: str = "error",
    drop_remainder: bool = False,
    shard: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Loads faces as float32 in [0, 1], cropped to a square around the face and resized.

    Crops the aligned 178 x 218 images to left 15, upper 45, right 163, lower 193, as the authors do; crops other sizes
    to the largest centered square.

    Args:
        split: `"train"`, `"validation"` or `"test"`. The training split is reshuffled every epoch; the others keep
            their order. Folders are split by their `list_eval_partition.txt` (or .csv). Without one, every tenth
            image is `"test"`, the rest `"train"`, and a printed line says so.
        batch_size: Int >= 1. Images per batch, of all processes together; the last may be smaller.
        source: Where the images come from:
            `"auto"`: `"tfds"` if it is prepared, else the folder `~/.keras/datasets/img_align_celeba`.
            `"tfds"`: data prepared by tensorflow-datasets. `"train"` uses a shuffle buffer of 10,000 images.
            A path: a folder of image files at any depth, read like `image_folder`. If it contains several published
            releases, the aligned one is used, and a printed line says so. Files are matched to the lists by stem:
            `000001.png` is listed as `000001.jpg`.
        image_size: Int >= 1. Height and width, pixels.
        with_attributes: Bool. Yields `(images, attributes)`; a folder needs `list_attr_celeba.txt` (or .csv) in it
            or beside it. `celeb_a_attributes` returns the column names.
        seed: Int or `None`. The same seed gives the same order.
        on_bad_image: As in `image_folder`; ignored for `"tfds"`.
        drop_remainder: As in `image_folder`.
        shard: As in `image_folder`; for folders only.

    Returns:
        A `tf.data.Dataset` of float32 `(batch, image_size, image_size, 3)`; with attributes also int64 `(batch, 40)`,
        0 or 1.

    Raises:
        FileNotFoundError: If a list is missing, or there are no images; the message says how to get them.
        TypeError, ValueError: If an argument is invalid, a list is corrupt or has one line for two files, the split
            is empty, or `shard` is given for `"tfds"`.

    Source: Liu et al. (2015); crop from the released code of Li et al. (2020).
    """
    check_tensorflow("`datasets.celeb_a`")
    if split not in _SPLITS:
        raise ValueError(f"`split` must be one of {_SPLITS}. Received: split={split!r}.")
    check_count("batch_size", batch_size)
    check_count("image_size", image_size)
    check_on_bad_image(on_bad_image)
    _, shards = checked_shard(shard, batch_size)
    seed = chosen_seed(seed, shard)
    source = _found(os.fspath(source))
    if source == "tfds" and shard is not None:
        raise ValueError(f"`shard` needs a folder of images as `source`. Received: {source=}, {shard=}.")
    if source == "tfds":
        ds = _from_tfds(split, image_size, seed)
        steps = int(ds.batch(batch_size, drop_remainder=drop_remainder).cardinality())
    else:
        order = {"batch_size": batch_size, "seed": seed, "drop_remainder": drop_remainder, "shard": shard}
        ds, steps = _from_folder(Path(source), split, image_size, with_attributes, on_bad_image, order)
    if not with_attributes:
        ds = ds.map(lambda image, attributes: image)
    ds = ds.batch(batch_size // shards, drop_remainder=drop_remainder)
    return ds.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def celeb_a_attributes(source: str | os.PathLike = "auto") -> tuple[str, ...]:
    """Returns the attribute names, in the column order of `celeb_a(with_attributes=True)`.

    Args:
        source: As in `celeb_a`.

    Returns:
        A tuple of names, `("5_o_Clock_Shadow", "Arched_Eyebrows", ...)`.

    Raises:
        FileNotFoundError: If the images or the attribute list are missing.
        ValueError: If the list is corrupt.
    """
    source = _found(os.fspath(source))
    if source == "tfds":
        tfds = tensorflow_datasets("`datasets.celeb_a_attributes(source='tfds')`")
        return tuple(sorted(tfds.builder("celeb_a").info.features["attributes"]))
    return read_list(_find_list(Path(source), "list_attr_celeba"))[0]


def read_list(path: str | os.PathLike) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Reads one of CelebA's lists, attributes or partition, as txt or csv.

    Args:
        path: Path of the list. txt: a line with the number of images, a line of column names (the partition has
            neither), then a line `000001.jpg -1 1 ...` per image. csv: a header, then `000001.jpg,-1,1,...`.

    Returns:
        `(names, {file name: int64 array})`.

    Raises:
        ValueError: If a line is malformed; the message gives the path and line number.
    """
    path = Path(path)
    separator = "," if path.suffix.lower() == ".csv" else None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a text file. Received: {error}.") from None
    lines = [line.replace('"', "").split(separator) for line in text.splitlines() if line.strip()]
    names, first = (), 0
    if separator and lines:
        names, first = tuple(lines[0][1:]), 1
    elif len(lines) > 1 and len(lines[0]) == 1:
        names, first = tuple(lines[1]), 2
    rows: dict[str, Any] = {}
    width = len(names) or len(lines[first]) - 1 if len(lines) > first else 0
    for number, (name, *values) in enumerate(lines[first:], first + 1):
        try:
            rows[name] = np.array(values, "int64")
        except ValueError:
            rows[name] = None
        if not width or rows[name] is None or len(values) != width:
            raise ValueError(
                f"{path}, line {number} must have a file name and {width} integers. Received: {name} {values}."
            )
    if not rows:
        raise ValueError(f"{path} must list at least one image. Received: none.")
    return names, rows


def _found(source):
    folder = keras_datasets() / "img_align_celeba"
    if source == "auto":
        source = "tfds" if tfds_is_prepared("celeb_a") else str(folder)
        if source != "tfds" and not folder.is_dir():
            raise FileNotFoundError(f"No CelebA images found. {HOW_TO_GET.format(folder=folder)}")
    elif source == "tfds" and not tfds_is_prepared("celeb_a"):
        raise FileNotFoundError(f"tensorflow-datasets has not prepared celeb_a. {HOW_TO_GET.format(folder=folder)}")
    return source if source == "tfds" else os.path.expanduser(source)


def _from_folder(folder, split, image_size, with_attributes, on_bad_image, order):
    """Returns a data set of (image, attributes) and its number of batches."""
    paths = find_images(folder, on_bad_image, uncounted=_LISTS)
    paths = good_images(_of_split(folder, _of_one_release(folder, paths), split), Decoding(), on_bad_image)
    attributes = tf.zeros((len(paths), 0), tf.int64)
    if with_attributes:
        path = _find_list(folder, "list_attr_celeba")
        attributes = tf.constant(_attributes(path, paths))
    numbers = index_batches(len(paths), shuffle=split == "train", **order)
    ds = load_images(numbers.unbatch(), paths, Decoding(), lambda image, name: _face(image, image_size))
    return ds.map(lambda number, image: (image, attributes[number])), len(numbers)


def _attributes(list_path, paths):
    """Returns the attributes, int64 `(images, attributes)` of 0 and 1."""
    rows = read_list(list_path)[1]
    listed = np.stack(list(rows.values()))
    if np.abs(listed).max() > 1:
        raise ValueError(f"{list_path} must list attributes of 1 and -1. Received: {np.abs(listed).max()}.")
    names = _listed_names(list_path, rows, paths)
    missing = [path for path, name in zip(paths, names, strict=True) if name is None]
    if missing:
        raise ValueError(
            f"{list_path} must list all {len(paths)} images. Received: a list without {len(missing)} of them, "
            f"such as {shown(missing[0])}."
        )
    return (np.stack([rows[name] for name in names]) > 0).astype("int64")


def _of_one_release(folder, paths):
    """Keeps one release of the images."""

    def lies_in(path, name):
        return f"{os.sep}{name}{os.sep}" in path[len(str(folder)) :]

    present = [name for name in _FOLDERS if any(lies_in(path, name) for path in paths)]
    if not present:
        return paths
    stems = {_stem(path) for path in paths if lies_in(path, present[0])}

    def is_other(path):
        return _stem(path) in stems or any(lies_in(path, name) for name in present[1:])

    kept = [path for path in paths if lies_in(path, present[0]) or not is_other(path)]
    if len(kept) < len(paths):
        say(f"CelebA: using {present[0]}, skipping {len(paths) - len(kept):,} images of other releases in {folder}.")
    return kept


def _listed_names(list_path, rows, paths):
    """Returns the listed name of each path, matched by stem if the suffix differs; `None` if it is not listed."""
    by_stem = {_stem(name): name for name in rows}
    names = [name if name in rows else by_stem.get(_stem(name)) for name in map(os.path.basename, paths)]
    first = {}
    for name, path in zip(names, paths, strict=True):
        if name is not None and first.setdefault(name, path) != path:
            raise ValueError(
                f"Each line of {list_path} must match one image. "
                f"Received: {shown(first[name])} and {shown(path)}, both {name}. Pass the folder of one as `source`."
            )
    return names


def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def _of_split(folder, paths, split):
    try:
        path = _find_list(folder, "list_eval_partition")
    except FileNotFoundError:
        say(f"CelebA: no list_eval_partition in {folder}: every {_HELD_OUT}th image is the test split.")
        held_out = paths[_HELD_OUT - 1 :: _HELD_OUT]
        chosen = {"test": held_out, "train": sorted({*paths} - {*held_out}), "validation": []}[split]
    else:
        listed = read_list(path)[1]
        names = dict(zip(paths, _listed_names(path, listed, paths), strict=True))
        unlisted = [shown(image) for image in paths if names[image] is None]
        if len(unlisted) == len(paths):
            raise ValueError(
                f"{path} must list the images in {folder}. Received: a list with none of the {len(paths)} images, "
                f"such as {unlisted[0]}."
            )
        if unlisted:
            say(f"CelebA: skipping {len(unlisted)} images that are not in {path}, such as {unlisted[0]}.")
        paths = [image for image in paths if names[image] is not None]
        parts = [listed[names[image]] for image in paths]
        unknown = {int(part[0]) for part in parts} - {0, 1, 2}
        if unknown:
            raise ValueError(f"{path} must list 0 (train), 1 (validation) or 2 (test). Received: {sorted(unknown)}.")
        chosen = [path for path, part in zip(paths, parts, strict=True) if part[0] == _SPLITS.index(split)]
    if not chosen:
        raise ValueError(
            f"The split {split!r} must have images. Received: {folder}, with {len(paths)} in other splits."
        )
    return chosen


def _find_list(folder, name):
    """Finds a list in the folder, at any depth, or beside it."""
    below = (path for path, reason in walk(folder) if reason is None)
    beside = (str(path) for parent in (folder.absolute().parent, folder.resolve().parent) for path in parent.glob("*"))
    for candidates in below, beside:
        found = [path for path in candidates if _stem(path) == name and path.lower().endswith(_LISTS)]
        if found:
            return Path(min(found))
    raise FileNotFoundError(f"No {name}.txt or {name}.csv in the folder {shown(folder)!r} or beside it.")


def _from_tfds(split, image_size, seed):
    """Returns a data set of (image, attributes) with a known length."""
    tfds = tensorflow_datasets("`datasets.celeb_a(source='tfds')`")
    shuffle = split == "train"
    config = tfds.ReadConfig(shuffle_seed=seed % 2**31)
    encoded = {"image": tfds.decode.SkipDecoding()}  # encoded images take less memory in the shuffle buffer
    ds = tfds.builder("celeb_a").as_dataset(split, shuffle_files=shuffle, read_config=config, decoders=encoded)
    count = int(ds.cardinality())
    if shuffle:
        ds = ds.shuffle(min(_TFDS_BUFFER, count), seed=seed % 2**31)

    def load(record):
        names = sorted(record["attributes"])
        attributes = tf.stack([tf.cast(record["attributes"][name], tf.int64) for name in names])
        image = tf.io.decode_image(record["image"], channels=3, expand_animations=False)
        return _face(tf.ensure_shape(image, (None, None, 3)), image_size), attributes

    ds = ds.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return ds.apply(tf.data.experimental.assert_cardinality(count))


def _face(image, image_size):
    size = tf.shape(image)[:2]
    face = tf.cond(
        tf.reduce_all(size == _ALIGNED),
        lambda: image[_TOP:_BOTTOM, _LEFT:_RIGHT],
        lambda: center_square(image),
    )
    return tf.ensure_shape(resize(face, image_size, image_size), (image_size, image_size, 3))
