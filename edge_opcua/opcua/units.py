"""Engineering units as OPC UA knows them: the common unit texts and their UNECE codes.

Source:
    OPC 10000-8 §5.6.4.3 (EUInformation) and UNECE Recommendation 20. The id of a unit is its code's
    characters as a big-endian number.
"""

from __future__ import annotations

from typing import Final

from asyncua import ua

UNECE_URI: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
UNKNOWN_ID: Final = -1

# Unit text -> (UNECE code, name). Texts are what plant engineers write; several may mean one unit.
_UNITS: Final[dict[str, tuple[str, str]]] = {
    "°C": ("CEL", "degree Celsius"),
    "degC": ("CEL", "degree Celsius"),
    "°F": ("FAH", "degree Fahrenheit"),
    "K": ("KEL", "kelvin"),
    "Pa": ("PAL", "pascal"),
    "kPa": ("KPA", "kilopascal"),
    "MPa": ("MPA", "megapascal"),
    "hPa": ("A97", "hectopascal"),
    "mbar": ("MBR", "millibar"),
    "bar": ("BAR", "bar"),
    "N": ("NEW", "newton"),
    "kN": ("B47", "kilonewton"),
    "MN": ("B73", "meganewton"),
    "N·m": ("NU", "newton metre"),
    "Nm": ("NU", "newton metre"),
    "g": ("GRM", "gram"),
    "kg": ("KGM", "kilogram"),
    "t": ("TNE", "tonne"),
    "µm": ("4H", "micrometre"),
    "mm": ("MMT", "millimetre"),
    "cm": ("CMT", "centimetre"),
    "m": ("MTR", "metre"),
    "m/s": ("MTS", "metre per second"),
    "mm/s": ("C16", "millimetre per second"),
    "m/s²": ("MSK", "metre per second squared"),
    "m/s2": ("MSK", "metre per second squared"),
    "s": ("SEC", "second"),
    "ms": ("C26", "millisecond"),
    "min": ("MIN", "minute"),
    "h": ("HUR", "hour"),
    "Hz": ("HTZ", "hertz"),
    "kHz": ("KHZ", "kilohertz"),
    "1/min": ("C94", "reciprocal minute"),
    "rpm": ("RPM", "revolutions per minute"),
    "r/min": ("RPM", "revolutions per minute"),
    "V": ("VLT", "volt"),
    "mV": ("2Z", "millivolt"),
    "A": ("AMP", "ampere"),
    "mA": ("4K", "milliampere"),
    "W": ("WTT", "watt"),
    "kW": ("KWT", "kilowatt"),
    "kWh": ("KWH", "kilowatt hour"),
    "Ω": ("OHM", "ohm"),
    "l": ("LTR", "litre"),
    "m³": ("MTQ", "cubic metre"),
    "l/min": ("L2", "litre per minute"),
    "m³/h": ("MQH", "cubic metre per hour"),
    "%": ("P1", "percent"),
    "ppm": ("59", "part per million"),
    "dB": ("2N", "decibel"),
    "°": ("DD", "degree [unit of angle]"),
    "rad": ("C81", "radian"),
    "pcs": ("H87", "piece"),
}


def unit_id(code: str) -> int:
    """Return the UnitId of a UNECE code, e.g. 4408652 for ``CEL``."""
    return int.from_bytes(code.encode("ascii"), "big")


def engineering_unit(text: str) -> ua.EUInformation:
    """Return a unit as OPC UA describes it; a text we do not know keeps itself as name and id -1."""
    known = _UNITS.get(text.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"))
    if known is None:
        return ua.EUInformation(
            UnitId=UNKNOWN_ID, DisplayName=ua.LocalizedText(text), Description=ua.LocalizedText(text)
        )
    code, name = known
    return ua.EUInformation(
        NamespaceUri=UNECE_URI,
        UnitId=unit_id(code),
        DisplayName=ua.LocalizedText(text),
        Description=ua.LocalizedText(name, "en"),
    )
