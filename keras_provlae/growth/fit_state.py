"""The state of a `GrowthCallback` during one `fit`."""

import math
import warnings

import keras

from keras_provlae.growth.guard import GuardedGrowth
from keras_provlae.growth.monitor import GrowthMonitor
from keras_provlae.growth.schedule import Plan, plan_of_fit
from keras_provlae.messages import say
from keras_provlae.training.graph_checks import leave_to_callback


class GrowthOfFit:
    """The state of growth in one `fit`: the plan, the position in it, and what came of each unlock.

    Args:
        callback: The `GrowthCallback`, whose model and `params` are set.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        self.callback, self.params = callback, callback.params
        self.plan: Plan | None = None  # made at the first epoch: a callback after this one may restore the model
        self.next_iteration = math.inf
        self.is_due = False  # by the validation ELBO
        self.taken_back = 0  # steps that the guard undid
        self.monitor = GrowthMonitor(self.model)
        self.guarded = GuardedGrowth(callback.guard, self.monitor) if callback.guard else None
        self.model.growth_listeners += [self.monitor, *([self.guarded] if self.guarded else [])]
        if self.guarded:
            self.model.check_loss = leave_to_callback
            self.model.make_train_function()
        if callback.auto:
            callback.auto.begin(self.model)

    @property
    def model(self) -> keras.Model:
        """The model, asked of the callback: on JAX, Keras brings its variables up to date there."""
        return self.callback.model

    def begin_epoch(self, epoch: int) -> None:
        """Unlocks what is due at an epoch, and plans the steps of it."""
        self.epoch, self.epoch_start, self.has_ended = epoch, self.model.iteration, False
        self.monitor.begin_epoch(self.model)
        if self.callback.auto:
            if self.is_due:
                self._grow(self.model.stage + 1)
            return
        if self.plan is None:
            self.plan = plan_of_fit(self.callback.schedule, self.model, self.params, epoch)
            self._warn_if_too_long()
            self.first_epoch, self.first_iteration = epoch, self.epoch_start
            self.steps_per_epoch = self._expected_steps(epoch)
        else:
            taken = self.epoch_start + self.taken_back - self.first_iteration
            self.steps_per_epoch = round(taken / (epoch - self.first_epoch))
        if not self.plan.by_iteration:
            self._grow(self.plan.stage_at(epoch + self.plan.offset))
        self.next_iteration = self.plan.next_iteration(self.model.stage)

    def begin_step(self, batch: int) -> None:
        """Looks at the means and unlocks what is due at an optimizer step."""
        # plain numbers: reading the model here would stop the device at every step
        iteration = self.epoch_start + batch
        if iteration >= self.monitor.next_look and self._look(iteration):
            self.epoch_start = self.model.iteration - batch
            iteration = self.model.iteration
        if self.plan is not None and iteration >= self.next_iteration:
            self._grow(self.plan.stage_at(iteration))
            self.next_iteration = self.plan.next_iteration(self.model.stage)

    def end_steps(self) -> None:
        """Looks at the means of the epoch, once."""
        if not self.has_ended:
            self.has_ended = True
            self._look(self.model.iteration, ends_epoch=True)

    def end(self) -> None:
        """Ends the `fit`, with a warning if it left rungs locked."""
        model = self.model
        if self.guarded:
            self.guarded.end(model)
        if self.callback.auto or (self.guarded and self.guarded.has_given_up):
            return
        if model.stop_training and not model.is_grown:
            locked = range(model.num_rungs - model.stage - 1, 0, -1)
            warnings.warn(
                f"Training was stopped at stage {model.stage} of {model.num_rungs - 1}: {_name_rungs(locked)} never "
                "unlocked. Start EarlyStopping after the last fade-in (`start_from_epoch`).",
                stacklevel=3,
            )

    def _look(self, iteration, ends_epoch=False):
        """Reads the means; returns whether the guard undid an unlock."""
        seen = self.monitor.look(self.model, iteration, ends_epoch)
        if self.guarded is None or seen is None:
            return False
        ends_fit = ends_epoch and (self.epoch + 1 == self.params["epochs"] or self.model.stop_training)
        if not self.guarded.undoes(self.model, seen, ends_fit):
            return False
        self.taken_back += iteration - self.model.iteration
        return True

    def _grow(self, stage):
        model = self.model
        if model.stage >= stage:
            return
        first, fade_in_steps = model.stage + 1, self._fade_in_steps(stage)
        model.grow(fade_in_steps, to_stage=stage)
        if self.callback.verbose:
            for reached in range(first, stage + 1):  # where several rungs are due at once, only the newest fades in
                steps = fade_in_steps if reached == stage else 0
                how = f"fading in over {steps} steps" if steps else "without a fade-in"
                say(f"Stage {reached}: rung {model.num_rungs - reached} unlocked, {how}", new_line=True)

    def _fade_in_steps(self, stage):
        asked, fraction = self.callback.fade_in_steps, self.callback.max_fade_fraction
        if not self.model.fades_in:
            return 0
        length = None if self.callback.auto else self._stage_steps(stage)
        return asked if length is None or fraction is None else min(asked, int(fraction * length))

    def _stage_steps(self, stage):
        """Optimizer steps of a stage; `None` if that is not known yet."""
        plan, steps = self.plan, self.steps_per_epoch
        if plan.by_iteration and steps is not None:
            plan = plan._replace(end=self.first_iteration + (self.params["epochs"] - self.first_epoch) * steps)
        length = plan.stage_length(stage)
        if length is None or plan.by_iteration:
            return length
        return None if steps is None else length * steps

    def _expected_steps(self, epoch):
        """Steps per epoch before one was counted; from earlier epochs where `steps` is unknown or rounded up."""
        steps = self.params.get("steps")
        exact = steps is not None and self.model.steps_per_execution == 1
        return steps if exact or epoch == 0 else round(self.epoch_start / epoch) or steps

    def _warn_if_too_long(self):
        points, end, num_rungs = self.plan.points, self.plan.end, self.model.num_rungs
        late = [num_rungs - stage for stage, point in enumerate(points, 1) if end is not None and point >= end]
        if late:
            unit = "iteration" if self.plan.by_iteration else "epoch"
            warnings.warn(
                f"The growth schedule is longer than this training: it unlocks rungs at the {unit}s {points}, and "
                f"training ends at {unit} {end}, so {_name_rungs(late)} will stay locked. Train for longer, shorten "
                "the schedule, or call `fit` again to go on.",
                stacklevel=3,
            )


def _name_rungs(rungs):
    return f"rung{'s' if len(rungs) != 1 else ''} {', '.join(map(str, rungs))}"
