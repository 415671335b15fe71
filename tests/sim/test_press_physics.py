"""The strokes that training, tests and the simulated press share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_opcua.sim.physics import (
    SAMPLE_COUNT,
    SAMPLE_RATE_HZ,
    WIRE_BREAK_TONNAGE_KN,
    Fault,
    PressPhysics,
    stroke_waveform,
)

WEARS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
STROKES = range(300, 330)


def band_energy(waveform: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    frequency_hz = np.fft.rfftfreq(SAMPLE_COUNT, 1 / SAMPLE_RATE_HZ)
    return float(spectrum[(frequency_hz >= low_hz) & (frequency_hz < high_hz)].sum())


def mean_energies(low_hz: float, high_hz: float) -> list[float]:
    physics = PressPhysics(7)
    return [
        float(np.mean([band_energy(physics.stroke(n, wear=wear).waveform, low_hz, high_hz) for n in STROKES]))
        for wear in WEARS
    ]


def test_the_same_seed_stroke_and_wear_give_the_same_bytes() -> None:
    one = PressPhysics(7).stroke(41, wear=0.3)
    again = PressPhysics(7)
    again.stroke(40, wear=0.9)  # what was asked before does not matter

    other = again.stroke(41, wear=0.3)

    assert other.raw.tobytes() == one.raw.tobytes()
    assert (other.tonnage, other.die_temp, other.oil_temp) == (one.tonnage, one.die_temp, one.oil_temp)
    np.testing.assert_array_equal(stroke_waveform(41, wear=0.3, seed=7), one.waveform)


def test_another_seed_or_stroke_gives_another_waveform() -> None:
    one = PressPhysics(7).stroke(41, wear=0.3)

    assert PressPhysics(8).stroke(41, wear=0.3).raw.tobytes() != one.raw.tobytes()
    assert PressPhysics(7).stroke(42, wear=0.3).raw.tobytes() != one.raw.tobytes()


def test_wear_raises_200_to_400_hz_steadily_and_well_above_the_scatter() -> None:
    energies = mean_energies(200.0, 400.0)

    assert energies == sorted(energies)
    assert energies[-1] > 30 * energies[0]
    healthy = [band_energy(PressPhysics(7).stroke(n, wear=0.0).waveform, 200.0, 400.0) for n in STROKES]
    assert max(healthy) < energies[WEARS.index(0.25)]


def test_wear_leaves_the_bands_above_900_hz_as_they_are() -> None:
    energies = mean_energies(900.0, 5_000.0)

    assert max(energies) < 1.5 * min(energies)


def test_a_worn_die_needs_more_force() -> None:
    physics = PressPhysics(7)
    healthy = np.mean([physics.stroke(n, wear=0.0).tonnage for n in STROKES])
    worn = np.mean([physics.stroke(n, wear=1.0).tonnage for n in STROKES])

    assert 1.05 * healthy < worn < 1.2 * healthy


def test_two_strokes_of_one_number_differ_by_the_wear_alone() -> None:
    physics = PressPhysics(7)
    healthy, worn = physics.stroke(12, wear=0.0), physics.stroke(12, wear=1.0)

    assert (healthy.die_temp, healthy.oil_temp, healthy.strokes_per_min) == (
        worn.die_temp,
        worn.oil_temp,
        worn.strokes_per_min,
    )


def test_the_press_warms_up_and_its_modes_get_softer() -> None:
    physics = PressPhysics(7)
    frequency_hz = np.fft.rfftfreq(8 * SAMPLE_COUNT, 1 / SAMPLE_RATE_HZ)
    bolster = (frequency_hz > 600.0) & (frequency_hz < 680.0)

    def peak_hz(first: int) -> float:
        found = [
            frequency_hz[bolster][
                np.argmax(
                    np.abs(np.fft.rfft(physics.stroke(n, wear=0.0).waveform, 8 * SAMPLE_COUNT))[bolster]
                )
            ]
            for n in range(first, first + 40)
        ]
        return float(np.mean(found))

    assert physics.stroke(3_000, wear=0.0).die_temp > physics.stroke(0, wear=0.0).die_temp + 20.0
    assert peak_hz(3_000) < peak_hz(0)


def test_an_open_accelerometer_cable_shows_hum_and_the_rail_instead_of_the_stroke() -> None:
    physics = PressPhysics(7)
    sound = physics.stroke(12, wear=0.2)
    broken = physics.stroke(12, wear=0.2, faults=frozenset({Fault.ACCELEROMETER}))

    assert broken.rms > 3 * sound.rms
    assert broken.waveform.max() == pytest.approx(320.0)
    assert broken.tonnage == sound.tonnage


def test_a_broken_strain_gauge_shows_the_overflow_of_its_channel() -> None:
    sound = PressPhysics(7).stroke(12, wear=0.2)
    broken = PressPhysics(7).stroke(12, wear=0.2, faults=frozenset({Fault.TONNAGE}))

    assert broken.tonnage == WIRE_BREAK_TONNAGE_KN
    np.testing.assert_array_equal(broken.raw, sound.raw)


@given(
    seed=st.integers(0, 2**32),
    index=st.integers(0, 100_000),
    wear=st.floats(0.0, 1.0),
    speed=st.floats(10.0, 60.0),
)
@settings(max_examples=25)
def test_no_stroke_reaches_the_rails_of_the_sensor(seed: int, index: int, wear: float, speed: float) -> None:
    stroke = PressPhysics(seed).stroke(index, wear=wear, strokes_per_min=speed)

    assert stroke.raw.shape == (SAMPLE_COUNT,)
    assert stroke.waveform.dtype == np.float32
    assert np.abs(stroke.raw).max() < 32_000
    assert 500.0 < stroke.tonnage < 1_200.0
    assert 15.0 < stroke.oil_temp < stroke.die_temp + 5.0 < 75.0


@pytest.mark.parametrize("wear", [-0.01, 1.01, float("nan")])
def test_wear_outside_its_range_is_refused(wear: float) -> None:
    with pytest.raises(ValueError, match="wear is a share"):
        PressPhysics(7).stroke(1, wear=wear)


def test_a_negative_stroke_is_refused() -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        PressPhysics(7).stroke(-1, wear=0.0)
