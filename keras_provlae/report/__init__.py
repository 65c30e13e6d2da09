"""One self-contained page about a trained model."""

from keras_provlae.report.writing import write_report

__all__ = ["write_report"]
