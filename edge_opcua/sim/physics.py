"""What one stroke of a stamping press does to its sensors: seeded, without a clock and without I/O.

The press blanks a sheet. In one stroke the punch meets the sheet (a force pulse of some milliseconds), the
sheet fractures and the stored strain energy snaps back (the hard impulse), the slide bottoms out and the
sheet is stripped off the punch. Each event excites the structural modes of frame, slide, bolster and die;
an accelerometer on the die set hears their sum.

A worn punch edge needs more force, tears instead of shearing and lets the die set ring: wear adds energy in
200-400 Hz (three die modes with less damping, and stick-slip while stripping) and some tonnage, little else.
Temperature shifts all modes slowly, so a model must not confuse a warm press with a worn one.

Everything follows from ``(seed, stroke, wear)``: the simulator, the training script and the tests see the
same strokes. Waveforms are quantised like the registers of the vibration unit (0.01 m/s²), which also hides
last-bit differences between the vector units of different processors.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 10_000
SAMPLE_COUNT: Final = 2_000
RESOLUTION_MS2: Final = 0.01
RATED_STROKES_PER_MIN: Final = 18.0
RATED_TONNAGE_KN: Final = 820.0
WIRE_BREAK_TONNAGE_KN: Final = 2_370.3
"""What a 2 000 kN channel shows at the overflow of its analogue input (32 767 of 27 648 counts)."""

_AMBIENT_C: Final = 22.0
_WARM_UP_STROKES: Final = 500.0
_PRE_TRIGGER_S: Final = 0.008
_RAIL_COUNTS: Final = 32_000
_MAINS_HZ: Final = 50.0


class Fault(enum.Enum):
    """A sensor of the cell that is broken."""

    ACCELEROMETER = "accelerometer"
    """The cable is open: no vibration any more, but mains hum, its third harmonic and hits of the rail."""
    TONNAGE = "tonnage"
    """The strain gauge wire is broken: the channel shows its overflow value."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """What the sensors saw of one stroke.

    Args:
        index: Number of the stroke, counted from 0 since the tool was mounted.
        wear: Wear of the die edge, 0 (ground) to 1 (must not run).
        raw: Acceleration, shape ``(2000,)``, in steps of 0.01 m/s² as the unit stores it.
        tonnage: Peak force, kN.
        die_temp: Temperature of the die, °C.
        oil_temp: Temperature of the hydraulic oil, °C.
        strokes_per_min: Speed of the press during this stroke, 1/min.
        part_id: Number of the stamped part.
        faults: Sensors that were broken.
    """

    index: int
    wear: float
    raw: NDArray[np.int16]
    tonnage: float
    die_temp: float
    oil_temp: float
    strokes_per_min: float
    part_id: int
    faults: frozenset[Fault]

    @property
    def waveform(self) -> NDArray[np.float32]:
        """Acceleration at 10 kHz, shape ``(2000,)``, m/s²."""
        return (self.raw * RESOLUTION_MS2).astype(np.float32)

    @property
    def rms(self) -> float:
        """Root mean square of the acceleration over the capture, m/s²."""
        return float(np.sqrt(np.mean(np.square(self.raw * RESOLUTION_MS2))))


@dataclass(frozen=True, slots=True)
class _Mode:
    """One structural mode: where it rings, how it decays, and how much each event of the stroke excites it.

    ``wear_gain`` is the share by which full wear raises the amplitude, ``wear_damping`` the share of the
    damping that full wear takes away.
    """

    frequency_hz: float
    damping: float
    contact: float
    snap: float
    strip: float
    wear_gain: float = 0.0
    wear_damping: float = 0.0


# Amplitudes in m/s² per event at rated force; a small C-frame blanking press, accelerometer on the die set.
_MODES: Final = (
    _Mode(38.0, 0.045, contact=5.0, snap=7.0, strip=1.5),  # frame on its mounts
    _Mode(112.0, 0.035, contact=6.0, snap=13.0, strip=3.0),  # C-frame opening
    _Mode(
        236.0, 0.030, contact=1.2, snap=4.6, strip=2.0, wear_gain=3.4, wear_damping=0.45
    ),  # die set, rocking
    _Mode(291.0, 0.027, contact=1.0, snap=5.2, strip=2.6, wear_gain=4.6, wear_damping=0.50),  # punch holder
    _Mode(348.0, 0.025, contact=0.8, snap=4.0, strip=2.2, wear_gain=3.8, wear_damping=0.45),  # stripper plate
    _Mode(640.0, 0.020, contact=1.6, snap=15.0, strip=2.0, wear_gain=0.15),  # bolster
    _Mode(1_180.0, 0.017, contact=0.9, snap=19.0, strip=1.6, wear_gain=-0.12),  # slide
    _Mode(2_350.0, 0.014, contact=0.4, snap=16.0, strip=0.8, wear_gain=-0.18),  # punch, longitudinal
    _Mode(3_420.0, 0.012, contact=0.2, snap=9.0, strip=0.4, wear_gain=-0.18),  # guide posts
)

# When the events happen after the trigger, how long their force pulse lasts, and how much both scatter.
_CONTACT_S: Final = 0.0
_SNAP_S: Final = 0.0065
_STRIP_S: Final = 0.058
_PULSE_S: Final = (0.0030, 0.00022, 0.0018)

_FREQUENCY_HZ: Final = np.array([mode.frequency_hz for mode in _MODES])
_DAMPING: Final = np.array([mode.damping for mode in _MODES])
_EXCITED: Final = np.array([(mode.contact, mode.snap, mode.strip) for mode in _MODES])
_WEAR_GAIN: Final = np.array([mode.wear_gain for mode in _MODES])
_WEAR_DAMPING: Final = np.array([mode.wear_damping for mode in _MODES])
_BLOCK: Final = 50  # samples that share an exponential


class PressPhysics:
    """A press with one tool, told apart from its sisters by the seed of its scatter.

    Args:
        seed: Seed of the part-to-part scatter and of the slow drift; the structure is the same for all.
    """

    __slots__ = ("_drift_phase", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._drift_phase = _generator(seed, 0, stream=0).uniform(0.0, 2.0 * math.pi, size=3)

    def stroke(
        self,
        index: int,
        *,
        wear: float,
        strokes_per_min: float = RATED_STROKES_PER_MIN,
        faults: frozenset[Fault] = frozenset(),
    ) -> Stroke:
        """Return what the sensors see of one stroke.

        Args:
            index: Number of the stroke, 0 or more; warm-up and drift follow from it.
            wear: Wear of the die edge, 0..1.
            strokes_per_min: Speed of the press, 1/min.
            faults: Sensors that are broken.

        Raises:
            ValueError: ``index`` is negative or ``wear`` outside 0..1.
        """
        if index < 0:
            raise ValueError(f"a stroke is numbered from 0, not {index}")
        if not 0.0 <= wear <= 1.0:
            raise ValueError(f"wear is a share between 0 and 1, not {wear}")
        scatter = _generator(self.seed, index, stream=1)
        # Every draw happens in the same order whatever the wear and the faults are, so that two strokes of
        # one index differ by the wear alone.
        thickness, hardness, rate_jitter = scatter.normal(1.0, (0.012, 0.015, 0.004))
        die_temp, oil_temp = self._temperatures(index, scatter)
        force = thickness * hardness * (1.0 + 0.11 * wear) * (1.0 - 0.0004 * (die_temp - 50.0))
        gauge_noise_kn = scatter.normal(0.0, 2.5)
        acceleration = _vibration(
            scatter,
            wear=wear,
            force=force * (strokes_per_min / RATED_STROKES_PER_MIN) ** 0.3,
            die_temp=die_temp,
        )
        if Fault.ACCELEROMETER in faults:
            acceleration = _open_cable(_generator(self.seed, index, stream=2))
        tonnage = RATED_TONNAGE_KN * force + gauge_noise_kn
        return Stroke(
            index=index,
            wear=wear,
            raw=_quantised(acceleration),
            tonnage=WIRE_BREAK_TONNAGE_KN if Fault.TONNAGE in faults else float(tonnage),
            die_temp=die_temp,
            oil_temp=oil_temp,
            strokes_per_min=float(strokes_per_min * rate_jitter),
            part_id=100_000 + index,
            faults=faults,
        )

    def _temperatures(self, index: int, scatter: np.random.Generator) -> tuple[float, float]:
        """Return the temperatures of die and oil in °C: warm-up, slow wander of the hall, sensor noise."""
        warm = 1.0 - math.exp(-(index + 60.0) / _WARM_UP_STROKES)
        hall = 1.6 * math.sin(2.0 * math.pi * index / 1_900.0 + self._drift_phase[0])
        coolant = 0.7 * math.sin(2.0 * math.pi * index / 410.0 + self._drift_phase[1])
        oil_cycle = 0.5 * math.sin(2.0 * math.pi * index / 150.0 + self._drift_phase[2])
        die_noise, oil_noise = scatter.normal(0.0, (0.12, 0.08))
        die = _AMBIENT_C + 36.0 * warm + hall + coolant + die_noise
        oil = _AMBIENT_C + 21.0 * warm**1.5 + 0.6 * hall + oil_cycle + oil_noise
        return float(die), float(oil)


def stroke_waveform(
    stroke: int, *, wear: float, seed: int, sensor_fault: Fault | None = None
) -> NDArray[np.float32]:
    """Return the acceleration of one stroke at 10 kHz, shape ``(2000,)``, m/s².

    Args:
        stroke: Number of the stroke, 0 or more.
        wear: Wear of the die edge, 0..1.
        seed: Seed of the press.
        sensor_fault: A broken sensor, or None.
    """
    faults = frozenset[Fault]() if sensor_fault is None else frozenset({sensor_fault})
    return PressPhysics(seed).stroke(stroke, wear=wear, faults=faults).waveform


def _generator(seed: int, index: int, *, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, stream, index))))


def _vibration(
    scatter: np.random.Generator, *, wear: float, force: float, die_temp: float
) -> NDArray[np.float64]:
    """Return what the sensor hears of one healthy or worn stroke, in m/s²."""
    time_s = np.arange(SAMPLE_COUNT) / SAMPLE_RATE_HZ - _PRE_TRIGGER_S
    event_s = np.array((_CONTACT_S, _SNAP_S, _STRIP_S)) + scatter.normal(0.0, (0.0002, 0.00025, 0.0012))
    event_s[1] += 0.0012 * wear  # a blunt edge bends the sheet further before it fractures
    strength = force * scatter.normal(1.0, (0.03, 0.045, 0.08))
    amplitude_scatter = scatter.normal(1.0, 0.05, size=(len(_MODES), 3))
    frequency_scatter = scatter.normal(1.0, 0.0025, size=len(_MODES))
    softening = 1.0 - 0.00022 * (die_temp - 50.0)  # stiffness of steel and of the oil film falls with heat
    frequency_hz = _FREQUENCY_HZ * softening * frequency_scatter
    damping = _DAMPING * (1.0 - _WEAR_DAMPING * wear)
    amplitude = _EXCITED * (1.0 + _WEAR_GAIN[:, None] * wear) * strength * amplitude_scatter
    total = np.zeros(SAMPLE_COUNT)
    for event, pulse_s in enumerate(_PULSE_S):
        total += _ring_down(time_s - event_s[event], frequency_hz, damping, amplitude[:, event], pulse_s)
    noise = scatter.normal(0.0, 1.0, size=(2, SAMPLE_COUNT))
    total += _stick_slip(noise[0], time_s - event_s[2], wear=wear, strength=force)
    running = 0.9 * np.sin(2.0 * math.pi * 24.6 * time_s + scatter.uniform(0.0, 2.0 * math.pi))  # main drive
    result: NDArray[np.float64] = total + running + 0.55 * noise[1]
    return result


def _ring_down(
    time_s: NDArray[np.float64],
    frequency_hz: NDArray[np.float64],
    damping: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    pulse_s: float,
) -> NDArray[np.float64]:
    """Return the response of all modes to a half-sine force pulse that starts at time 0.

    A mode follows the pulse while it lasts (its share sinks once the pulse is longer than half a period,
    as in a shock response spectrum) and decays freely afterwards; a raised-cosine onset as long as the pulse
    keeps the slope finite, as the mass of the die does.

    Decay and oscillation are one complex exponential, e^(at), and t is the time of a block of samples and the
    one within it: e^(a(u + v)) = e^(au) e^(av). So a stroke needs few exponentials, and one product of
    matrices sums the modes.

    Args:
        time_s: Times of the samples, evenly spaced, shape ``(2000,)``.
        frequency_hz: Of the undamped modes, shape ``(modes,)``.
        damping: Their damping ratios.
        amplitude: How much the event excites them, m/s².
        pulse_s: Length of the pulse.
    """
    omega = 2.0 * math.pi * frequency_hz
    share = 1.0 / np.sqrt(1.0 + (2.0 * frequency_hz * pulse_s) ** 2)
    exponent = (omega * (1j * np.sqrt(1.0 - damping * damping) - damping))[:, None]
    blocks = (amplitude * share)[:, None] * np.exp(exponent * time_s[::_BLOCK])
    within = np.exp(exponent * (np.arange(_BLOCK) / SAMPLE_RATE_HZ))
    ringing = blocks.real.T @ within.imag + blocks.imag.T @ within.real
    onset = 0.5 - 0.5 * np.cos(math.pi * np.clip(time_s / pulse_s, 0.0, 1.0))
    response: NDArray[np.float64] = onset * ringing.reshape(-1)
    return response


def _stick_slip(
    noise: NDArray[np.float64], time_s: NDArray[np.float64], *, wear: float, strength: float
) -> NDArray[np.float64]:
    """Return the friction noise of stripping in m/s²: noise of 200-400 Hz for 70 ms, louder with wear."""
    spectrum = np.fft.rfft(noise)
    frequency_hz = np.fft.rfftfreq(SAMPLE_COUNT, 1.0 / SAMPLE_RATE_HZ)
    band = np.exp(-(((frequency_hz - 300.0) / 70.0) ** 2))
    shaped = np.fft.irfft(spectrum * band, SAMPLE_COUNT)
    window = np.where(
        (time_s > 0.0) & (time_s < 0.07), np.sin(math.pi * np.clip(time_s / 0.07, 0.0, 1.0)), 0.0
    )
    result: NDArray[np.float64] = strength * (1.2 + 16.0 * wear**1.5) * window * shaped
    return result


def _open_cable(scatter: np.random.Generator) -> NDArray[np.float64]:
    """Return what the input shows without its sensor, in m/s²: hum, noise, and hits of the upper rail."""
    time_s = np.arange(SAMPLE_COUNT) / SAMPLE_RATE_HZ
    phase = scatter.uniform(0.0, 2.0 * math.pi, size=2)
    hum = 6.5 * np.sin(2.0 * math.pi * _MAINS_HZ * time_s + phase[0])
    hum += 2.2 * np.sin(2.0 * math.pi * 3.0 * _MAINS_HZ * time_s + phase[1])
    result: NDArray[np.float64] = hum + scatter.normal(0.0, 0.25, size=SAMPLE_COUNT)
    for start in scatter.integers(0, SAMPLE_COUNT - 12, size=4):
        result[start : start + 12] = _RAIL_COUNTS * RESOLUTION_MS2
    return result


def _quantised(acceleration: NDArray[np.float64]) -> NDArray[np.int16]:
    """Return the samples as the unit stores them; what the sensor cannot show ends at its rails."""
    counts = np.rint(acceleration / RESOLUTION_MS2)
    return np.clip(counts, -_RAIL_COUNTS, _RAIL_COUNTS).astype(np.int16)
