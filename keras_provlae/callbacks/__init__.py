"""Callbacks for `fit`: backups, and observers that measure and draw the model as it grows."""

from keras_provlae.callbacks.annealing import Annealing
from keras_provlae.callbacks.backup import BackupAndRestore
from keras_provlae.callbacks.csv_logger import CSVLogger
from keras_provlae.callbacks.observers import DisentanglementMonitor, InformationFlow, PosteriorObserver
from keras_provlae.callbacks.snapshots import TraversalSnapshots

__all__ = [
    "Annealing",
    "BackupAndRestore",
    "CSVLogger",
    "DisentanglementMonitor",
    "InformationFlow",
    "PosteriorObserver",
    "TraversalSnapshots",
]
