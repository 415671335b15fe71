"""Names as another vendor's stack has them: exported NodeSet2 files loaded by node-opcua, and FindAlias."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edge_opcua.cli import main
from tests.interop.node_remote import HERE, Remote, require_node
from tests.opcua.plant import Plant

TOML = """\
version = 1
[site]
name = "plant-1"
machine = "Press01"
manufacturer = "Example Presses"
[[devices]]
name = "press"
driver = "s7"
url = "s7://192.0.2.1?rack=0&slot=1"
tags = "press.csv"
"""
TABLE = """\
name,address,unit,low,high,true_name,states
speed,DB1.DBD4:REAL,1/min,0,70,,
profile,DB1.DBW10:INT[3],mm,,,,
guard,DB1.DBX0.1:BOOL,,,,closed,
state,DB1.DBW20:INT,,,,,0=Idle; 4=Execute
"""

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


def test_node_opcua_loads_what_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = require_node()
    (tmp_path / "press.csv").write_text(TABLE)
    config = tmp_path / "press.toml"
    config.write_text(TOML)
    assert main(["nodesets", "export", str(config), "--out", str(tmp_path / "out")]) == 0
    files = [line.split("   ")[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    done = subprocess.run(
        [node, str(HERE / "nodeset.js"), "urn:plant-1:plant", *files],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded["index"] == 7
    nodes = loaded["nodes"]
    speed = nodes["ns=7;s=Press01.Process.speed"]
    assert (speed["browseName"], speed["dataType"], speed["type"]) == (
        "7:speed",
        "ns=0;i=10",
        "ns=0;i=17570",
    )
    profile = nodes["ns=7;s=Press01.Process.profile"]
    assert (profile["dataType"], profile["valueRank"]) == ("ns=0;i=4", 1)
    assert nodes["ns=7;s=Press01.Process.speed.EURange"]["value"] == {"low": 0, "high": 70}
    assert nodes["ns=7;s=Press01.Process.speed.EngineeringUnits"]["value"]["unitId"] == 4405556
    assert nodes["ns=7;s=Press01.Process.guard.TrueState"]["value"] == {"text": "closed"}
    states = nodes["ns=7;s=Press01.Process.state.EnumValues"]["value"]
    assert [(each["value"][1], each["displayName"]["text"]) for each in states] == [
        (0, "Idle"),
        (4, "Execute"),
    ]
    assert nodes["ns=7;s=Devices.press"]["type"] == "ns=6;i=1004"
    assert nodes["ns=7;s=Models.LoadModel"]["nodeClass"] == "Method"
    arguments = nodes["ns=7;s=Models.LoadModel.InputArguments"]["value"]
    assert [each["name"] for each in arguments] == ["Name", "Version", "Sha256"]


async def test_node_opcua_finds_a_node_by_its_alias_and_reads_it(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 17 §6.3.2.
    session = await peer.connect(served.server.url, identity)
    try:
        await peer.make("resolveNodeId", "i=23469", name="AliasFor")
        arguments = [
            {"dataType": "String", "value": "press/t%"},
            {"dataType": "NodeId", "value": {"$on": "AliasFor"}},
        ]
        call = {"objectId": "i=23479", "methodId": "i=23485", "inputArguments": arguments}
        answer = await peer.call(session, "call", call)
        assert answer["statusCode"] == 0
        found = answer["outputArguments"][0]["value"]
        assert {each["aliasName"] for each in found} == {"7:press/tonnage", "7:press/total"}
        (node_id,) = found[0]["referencedNodes"]
        read = await peer.call(session, "read", {"nodeId": node_id, "attributeId": 3})
        assert read["value"]["value"] == "7:tonnage"
    finally:
        await peer.leave()
