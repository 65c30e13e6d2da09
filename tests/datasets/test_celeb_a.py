import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_provlae.datasets import celeb_a, celeb_a_attributes
from tests.datasets.test_image_folder import write
from tests.datasets.tfds_scripts import prepare_and_read

NAMES = ("Bald", "Smiling", "Young")


def aligned(number):
    """218 x 178: red where the crop box is, its inner border green, and its brightness the number."""
    image = np.zeros((218, 178, 3), "uint8")
    image[..., 2] = 255  # blue outside
    image[45:193, 15:163] = [10 * number, 0, 0]
    image[45:193, 15:19] = image[45:193, 159:163] = [10 * number, 255, 0]
    image[45, 15:163, 1] = image[192, 15:163, 1] = 255
    return image


@pytest.fixture
def folder(tmp_path):
    """Twenty aligned faces and both lists."""
    names = [f"{number:06}.jpg" for number in range(1, 21)]
    for number, name in enumerate(names, 1):
        write((tmp_path / "img_align_celeba" / name).with_suffix(".png"), aligned(number)).rename(
            tmp_path / "img_align_celeba" / name  # a PNG file by another name: exact pixels
        )
    rows = [" ".join(f"{1 if (n >> bit) & 1 else -1:>2}" for bit in range(3)) for n in range(1, 21)]
    listed = "\n".join(f"{name} {row}" for name, row in zip(names, rows, strict=True))
    (tmp_path / "list_attr_celeba.txt").write_text(f"20\n{' '.join(NAMES)} \n{listed}\n")
    parts = [0] * 12 + [1] * 3 + [2] * 5
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(f"{n} {p}" for n, p in zip(names, parts, strict=True)))
    return tmp_path


def faces(ds):
    """Numbers of the faces, by their red."""
    return [int(number) for batch in ds for number in np.rint(25.5 * np.asarray(batch)[:, 32, 32, 0])]


def test_the_crop_box_is_that_of_the_authors(folder):
    images = next(iter(celeb_a("test", source=folder, image_size=148)))
    assert images.shape == (5, 148, 148, 3)
    assert np.asarray(images)[..., 2].max() == 0  # nothing from outside
    np.testing.assert_array_equal(np.asarray(images)[:, :, [0, 3, 144, 147], 1], 1.0)  # and all of the inside
    np.testing.assert_array_equal(np.asarray(images)[:, [0, 147], :, 1], 1.0)
    np.testing.assert_array_equal(np.asarray(images)[:, 1:147, 4:144, 1], 0.0)
    ds = celeb_a("test", source=folder)
    assert ds.element_spec == tf.TensorSpec((None, 64, 64, 3), tf.float32)


def test_other_sizes_are_cropped_in_the_middle(tmp_path):
    image = np.zeros((40, 60, 3), "uint8")
    image[:, 10:50] = 255
    for number in range(10):
        write(tmp_path / f"{number}.png", image)
    images = next(iter(celeb_a("train", source=tmp_path, image_size=40)))
    np.testing.assert_array_equal(images, 1.0)


def test_the_list_decides_the_splits(folder):
    splits = {name: faces(celeb_a(name, 4, source=folder, seed=0)) for name in ("train", "validation", "test")}
    assert splits["validation"] == [13, 14, 15]
    assert splits["test"] == [16, 17, 18, 19, 20]
    assert sorted(splits["train"]) == list(range(1, 13))
    assert splits["train"] != list(range(1, 13))
    assert [len(celeb_a(name, 4, source=folder)) for name in splits] == [3, 1, 2]


def test_processes_read_parts_of_the_same_batches(folder, monkeypatch):
    alone = celeb_a("train", 4, source=folder, seed=1)
    parts = [celeb_a("train", 4, source=folder, seed=1, shard=(index, 2)) for index in range(2)]
    assert {len(part) for part in parts} == {3}
    steps = zip(*(np.reshape(faces(part), (3, 2)) for part in parts), strict=True)
    assert np.concatenate([np.concatenate(step) for step in steps]).tolist() == faces(alone)
    assert len(celeb_a("test", 4, source=folder, drop_remainder=True)) == 1
    monkeypatch.setattr(sys.modules["keras_provlae.datasets.celeb_a"], "tfds_is_prepared", lambda name: True)
    with pytest.raises(ValueError, match="reads a part of the files of a folder: give that as `source`"):
        celeb_a("train", 4, source="tfds", seed=1, shard=(0, 2))


def test_the_training_split_is_shuffled_anew_by_its_seed(folder):
    one, other = (celeb_a("train", 4, source=folder, seed=1) for _ in range(2))
    passes = [faces(one) for _ in range(2)]
    assert passes[0] != passes[1]
    assert [faces(other) for _ in range(2)] == passes
    assert faces(celeb_a("train", 4, source=folder, seed=2)) not in passes


