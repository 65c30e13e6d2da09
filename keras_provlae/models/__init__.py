"""The paper's models: pro-VLAE and its baselines."""

from keras_provlae.models.beta_vae import BetaVAE
from keras_provlae.models.growing_vae import GrowingVAE
from keras_provlae.models.ladder_vae import LadderVAE
from keras_provlae.models.progressive_vae import ProgressiveVAE
from keras_provlae.models.teacher_student_vae import TeacherStudentVAE
from keras_provlae.models.vlae import VLAE

__all__ = ["VLAE", "BetaVAE", "GrowingVAE", "LadderVAE", "ProgressiveVAE", "TeacherStudentVAE"]
