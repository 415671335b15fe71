"""The declared steps by the name that a manifest gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from edge_opcua.features import choices, columns, measures, samplesteps, spectra
from edge_opcua.features.flow import Keys, Step

STEPS: Final[Mapping[str, Callable[[Keys], Step]]] = MappingProxyType(
    {
        # of the samples
        samplesteps.AsItCame.name: samplesteps.AsItCame.parse,
        samplesteps.Cut.name: samplesteps.Cut.parse,
        samplesteps.Resample.name: samplesteps.Resample.parse,
        samplesteps.Detrend.name: samplesteps.Detrend.parse,
        # from the samples to features
        measures.Statistics.name: measures.Statistics.parse,
        spectra.FftBands.name: spectra.FftBands.parse,
        spectra.EnvelopeSpectrum.name: spectra.EnvelopeSpectrum.parse,
        measures.Flatten.name: measures.Flatten.parse,
        measures.Context.name: measures.Context.parse,
        # of either
        "difference": choices.parse_difference,
        columns.Normalise.name: columns.Normalise.parse,
        columns.Clip.name: columns.Clip.parse,
        columns.Logarithm.name: columns.Logarithm.parse,
        choices.Select.name: choices.Select.parse,
        # of the features
        choices.OneHot.name: choices.OneHot.parse,
    }
)
"""What reads the table of each step."""