def test_without_a_list_every_tenth_is_held_out_and_a_line_says_so(folder, capsys):
    (folder / "list_eval_partition.txt").unlink()
    assert faces(celeb_a("test", source=folder)) == [10, 20]
    assert "every 10th image is the test split" in capsys.readouterr().out
    assert len(faces(celeb_a("train", source=folder))) == 18
    with pytest.raises(ValueError, match="split 'validation' has no image: the 20 of .* are all in other splits"):
        celeb_a("validation", source=folder)


def test_images_that_are_not_listed_are_left_out_and_a_line_says_so(folder, capsys):
    write(folder / "preview.png", aligned(25))
    assert faces(celeb_a("validation", source=folder)) == [13, 14, 15]
    assert "1 images are not in " in capsys.readouterr().out


def test_of_two_releases_the_aligned_one_is_read_by_its_stems(folder, capsys):
    """The official PNG files, beside the images as they were found."""
    for path in (folder / "img_align_celeba").iterdir():
        write(folder / "img_celeba" / f"{path.stem}.png", np.zeros((8, 8, 3), "uint8")).rename(
            folder / "img_celeba" / path.name
        )
        path.rename(path.with_suffix(".png"))
    write(folder / "img_celeba/000021.png", aligned(21))
    images, attributes = next(iter(celeb_a("test", source=folder, with_attributes=True)))
    assert faces([images]) == [16, 17, 18, 19, 20]
    assert attributes[3].numpy().tolist() == [1, 1, 0]  # of 19
    assert "reads img_align_celeba; 21 images of other releases" in capsys.readouterr().out


def test_an_image_that_is_there_twice_is_refused(folder):
    other = write(folder / "mine/000003.png", aligned(3))
    (folder / "img_align_celeba").rename(folder / "faces")
    with pytest.raises(
        ValueError, match="names each image once. Received: .*faces/000003.jpg and .*both 000003.jpg"
    ) as e:
        celeb_a("test", source=folder)
    assert str(other) in str(e.value)


def test_lists_beside_a_link_to_the_images_are_found(folder, tmp_path_factory):
    link = folder / "link"
    target = tmp_path_factory.mktemp("elsewhere") / "faces"
    (folder / "img_align_celeba").rename(target)
    link.symlink_to(target)
    assert celeb_a_attributes(link) == NAMES


@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_attributes_stay_with_their_faces(folder, kind):
    path = folder / "list_attr_celeba.txt"
    if kind == "csv":
        _, names, *rows = path.read_text().splitlines()
        lines = [",".join(["image_id", *names.split()]), *(",".join(row.split()) for row in rows)]
        (folder / "list_attr_celeba.csv").write_text("\n".join(lines))
        path.unlink()
    assert celeb_a_attributes(folder) == NAMES
    ds = celeb_a("train", 4, source=folder, with_attributes=True)
    assert ds.element_spec[1] == tf.TensorSpec((None, 3), tf.int64)
    for images, attributes in ds:
        expected = [[(number >> bit) & 1 for bit in range(3)] for number in faces([images])]
        np.testing.assert_array_equal(attributes, expected)


def test_attributes_of_0_and_1(folder):
    path = folder / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("-1", "0"), encoding="utf-8-sig", newline="\r\n")
    images, attributes = next(iter(celeb_a("validation", source=folder, with_attributes=True)))
    assert attributes.numpy().tolist() == [[(n >> bit) & 1 for bit in range(3)] for n in faces([images])]


def test_a_list_with_the_images_goes_before_one_beside_them(folder):
    (folder / "img_align_celeba/list_eval_partition.TXT").write_text(
        "\n".join(f"{number:06}.jpg 2" for number in range(1, 21))
    )
    assert len(faces(celeb_a("test", source=folder / "img_align_celeba"))) == 20


def test_lists_are_found_beside_the_images_too(folder):
    assert faces(celeb_a("validation", source=folder / "img_align_celeba")) == [13, 14, 15]
    assert celeb_a_attributes(folder / "img_align_celeba") == NAMES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_attr_celeba.txt", "20\nA B\n000001.jpg 1\n", r"line 3: a file name and 2 integers.*000001.jpg \['1'\]"),
        ("list_attr_celeba.txt", "20\nA B\n000001.jpg 1 x\n", r"line 3: .*\['1', 'x'\]"),
        ("list_attr_celeba.txt", "20\nA B\n000001.jpg 1 5\n", r"attributes of 1 and -1.*Received: 5"),
        ("list_attr_celeba.txt", "2\nA B\n000001.jpg 1 1\n", "lacks 4 of 5 images, .*000017"),
        ("list_attr_celeba.txt", "", "at least one image"),
        ("list_eval_partition.txt", "a.jpg 0\n", "lists none of the 20 images in .*000001.jpg for one"),
        ("list_eval_partition.txt", "000001.jpg\n", "line 1"),
        (
            "list_eval_partition.txt",
            "".join(f"{n:06}.jpg 7\n" for n in range(1, 21)),
            r"or 2 \(test\). Received: \[7\]",
        ),
    ],
)
def test_a_bad_list_is_named(folder, name, text, message):
    if name.startswith("list_attr"):
        text = text.replace("000001", "000016")
        message = message.replace("000001", "000016")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        celeb_a("test", source=folder, with_attributes=True)
    assert str(folder / name) in str(caught.value)


