"""What may stand in the options of a remote pipeline, and what of it is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.serving.wanted import backend_for
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote import RemoteBackend
from edge_opcua.inference.backends.remote.settings import RemoteOptions, parse_url, read_options

SECRET = {"file": "/etc/edge-opcua/secret"}


@pytest.mark.parametrize(
    ("url", "scheme", "authority", "path"),
    [
        ("http://triton", "http", "triton:8000", ""),
        ("http://[fd00::7]:9000/", "http", "[fd00::7]:9000", ""),
        ("https://gpu.plant/models/", "https", "gpu.plant:443", "/models"),
        ("grpc://10.0.0.7", "grpc", "10.0.0.7:8001", ""),
        ("grpcs://10.0.0.7:1", "grpcs", "10.0.0.7:1", ""),
    ],
)
def test_urls_that_lead_to_a_server(url: str, scheme: str, authority: str, path: str) -> None:
    target = parse_url(RemoteOptions(url=url).url)
    assert (target.scheme, target.authority, target.path) == (scheme, authority, path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "triton:8000"},
        {"url": "ftp://triton"},
        {"url": "http://"},
        {"url": "http://triton:99999"},
        {"url": "http://triton:0"},
        {"url": "http://user:secret@triton"},
        {"url": "http://triton?x=1"},
        {"url": "http://tri ton"},
        {"url": "http://triton/\r\nX: 1"},
        {"url": "grpc://triton/path"},
        {"url": "http://triton", "unknown": 1},
        {"url": "http://triton", "timeout_ms": 0},
        {"url": "https://triton", "user": "line1"},
        {"url": "https://triton", "password": SECRET},
        {"url": "https://triton", "user": "li:ne", "password": SECRET},
        {"url": "https://triton", "user": "line1", "password": SECRET, "token": SECRET},
        {"url": "https://triton", "token": {"file": "token"}},
        {"url": "https://triton", "ca": "ca.pem"},
        {"url": "https://triton", "certificate": "/c.pem"},
        {"url": "http://triton", "ca": "/ca.pem"},
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        read_options(options)
    assert caught.value.code == "M579"
    assert "secret@" not in str(caught.value)


def test_a_secret_leaves_this_computer_encrypted_only() -> None:
    for url in ("http://triton", "grpc://10.0.0.7", "http://127.0.0.1.evil"):
        with pytest.raises(ModelError, match="readable for everybody"):
            read_options({"url": url, "token": SECRET})
    for url in ("https://triton", "grpcs://10.0.0.7", "http://127.0.0.1", "http://[::1]", "grpc://localhost"):
        read_options({"url": url, "token": SECRET})


def test_a_safety_lane_is_not_for_a_network() -> None:
    assert "safety" in RemoteBackend.REFUSED_LANES


def test_every_option_stands_in_the_guide() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "howto" / "remote-inference.md").read_text()
    assert [name for name in RemoteOptions.model_fields if f"`{name}`" not in guide] == []


def test_the_pipeline_in_the_guide_is_accepted() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "howto" / "remote-inference.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (pipeline,) = tomllib.loads(block)["pipelines"]
    assert PipelineConfig.model_validate(pipeline).backend == "remote"
    assert read_options(pipeline["options"]).timeout_ms <= pipeline["deadline_ms"]


def test_a_lane_process_refuses_it_for_safety_even_if_the_configuration_was_not_checked() -> None:
    told = {"name": "p", "model": "m", "capture": "vib/stroke", "backend": "remote", "provider": "remote"}
    assert backend_for(PipelineConfig.model_validate(told)) is RemoteBackend
    with pytest.raises(ModelError) as caught:
        backend_for(PipelineConfig.model_validate({**told, "lane": "safety"}))
    assert caught.value.code == "M579"
