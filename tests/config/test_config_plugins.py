"""Looking plugins up by name."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from edge_opcua import plugins
from edge_opcua.plugins import DRIVERS, InstalledPlugins, PluginBrokenError, PluginNotFoundError


def test_the_drivers_of_the_package_are_installed() -> None:
    assert {"modbus", "s7"} <= set(InstalledPlugins().names(DRIVERS))
    assert InstalledPlugins().load(DRIVERS, "s7").__name__ == "S7Driver"


def test_only_the_configured_name_is_imported() -> None:
    program = (
        "import sys; from edge_opcua.plugins import *;"
        "InstalledPlugins().names(DRIVERS); InstalledPlugins().load(DRIVERS, 'modbus');"
        "sys.exit('edge_opcua.drivers.s7' in sys.modules or 'snap7' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=15)


@pytest.mark.parametrize(
    ("name", "ending"),
    [("modbuss", 'did you mean "modbus"?'), ("profibus", "there are: ethernet-ip, modbus, opcua, s7")],
)
def test_an_unknown_name_says_what_there_is(name: str, ending: str) -> None:
    with pytest.raises(PluginNotFoundError, match="no driver is called") as caught:
        InstalledPlugins().load(DRIVERS, name)
    assert str(caught.value).endswith(ending)
    assert caught.value.known == ("ethernet-ip", "modbus", "opcua", "s7")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("edge_opcua.no_such_module:X", "No module named 'edge_opcua.no_such_module'"),
        ("edge_opcua.errors:NoSuchDriver", "has no attribute 'NoSuchDriver'"),
    ],
)
def test_a_plugin_whose_import_fails_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    entry = EntryPoint("half", value, DRIVERS)
    monkeypatch.setattr(plugins, "_installed", lambda _group: (entry,))
    with pytest.raises(PluginBrokenError) as caught:
        InstalledPlugins().load(DRIVERS, "half")
    assert reason in caught.value.reason
