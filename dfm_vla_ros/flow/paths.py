"""The probability paths: metric-induced, mixture from uniform noise, mixture from MASK."""

from dfm_vla_ros.flow.metric import MetricPath
from dfm_vla_ros.flow.mixture import MaskedPath, MixturePath
from dfm_vla_ros.flow.path import Path

__all__ = ["MaskedPath", "MetricPath", "MixturePath", "Path"]
