"""``edge-opcua trust --devices``: whom this server believes to be the device that it reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.cli import main
from edge_opcua.security.trust import TrustList
from tests.security.certificates import make

PLC = make("press plc", uri="urn:tests:plc")


def refused(state: Path) -> None:
    root = state / "pki" / "devices"
    for part in ("trusted", "issuers", "rejected"):
        (root / part).mkdir(parents=True)
    lists = TrustList(root)
    lists.record(lists.decide(PLC.der), "192.168.0.10:4840")


def test_a_refused_device_is_shown_trusted_and_distrusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(tmp_path)
    option = ["--devices", "--state", str(tmp_path)]

    assert main(["trust", *option]) == 0
    said = capsys.readouterr().out
    assert PLC.print in said
    assert "192.168.0.10:4840" in said
    assert f"edge-opcua trust --devices --state {tmp_path} N" in said

    assert main(["trust", "1", *option]) == 0
    assert capsys.readouterr().out.startswith(f"trusted: {PLC.print}")  # nothing but the answer
    assert TrustList(tmp_path / "pki" / "devices").decide(PLC.der).trusted
    # A device is no client: it may read nothing here.
    assert not (tmp_path / "pki" / "trusted").exists()

    assert main(["trust", "--list", "--json", *option]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["trusted"]] == ["press plc"]

    assert main(["trust", PLC.print, "--remove", "--json", *option]) == 0
    assert json.loads(capsys.readouterr().out)["trusted"][0]["thumbprint"] == PLC.print
    assert not TrustList(tmp_path / "pki" / "devices").decide(PLC.der).trusted


def test_who_is_unknown_or_gets_a_role_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(tmp_path)
    assert main(["trust", "7", "--devices", "--state", str(tmp_path)]) == 1
    assert "device" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["trust", "1", "--devices", "--role", "operator", "--state", str(tmp_path)])
