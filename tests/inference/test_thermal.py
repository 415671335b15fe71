"""Heat as platforms tell it: zones and trip points, counters, clocks, a Raspberry Pi's word, a card's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edge_opcua.inference.thermal import CALM_LOOKS, Place, Thermometer


def zone(root: Path, number: int, kind: str, celsius: float, **trips: float) -> Path:
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "type").write_text(kind + "\n")
    (folder / "temp").write_text(f"{celsius * 1000:.0f}\n")
    for index, (trip, at) in enumerate(trips.items()):
        (folder / f"trip_point_{index}_type").write_text(trip + "\n")
        (folder / f"trip_point_{index}_temp").write_text(f"{at * 1000:.0f}\n")
    return folder / "temp"


def file(root: Path, name: str, content: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def policy(root: Path, *, most: int, allowed: int, present: int) -> None:
    for name, value in (
        ("cpuinfo_max_freq", most),
        ("scaling_max_freq", allowed),
        ("scaling_cur_freq", present),
    ):
        file(root, f"sys/devices/system/cpu/cpufreq/policy0/{name}", f"{value}\n")


def test_a_machine_that_tells_nothing_is_neither_warm_nor_slow(tmp_path: Path) -> None:
    heat = Thermometer(root=tmp_path).read()
    assert math.isnan(heat.celsius)
    assert (heat.warm, heat.throttled, heat.factor, heat.where) == (False, False, 1.0, "")


def test_it_is_warm_ten_kelvin_below_what_the_machine_itself_names(tmp_path: Path) -> None:
    # A fan is switched at "active": that is no sign of trouble.
    temperature = zone(tmp_path, 0, "x86_pkg_temp", 84, active=50, passive=95, critical=105)
    thermometer = Thermometer(root=tmp_path)
    heat = thermometer.read()
    assert (heat.celsius, heat.warm) == (84.0, False)
    temperature.write_text("85000\n")
    assert thermometer.read().warm
    temperature.write_text("83000\n")  # hysteresis: no flutter around the limit
    assert thermometer.read().warm
    temperature.write_text("81900\n")
    assert not thermometer.read().warm


def test_the_place_nearest_to_its_own_limit_is_told(tmp_path: Path) -> None:
    zone(tmp_path, 0, "gpu-thermal", 70, critical=110)
    zone(tmp_path, 1, "nvme", 65, critical=70)
    zone(tmp_path, 2, "ambient", 90)  # names no limit, so it says nothing about being too hot
    heat = Thermometer(root=tmp_path).read()
    assert heat.where == "nvme 65 °C"
    assert heat.warm


def test_the_configured_temperature_holds_for_all_places(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", 61, critical=110)
    assert Thermometer(warm_celsius=60, root=tmp_path).read().warm
    assert not Thermometer(warm_celsius=62, root=tmp_path).read().warm


def test_sensors_that_are_asleep_or_talk_nonsense_are_left_out(tmp_path: Path) -> None:
    temperature = zone(tmp_path, 0, "cpu-thermal", 50, critical=0)  # a trip point of 0 is not set
    zone(tmp_path, 1, "iwlwifi", -274)
    zone(tmp_path, 2, "broken", 0).write_text("")
    thermometer = Thermometer(root=tmp_path)
    assert thermometer.read().where == "cpu-thermal 50 °C"
    temperature.unlink()
    assert math.isnan(thermometer.read().celsius)


def test_a_counter_that_rises_means_slowed_down_and_costs_are_scaled_by_the_lost_clock(
    tmp_path: Path,
) -> None:
    zone(tmp_path, 0, "x86_pkg_temp", 70, passive=95)
    name = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    counter = file(tmp_path, name, "7\n")  # what happened before we started is over
    policy(tmp_path, most=3_000_000, allowed=3_000_000, present=1_200_000)
    thermometer = Thermometer(root=tmp_path)
    assert not thermometer.read().throttled  # a low clock alone is an idle machine
    counter.write_text("9\n")
    heat = thermometer.read()
    assert (heat.throttled, heat.warm, heat.factor) == (True, True, 2.5)
    assert heat.where == "x86_pkg_temp 70 °C; cpu0 core_throttle_count 9"
    assert not thermometer.read().throttled


def test_best_effort_is_not_served_and_shed_in_turns_where_a_machine_slows_down_for_moments(
    tmp_path: Path,
) -> None:
    zone(tmp_path, 0, "x86_pkg_temp", 70, passive=95)
    name = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    counter = file(tmp_path, name, "7\n")
    thermometer = Thermometer(root=tmp_path)
    assert not thermometer.read().warm
    for count in range(8, 11):
        counter.write_text(f"{count}\n")
        assert thermometer.read().warm
        quiet = [thermometer.read() for _ in range(CALM_LOOKS - 1)]
        assert all(heat.warm and not heat.throttled for heat in quiet)
    assert not thermometer.read().warm


def test_a_processor_that_is_held_down_by_the_kernel_is_slowed_down(tmp_path: Path) -> None:
    file(tmp_path, "sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    file(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "4\n")
    file(tmp_path, "sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
    state = file(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "0\n")
    policy(tmp_path, most=2_000_000, allowed=1_000_000, present=1_000_000)
    thermometer = Thermometer(root=tmp_path)
    assert not thermometer.read().throttled
    state.write_text("3\n")
    heat = thermometer.read()
    assert (heat.throttled, heat.factor, heat.where) == (True, 2.0, "thermal-cpufreq-0 at step 3")


@pytest.mark.parametrize(
    ("word", "slow"), [("0", False), ("50000", False), ("1", False), ("4", True), ("8", True)]
)
def test_a_raspberry_pi_tells_now_not_what_was(tmp_path: Path, word: str, slow: bool) -> None:
    # Bit 0 is under-voltage alone; bits 16 and up say what has happened since the start.
    file(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", f"{word}\n")
    assert Thermometer(root=tmp_path).read().throttled is slow


def test_over_current_of_a_jetson_counts(tmp_path: Path) -> None:
    counter = file(tmp_path, "sys/class/hwmon/hwmon3/oc1_event_cnt", "0\n")
    thermometer = Thermometer(root=tmp_path)
    counter.write_text("1\n")
    assert thermometer.read().throttled


class Card:
    def __init__(self, *places: Place) -> None:
        self.seen = list(places)

    def places(self) -> list[Place]:
        return self.seen


def test_a_card_that_slowed_down_scales_the_costs(tmp_path: Path) -> None:
    card = Card(Place("NVIDIA T4", 88, 90, "slowed down by its hardware for heat", 1.6))
    heat = Thermometer(accelerators=[card], root=tmp_path).read()
    assert (heat.celsius, heat.warm, heat.throttled, heat.factor) == (88, True, True, 1.6)
    assert heat.where == "NVIDIA T4 88 °C; NVIDIA T4: slowed down by its hardware for heat"


def test_no_clock_makes_the_factor_endless(tmp_path: Path) -> None:
    card = Card(Place("card", 88, 90, "slowed", 100.0))
    assert Thermometer(accelerators=[card], root=tmp_path).read().factor == 10.0
