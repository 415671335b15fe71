"""What scipy and scikit-learn make of the windows of a file: run in the environment of a notebook.

    python steps_oracle.py WINDOWS.npz OUT.npz

WINDOWS.npz holds ``samples`` (n, channels, rows), ``rate_hz``, ``features`` (n, k) and ``names`` (n, 1).
"""

import sys

import numpy as np
from scipy import signal, stats
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

given = np.load(sys.argv[1])
samples, rate_hz, features = given["samples"], float(given["rate_hz"]), given["features"]
rows = samples.shape[-1]


def band_rms(values, low_hz, high_hz):
    """Root of the one-sided power spectrum, summed over a band."""
    frequency_hz, power = signal.periodogram(
        values, rate_hz, window="boxcar", detrend=False, scaling="spectrum"
    )
    return np.sqrt(power[..., (frequency_hz >= low_hz) & (frequency_hz < high_hz)].sum(axis=-1))


def band_passed(values, low_hz, high_hz):
    lines, frequency_hz = np.fft.rfft(values), np.fft.rfftfreq(rows, 1.0 / rate_hz)
    return np.fft.irfft(np.where((frequency_hz >= low_hz) & (frequency_hz < high_hz), lines, 0.0), n=rows)


envelope = np.abs(signal.hilbert(band_passed(samples, 200.0, 400.0)))
np.savez(
    sys.argv[2],
    linear=signal.detrend(samples, type="linear"),
    constant=signal.detrend(samples, type="constant"),
    fewer=signal.resample(samples, rows // 2, axis=-1),
    odd=signal.resample(samples, rows // 2 - 1, axis=-1),
    more=signal.resample(samples, 2 * rows, axis=-1),
    bands=np.stack([band_rms(samples, 0.0, 100.0), band_rms(samples, 100.0, 400.0)], axis=-1),
    envelope=band_rms(envelope - envelope.mean(axis=-1, keepdims=True), 5.0, 80.0),
    kurtosis=stats.kurtosis(samples, axis=-1, fisher=False),
    skewness=stats.skew(samples, axis=-1),
    slope=np.array(
        [[stats.linregress(np.arange(rows) / rate_hz, row).slope for row in one] for one in samples]
    ),
    standard=StandardScaler().fit_transform(features),
    minmax=MinMaxScaler().fit_transform(features),
    one_hot=OneHotEncoder(sparse_output=False).fit_transform(given["names"]),
)
