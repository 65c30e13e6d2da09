import re

import keras
import numpy as np
import pytest

from keras_provlae.visualization import training_curves
from keras_provlae.visualization.style import rung_color

HISTORY = {
    "loss": [9.0, 8.0, 7.0, 6.0],
    "reconstruction": [8.0, 7.0, 6.0, 5.0],
    "kl": [1.0, 1.0, 2.0, 2.0],
    "kl_rung_1": [0.0, 0.0, 0.5, 1.0],
    "kl_rung_2": [1.0, 1.0, 1.5, 1.0],
    "stage": [0.0, 0.0, 1.0, 1.0],
    "alpha": [1.0, 1.0, 0.5, 1.0],
}


def lines(axes):
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_show_the_history_and_mark_the_unlocks():
    figure = training_curves({**HISTORY, "val_loss": [10.0, 9.0, 8.0, 7.0]})
    loss, kl, alpha = figure.axes
    assert lines(loss) == {
        "loss": HISTORY["loss"],
        "reconstruction": HISTORY["reconstruction"],
        "val_loss": [10, 9, 8, 7],
    }
    assert lines(kl) == {"rung 2": HISTORY["kl_rung_2"], "rung 1": HISTORY["kl_rung_1"]}
    assert [list(line.get_ydata()) for line in alpha.lines[:2]] == [[1.0, 1.0], [0.5, 1.0]]  # the line breaks
    assert [list(line.get_xdata()) for line in alpha.lines[:2]] == [[1, 2], [3, 4]]
    assert [line.get_color() for line in alpha.lines[:2]] == [line.get_color() for line in kl.lines[:2]]
    assert [list(line.get_xdata()) for line in kl.lines[:2]] == [[1, 2, 3, 4]] * 2
    assert [text.get_text() for text in loss.texts] == ["stage 0", "stage 1"]
    assert [text.get_position()[0] for text in loss.texts] == [1.5, 3.5]
    for axes in figure.axes:
        unlock = axes.lines[-1]
        assert list(unlock.get_xdata()) == [2.5, 2.5]  # before the third epoch
        assert unlock.get_color() == kl.lines[1].get_color()  # that of rung 1


def test_information_of_every_rung_and_the_total():
    measured = {"mi_rung_2": [0.5, 0.5, 1.0, 1.5], "mi_rung_1": [0.0, 0.0, 0.1, 0.2], "mi_total": [0.5, 0.5, 1.1, 1.6]}
    information = training_curves({**HISTORY, **measured}).axes[2]
    assert information.get_ylabel() == "I(x; z) in nats"
    expected = {"total": measured["mi_total"], "rung 2": measured["mi_rung_2"], "rung 1": measured["mi_rung_1"]}
    assert lines(information) == expected
    for line in information.lines[:3]:  # stairs, with a dot where something was measured
        assert (line.get_drawstyle(), line.get_markevery()) == ("steps-post", [0, 2, 3])
    del measured["mi_total"]
    assert list(lines(training_curves({**HISTORY, **measured}).axes[2])) == ["rung 2", "rung 1"]


def test_weights_of_the_loss_that_change():
    weights = {"tc_weight": [0.0, 1.0, 2.0, 2.0], "beta_rung_1": [1.0, 1.0, 2.0, 2.0], "beta_rung_2": [4.0] * 4}
    axes = training_curves({**HISTORY, **weights}).axes[2]
    assert axes.get_ylabel() == "loss weights"
    assert lines(axes) == {name.replace("_", " "): values for name, values in weights.items()}
    assert [line.get_color() for line in axes.lines[:2]] == [rung_color(2, 1), rung_color(2, 2)]


def test_two_rungs_unlocked_at_once_are_both_marked():
    history = {**HISTORY, "kl_rung_3": HISTORY["kl"], "stage": [0, 0, 2, 2]}
    marks = [line for line in training_curves(history).axes[0].lines if line.get_linestyle() == ":"]
    assert [(list(line.get_xdata()), line.get_color()) for line in marks] == [
        ([2.5, 2.5], rung_color(3, 2)), ([2.5, 2.5], rung_color(3, 1)),
    ]  # fmt: skip


