"""``check --security``: what it prints of a state directory, and what it finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command import security as securityreport
from edge_opcua.app.command.filemodes import file_modes
from edge_opcua.app.command.security import Report, gather, render, role_table
from edge_opcua.config.modelcare import TelemetryConfig
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.security.pki import open_pki
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.security.users import Cost, UserStore
from edge_opcua.testing import ManualClock
from tests.security.certificates import make

EXAMPLE = Path("examples/press/press.toml")
SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory after a first day: keys, two clients, a stranger, a user."""
    root = tmp_path_factory.mktemp("state")
    root.chmod(0o700)
    StateDir(root).create()
    pki = open_pki(root / "pki", key_bits=2048)
    trust = TrustList(pki.root)
    trust.add(make("scada").der, roles=frozenset({Role.OBSERVER}))
    trust.record(trust.decide(make("stranger").der), "10.0.0.7:40000")
    UserStore(root, cost=Cost(n=2**14)).add("anna", frozenset({Role.SECURITY_ADMIN}), password=SECRET)
    return root


def configuration(tmp_path: Path, opcua: str = "") -> tuple[EdgeConfig, Path]:
    file = tmp_path / "press.toml"
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "[opcua]" in text
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    changes: dict[str, Any] = json.loads(opcua) if opcua else {}
    base = {
        "version": 1,
        "site": {"name": "plant-1", "machine": "Press01"},
        "opcua": {"listen": "192.168.0.5:4840", **changes},
        "devices": [{"name": "press", "driver": "s7", "url": "s7://192.168.0.10?rack=0&slot=1"}],
    }
    return EdgeConfig.model_validate(base), file


def looked_at(state: Path, tmp_path: Path, **opcua: Any) -> Report:
    config, file = configuration(tmp_path, json.dumps(opcua))
    return gather(config, file, state, SystemClock())


def what(report: Report) -> str:
    return "\n".join(finding.what for finding in report.findings if not finding.note)


def test_a_server_as_it_is_delivered_has_no_findings(state: Path, tmp_path: Path) -> None:
    report = looked_at(state, tmp_path)
    assert what(report) == ""
    assert "1 refused client waiting" in "\n".join(one.what for one in report.findings if one.note)


def test_it_names_everybody_and_everything_and_no_secret(state: Path, tmp_path: Path) -> None:
    report = looked_at(state, tmp_path)
    text = render(report)
    for word in (
        "tcp 192.168.0.5:4840",
        str(StateDir(state).control_socket),
        "Basic256Sha256 (SignAndEncrypt)",
        "RSA 2048 bits",
        "scada",
        "Observer",
        "stranger   from 10.0.0.7:40000",
        "anna   SecurityAdmin   password",
        "browse read write history events  Operator, Supervisor",
        "ok    0600",
        "sessions 50",
    ):
        assert word in text
    assert text.splitlines()[-1] == "0 findings, 1 note"
    assert SECRET not in text
    assert "PRIVATE" not in json.dumps(report.facts)


def test_none_and_a_client_that_acts_without_a_user_are_findings(tmp_path: Path, state: Path) -> None:
    report = looked_at(state, tmp_path, security=["Basic256Sha256", "None"])
    assert "security policy None is offered" in what(report)
    other = tmp_path / "other"
    trust = TrustList(open_pki(other / "pki", key_bits=2048).root)
    trust.add(make("scada").der, roles=frozenset({Role.OPERATOR}))
    other.chmod(0o700)
    assert "scada may act as Operator without anybody signing in" in what(looked_at(other, tmp_path))
    assert f"edge-opcua trust --state {other} " in render(looked_at(other, tmp_path))
    signing_in = looked_at(other, tmp_path, anonymous=False)
    assert what(signing_in) == "nobody can connect: there are no users, and anonymous is false"


@pytest.mark.parametrize(
    ("address", "open_to_others"),
    [
        ("127.0.0.1:9464", False),
        ("[::1]:9464", False),
        ("localhost:9464", False),
        ("0.0.0.0:9464", True),
        ("edge:9464", True),
    ],
)
def test_metrics_are_told_and_are_a_finding_beyond_the_machine(
    state: Path, tmp_path: Path, address: str, *, open_to_others: bool
) -> None:
    config, file = configuration(tmp_path)
    config = config.model_copy(update={"telemetry": TelemetryConfig(prometheus=address)})
    report = gather(config, file, state, SystemClock())
    assert ("metrics", f"tcp {address}, plain HTTP, read only") in [
        (row["what"], row["where"]) for row in report.facts["listens"]
    ]
    assert ("without a password" in what(report)) == open_to_others


