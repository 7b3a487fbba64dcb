"""Discrete flow matching over action tokens: paths, losses, solvers and baselines.

Knows nothing of robots or of a particular network: a denoiser is a callable, see `types`.
"""

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.distances import (
    Distance,
    EmbeddingDistance,
    MatrixDistance,
    OrderedDistance,
    per_position,
)
from dfm_vla_ros.flow.losses import cross_entropy, head_log_rates, head_rate_loss, mixture_kl
from dfm_vla_ros.flow.paths import MaskedPath, MetricPath, MixturePath, Path
from dfm_vla_ros.flow.schedules import (
    CosineSchedule,
    LinearSchedule,
    MetricSchedule,
    MixtureSchedule,
    PolynomialSchedule,
)
from dfm_vla_ros.flow.solvers import Solver, SolverConfig
from dfm_vla_ros.flow.types import Denoiser, Prediction, Solution, TraceStep

__all__ = [
    "CosineSchedule",
    "Denoiser",
    "Distance",
    "EmbeddingDistance",
    "FlowError",
    "LinearSchedule",
    "MaskedPath",
    "MatrixDistance",
    "MetricPath",
    "MetricSchedule",
    "MixturePath",
    "MixtureSchedule",
    "OrderedDistance",
    "Path",
    "PolynomialSchedule",
    "Prediction",
    "Solution",
    "Solver",
    "SolverConfig",
    "TraceStep",
    "cross_entropy",
    "head_log_rates",
    "head_rate_loss",
    "mixture_kl",
    "per_position",
]