def test_epochs_are_those_of_the_training():
    history = keras.callbacks.History()
    history.history, history.epoch = HISTORY, [3, 4, 5, 6]  # `initial_epoch=3`
    loss, _, alpha = training_curves(history).axes
    assert list(loss.lines[0].get_xdata()) == [4, 5, 6, 7]
    assert list(loss.lines[-1].get_xdata()) == [5.5, 5.5]  # the unlock
    assert alpha.get_xlim()[0] > 3
    assert list(alpha.lines[1].get_xdata()) == [6, 7]
    every_second = training_curves({**HISTORY, "val_loss": [9.5, 7.5]}).axes[0]  # `validation_freq=2`
    assert [list(line.get_xdata()) for line in every_second.lines if line.get_label() == "val_loss"] == [[2, 4]]


@pytest.mark.parametrize(("first", "count", "values", "expected"), [(1, 11, 2, [4, 8]), (4, 5, 3, [4, 6, 8])])
def test_validation_is_drawn_at_its_epochs(first, count, values, expected):
    """Keras validates in every epoch whose number is a multiple of `validation_freq`."""
    history = {name: [1.0] * count for name in ("loss", "reconstruction", "kl_rung_1")}
    history |= {"epoch": list(range(first - 1, first - 1 + count)), "val_loss": [1.0] * values}
    (line,) = (one for one in training_curves(history).axes[0].lines if one.get_label() == "val_loss")
    assert list(line.get_xdata()) == expected


@pytest.mark.parametrize("name", ["val_loss", "loss", "mi_total", "kl_rung_1"])
def test_values_of_unknown_epochs_are_left_out_with_a_warning(name):
    with pytest.warns(UserWarning, match=f"`{name}` is left out: it has 3 values for 4 epochs"):
        figure = training_curves({**HISTORY, "mi_rung_2": [0.0] * 4, name: [1.0] * 3})
    assert "loss" in lines(figure.axes[0]) or name == "loss"


def test_a_second_training_in_the_same_file(tmp_path):
    path = tmp_path / "history.csv"
    losses = enumerate([10, 9, 8, 7])
    rows = [f"{epoch},{loss},{loss},1" for epoch, loss in [*losses, (0, 100), (1, 99)]]
    path.write_text("\n".join(["epoch,loss,reconstruction,kl_rung_1", *rows, "2,98,97,1,2,96"]) + "\n")
    with pytest.warns(UserWarning, match="history.csv: ") as warned:
        assert lines(training_curves(path).axes[0])["loss"] == [100.0, 99.0]
    broken, replaced = (str(one.message) for one in warned)
    assert "history.csv: left out 1 of 7 rows (line 8) without the 4 values of the header" in broken
    assert "history.csv: left out 4 of 7 rows (lines 2, 3, 4, 5) of epochs before the training went back" in replaced


def test_a_file_of_a_killed_training(tmp_path):
    """A repeated epoch counts once, a half-written line not at all, and NA is a gap."""
    path = tmp_path / "history.csv"
    rows = [
        "epoch,loss,reconstruction,kl_rung_1,val_loss",
        "0,2,1,0.5,NA",
        "1,9,9,0.6,1.9",
        "1,1.5,0.9,0.6,1.8",
        "2,1.4,0.",
    ]
    path.write_text("\n".join(rows))
    with pytest.warns(UserWarning, match=r"1 of 4 rows \(line 5\) without the 5 values of the header") as warned:
        shown = lines(training_curves(path).axes[0])
    assert len(warned) == 1
    assert shown == {"loss": [2.0, 1.5], "reconstruction": [1.0, 0.9], "val_loss": [1.8]}
    path.write_text("\n".join([*rows, "2,1.3,0.8,0.6,1.7"]))  # trained again: nothing is missing
    assert lines(training_curves(path).axes[0])["loss"] == [2.0, 1.5, 1.3]


def test_a_model_that_does_not_grow_has_no_alpha():
    assert len(training_curves({k: v for k, v in HISTORY.items() if k not in ("alpha", "stage")}).axes) == 2


def test_a_history_of_another_model_is_rejected():
    with pytest.raises(ValueError, match=r"ladder model.*Received: \['accuracy', 'loss'\]"):
        training_curves({"loss": [1.0], "accuracy": [0.5]})


def test_curves_name_their_data():
    history = {"loss": [2.0], "reconstruction": [1.0], "kl_rung_1": [0.5]}
    assert training_curves(history, data="rooms procedural").get_suptitle() == "rooms procedural"