def test_files_that_others_can_use_are_findings_with_the_command_that_mends_them(tmp_path: Path) -> None:
    root = tmp_path / "state"
    open_pki(root / "pki", key_bits=2048)
    StateDir(root).create()
    root.chmod(0o755)
    key, certificate = root / "pki" / "own" / "key.pem", root / "pki" / "own" / "cert.der"
    key.chmod(0o640)
    certificate.chmod(0o646)
    found = {one.path: one for one in file_modes(root) if one.too_open}
    assert found[root].fix == f"chmod 700 {root}"
    assert found[key].fix == f"chmod 600 {key}"
    assert found[certificate].fix == f"chmod 644 {certificate}"
    report = looked_at(root, tmp_path)
    assert f"{key} can be used by others (0640)" in what(report)
    assert key.stat().st_mode & 0o777 == 0o640  # looking mends nothing


def test_a_configuration_with_a_password_is_for_the_server_only(tmp_path: Path) -> None:
    config, file = configuration(tmp_path)
    device = config.devices[0].model_copy(update={"url": "s7://anna:secret@192.168.0.10"})
    file.chmod(0o666)
    report = gather(
        config.model_copy(update={"devices": (device,)}), file, tmp_path / "nowhere", SystemClock()
    )
    assert "can be changed by others (0666)" in what(report)
    assert "holds the password of press" in what(report)
    assert "secret" not in render(report)


def test_devices_that_are_believed_are_listed_and_those_without_security_are_findings(
    state: Path, tmp_path: Path
) -> None:
    config, file = configuration(tmp_path)
    plain = DeviceConfig.model_validate(
        {"name": "robot", "driver": "opcua", "url": "opc.tcp://10.0.0.9", "options": {"security": "None"}}
    )
    safe = plain.model_copy(update={"name": "plc", "options": {}})
    (state / "pki" / "devices" / "trusted").mkdir(parents=True, exist_ok=True)
    plc = make("simatic")
    TrustList(state / "pki" / "devices").add(plc.der)

    report = gather(config.model_copy(update={"devices": (plain, safe)}), file, state, SystemClock())

    assert "robot is read without security" in what(report)
    assert "plc is read" not in what(report)
    assert plc.print in render(report)


def test_what_expires_is_a_finding_before_it_does(state: Path, tmp_path: Path) -> None:
    config, file = configuration(tmp_path)
    late = ManualClock(utc_ns=SystemClock().utc_ns() + 4000 * 86_400 * 10**9)
    assert "the certificate of the trusted scada expired" in what(gather(config, file, state, late))


def test_an_exception_that_lets_everybody_write_is_a_finding(state: Path, tmp_path: Path) -> None:
    rule = {"nodes": "Press01.*", "role": "anonymous", "permissions": ["read", "write"]}
    report = looked_at(state, tmp_path, access=[rule])
    assert "may write Press01.* without signing in" in what(report)
    assert report.facts["access_rules"] == [{**rule, "permissions": ["read", "write"]}]


def test_the_table_of_roles_is_the_one_that_is_enforced() -> None:
    table = role_table()
    assert table["set-point"]["Operator"] == ["browse", "read", "write", "history", "events"]
    assert list(table["trust lists, certificates and roles"]) == ["SecurityAdmin"]
    assert "events" not in table["audit event types"]["Operator"]


def test_the_command_prints_json_and_ends_with_1_on_findings(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert securityreport.main(EXAMPLE, tmp_path / "none", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["count"]) == ("edge-opcua.security/1", 0)
    key = state / "pki" / "own" / "key.pem"
    key.chmod(0o644)
    try:
        assert securityreport.main(EXAMPLE, state, as_json=False) == 1
    finally:
        key.chmod(0o600)
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 finding, ")
    (state / "users.json").chmod(0o644)
    assert securityreport.main(EXAMPLE, state, as_json=False) == 1
    assert "users.json can be used by others (0644)" in capsys.readouterr().out
    assert securityreport.main(tmp_path / "missing.toml", state, as_json=False) == 2
    assert capsys.readouterr().out == ""
    assert securityreport.main(tmp_path / "missing.toml", state, as_json=True) == 2
    assert [one["code"] for one in json.loads(capsys.readouterr().out)["problems"]] == ["C107"]
