"""Disentanglement and information metrics: take posterior arrays and factors, return numbers."""

from keras_provlae.metrics.binned import histogram_information, histogram_mig, latent_information, modularity
from keras_provlae.metrics.card import MetricCard, Score
from keras_provlae.metrics.classifiers import DCIScores, completeness, dci, disentanglement, explicitness, sap
from keras_provlae.metrics.contexts import ContextEffects, context_effects
from keras_provlae.metrics.evaluation import evaluate, evaluate_codes
from keras_provlae.metrics.fixed_factor import beta_vae_score, factor_vae_score
from keras_provlae.metrics.flow import RungInformation, information_flow
from keras_provlae.metrics.groups import GROUPS
from keras_provlae.metrics.infomec import InfoMECScores, infomec
from keras_provlae.metrics.information import MutualInformation, active_latents, mutual_information
from keras_provlae.metrics.keras_metrics import (
    DCI,
    IRS,
    MIG,
    SAP,
    BetaVAEScore,
    Explicitness,
    FactorVAEScore,
    GaussianTotalCorrelation,
    HistogramMIG,
    InfoMEC,
    LatentInformation,
    MIGSup,
    Modularity,
    PosteriorMetric,
    WassersteinCorrelation,
)
from keras_provlae.metrics.mig import mig, mig_sup
from keras_provlae.metrics.robustness import irs
from keras_provlae.metrics.rung_factors import MapStability, RungFactorMap, map_stability, rung_factor_map
from keras_provlae.metrics.udr import UDRScores, udr
from keras_provlae.metrics.unsupervised import gaussian_total_correlation, wasserstein_correlation

__all__ = [
    "DCI",
    "GROUPS",
    "IRS",
    "MIG",
    "SAP",
    "BetaVAEScore",
    "ContextEffects",
    "DCIScores",
    "Explicitness",
    "FactorVAEScore",
    "GaussianTotalCorrelation",
    "HistogramMIG",
    "InfoMEC",
    "InfoMECScores",
    "LatentInformation",
    "MIGSup",
    "MapStability",
    "MetricCard",
    "Modularity",
    "MutualInformation",
    "PosteriorMetric",
    "RungFactorMap",
    "RungInformation",
    "Score",
    "UDRScores",
    "WassersteinCorrelation",
    "active_latents",
    "beta_vae_score",
    "completeness",
    "context_effects",
    "dci",
    "disentanglement",
    "evaluate",
    "evaluate_codes",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "histogram_information",
    "histogram_mig",
    "infomec",
    "information_flow",
    "irs",
    "latent_information",
    "map_stability",
    "mig",
    "mig_sup",
    "modularity",
    "mutual_information",
    "rung_factor_map",
    "sap",
    "udr",
    "wasserstein_correlation",
]