def test_curves_of_a_file(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,reconstruction,kl_rung_1,data,val_loss\n0,2,1,0.5,rooms,NA\n1,1.5,0.9,0.6,rooms,NA\n")
    panels = training_curves(path).axes
    expected = training_curves({"loss": [2.0, 1.5], "reconstruction": [1.0, 0.9], "kl_rung_1": [0.5, 0.6]}).axes
    assert [lines(axes) for axes in panels] == [lines(axes) for axes in expected]
    assert training_curves(str(path)).axes


@pytest.mark.parametrize("separator", [";", "\t", "|", " "])
def test_the_separator_is_detected(tmp_path, separator):
    path = tmp_path / "history.csv"
    rows = ["epoch,data,kl_rung_1,loss,reconstruction", '0,"a, b",0.5,2,1', '1,"a, b",0.6,1.5,0.9']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).replace(",", separator).encode())
    assert lines(training_curves(path).axes[0]) == {"loss": [2.0, 1.5], "reconstruction": [1.0, 0.9]}


def test_incomplete_rows_are_never_left_out_silently(tmp_path):
    """Keras's logger writes longer rows below the header of a training that logged less."""
    path = tmp_path / "history.csv"
    rows = [f"{epoch},{9 - epoch},{8 - epoch},1" + ",0.5" * (epoch > 1) for epoch in range(9)]
    path.write_text("\n".join(["epoch,loss,reconstruction,kl_rung_1", *rows, "9,1,1,1", "2,1,1,1"]) + "\n")
    message = r"7 of 11 rows \(lines 4, 5, 6, 7, 8 and 2 more\) without .* from a training that logged other values"
    with pytest.warns(UserWarning, match="history.csv: ") as warned:
        shown = lines(training_curves(path).axes[0])["loss"]
    assert shown == [9.0, 8.0, 1.0]
    texts = "\n".join(str(one.message) for one in warned)
    assert re.search(message, texts)
    assert "1 of 11 rows (line 11) of epochs before the training" in texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Received: .*history.csv, which is empty: its training completed no epoch"),
        ("\n\n", r"Received: .*history.csv, which is empty"),
        ("epoch;loss;reconstruction;kl_rung_1\n", "at least one epoch. Received: .*with none in 0 rows"),
        ("epoch,loss,reconstruction,kl_rung_1\n0,1\n", r"at least one epoch. .*with none in 1 rows .*\(line 2\)"),
        ("epoch;kl_rung_1;reconstruction\n0;1;1,5\n", r"`reconstruction` must be a number or NA. Received: '1,5' in l"),
        ("name;size\na;1\n", r"must be of a ladder model.*Received: \['name', 'size'\]"),
        ("\x89PNG\xff", "which is not UTF-8 text"),
    ],
)
def test_invalid_files_are_rejected(tmp_path, text, message):
    (tmp_path / "history.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        training_curves(tmp_path / "history.csv")


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({**HISTORY, "loss": ["low", "lower", "low", "low"]}, "one number per epoch. Received: loss="),
        ({**HISTORY, "alpha": 1.0}, "one number per epoch. Received: alpha=1.0"),
        ({name: [] for name in HISTORY}, "at least one epoch. Received: none"),
        ({**HISTORY, "epoch": [0, 1]}, "`history` must have 4 epoch numbers"),
    ],
)
def test_invalid_numbers_are_rejected(history, message):
    with pytest.raises((TypeError, ValueError), match=message):
        training_curves(history)


def test_epochs_without_a_value_leave_a_gap(tmp_path):
    path = tmp_path / "history.csv"
    columns = "epoch,loss,reconstruction,kl_rung_1,kl_rung_2,mi_rung_1,mi_rung_2,mi_total,stage,alpha"
    rows = ["0,9,8,0,1,NA,NA,NA,NA,NA", "1,8,7,0,1,0,1,1,0,1", "2,7,6,1,1,NA,NA,NA,NA,NA", "3,nan,nan,1,1,1,1,2,1,0.5"]
    path.write_text("\n".join([columns, *rows]))
    loss, _, information, alpha = training_curves(path).axes
    assert lines(loss) == {"loss": [9, 8, 7], "reconstruction": [8, 7, 6]}
    np.testing.assert_array_equal(lines(information)["total"], [np.nan, 1, np.nan, 2])
    assert [list(line.get_xdata()) for line in alpha.lines] == [[2], [4], [3.5, 3.5]]
