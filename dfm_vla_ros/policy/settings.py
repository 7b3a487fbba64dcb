"""How a policy decodes, as the text that goes with its chunks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import dacite

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.model.folder import DecoderConfig
from dfm_vla_ros.model.unified_weights import Precision


class DecodingError(DfmVlaError):
    """The text is none that this version wrote."""


@dataclass(frozen=True)
class Decoding:
    """What beside checkpoint, observation, seed and guidance decides the tokens.

    Attributes:
        decoder: steps and choices.
        caching: what evaluations keep.
        precision: of a unified checkpoint's language model; None: as in the file.
    """

    decoder: DecoderConfig
    caching: Caching
    precision: Precision | None = None


def described(decoder: DecoderConfig, caching: Caching, precision: Precision | None) -> str:
    """Return the settings as JSON."""
    return json.dumps(asdict(Decoding(decoder, caching, precision)), sort_keys=True)


def parse(text: str) -> Decoding:
    """Return the settings that `described` wrote.

    Raises:
        DecodingError: it is no such text, or of a version with other settings.
    """
    try:
        content: Any = json.loads(text)
        return dacite.from_dict(Decoding, content, dacite.Config(strict=True))
    except (ValueError, TypeError, AttributeError, dacite.DaciteError, DfmVlaError) as error:
        raise DecodingError(
            f"decoding {text[:80]!r} is not understood ({error}); replay it with the version "
            "that recorded it"
        ) from error