def test_bad_images_are_named_or_left_out(folder):
    path = folder / "img_align_celeba/000018.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(tf.errors.InvalidArgumentError, match=str(path)):
        faces(celeb_a("test", source=folder))
    with pytest.warns(UserWarning, match="1 of 5 images cannot be decoded and are left out: .*000018.jpg"):
        ds = celeb_a("test", source=folder, on_bad_image="skip", with_attributes=True)
    images, attributes = next(iter(ds))
    assert faces([images]) == [16, 17, 19, 20]
    assert attributes[2].numpy().tolist() == [1, 1, 0]  # of 19


def test_without_data_it_says_exactly_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    message = f"img_align_celeba.zip .* give the folder as `source`, or put it at {tmp_path}.*`tfds build celeb_a`"
    for source in "auto", "tfds":
        with pytest.raises(FileNotFoundError, match=message):
            celeb_a(source=source)


def test_the_folder_where_keras_keeps_its_data_is_found(monkeypatch, tmp_path, folder):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    for path in "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt":
        (folder / path).rename(tmp_path / "datasets" / path)
    assert faces(celeb_a("validation")) == [13, 14, 15]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"split": "val"}, ValueError, "split='val'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"batch_size": "100"}, TypeError, "`batch_size` must be an integer"),
        ({"image_size": 6.5}, TypeError, "`image_size` must be an integer"),
        ({"source": "no/such"}, FileNotFoundError, "no/such', which is no folder"),
        ({"on_bad_image": "no"}, ValueError, "on_bad_image='no'"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
    ],
)
def test_bad_settings_are_refused(folder, settings, error, message):
    with pytest.raises(error, match=message):
        celeb_a(**{"source": folder, **settings})


def test_attributes_need_their_list(folder):
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No list_attr_celeba.txt or list_attr_celeba.csv in the folder"):
        celeb_a(source=folder, with_attributes=True)


PREPARE = """
import sys
import numpy as np, tensorflow as tf, tensorflow_datasets as tfds
from tests.datasets.test_celeb_a import aligned
info = tfds.builder("celeb_a", data_dir=sys.argv[1]).info
def records(numbers):
    for number in numbers:
        example = {"image": aligned(number), "identity": {"Identity_No": number}}
        example["landmarks"] = {name: 0 for name in info.features["landmarks"]}
        example["attributes"] = {name: name == "Young" and number % 2 == 1 for name in info.features["attributes"]}
        yield example
spec = tf.nest.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), info.features.get_tensor_info())
spec = tf.nest.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), spec)
splits = {name: tf.data.Dataset.from_generator(lambda n=n: records(n), output_signature=spec)
          for name, n in {"train": range(1, 13), "validation": range(13, 16), "test": range(16, 21)}.items()}
tfds.dataset_builders.store_as_tfds_dataset(name="celeb_a", version=str(info.version), data_dir=sys.argv[1],
    features=info.features, split_datasets=splits)
"""
READ = """
from keras_provlae.datasets import celeb_a, celeb_a_attributes
from tests.datasets.test_celeb_a import faces
names = celeb_a_attributes()
print(len(names), names[0], names[-1], [len(celeb_a(split, 4)) for split in ("train", "validation", "test")])
images, attributes = next(iter(celeb_a("train", 12, with_attributes=True)))
numbers = faces([images])
young = attributes[:, -1].numpy().tolist()
print(sorted(numbers), young == [number % 2 for number in numbers], attributes.shape)
test = celeb_a("test")
print(sorted(faces(test)), faces(test) == faces(test))  # in the order that tfds wrote them
print(faces(celeb_a("train", 4, seed=3)) == faces(celeb_a("train", 4, seed=3)), numbers != sorted(numbers))
"""


def test_prepared_tfds_data_come_first(tmp_path):
    done = prepare_and_read(tmp_path, PREPARE, READ)
    assert done.stdout.splitlines() == [
        "40 5_o_Clock_Shadow Young [3, 1, 2]",
        f"{list(range(1, 13))} True (12, 40)",
        "[16, 17, 18, 19, 20] True",
        "True True",
    ]
