"""Answers are no longer than the client takes, which is known before they are made."""

from __future__ import annotations

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.opcua.seam.answer import encode, fault
from edge_opcua.opcua.seam.buffer import StrictBuffer


def test_an_answer_is_encoded_as_asyncua_would() -> None:
    read = ua.ReadResponse(Results=[ua.DataValue(ua.Variant(value)) for value in (1, "a", [1.5, 2.5])])
    browse = ua.BrowseResponse(Results=[ua.BrowseResult(References=[ua.ReferenceDescription()])])
    diagnosed = ua.ReadResponse(Results=[ua.DataValue()], DiagnosticInfos=[ua.DiagnosticInfo()])
    for response in (read, browse, diagnosed, ua.ReadResponse(), ua.PublishResponse()):
        assert encode(response, 10_000) == struct_to_binary(response)


def test_an_unusual_header_is_encoded_as_asyncua_would() -> None:
    results = [ua.DataValue(ua.Variant(1))]
    for fields in (
        {"ServiceResult": ua.StatusCode(ua.StatusCodes.UncertainDataSubNormal)},
        {"StringTable": ["a text"]},
        {"StringTable": None},
        {"ServiceDiagnostics": ua.DiagnosticInfo(AdditionalInfo="why")},
        {"AdditionalHeader": ua.ExtensionObject(TypeId=ua.NodeId(7, 1), Body=b"more")},
    ):
        response = ua.ReadResponse(Results=results, ResponseHeader=ua.ResponseHeader(**fields))
        response.ResponseHeader.RequestHandle = 7
        assert encode(response, 10_000) == struct_to_binary(response)


def test_an_answer_that_is_too_large_is_not_made() -> None:
    # Part 4 §5.7.2.2 maxResponseMessageSize. Ten thousand times the same megabyte: ten gigabytes if encoded.
    huge = ua.DataValue(ua.Variant(b"x" * 1_000_000))
    for response in (
        ua.ReadResponse(Results=[huge] * 10_000),
        ua.ReadResponse(Results=[ua.DataValue(ua.Variant(1))] * 100),
        ua.FindServersResponse(Servers=[ua.ApplicationDescription(ApplicationUri="u" * 300)]),
    ):
        with pytest.raises(ServiceError) as refused:
            encode(response, 300)
        assert refused.value.code == ua.StatusCodes.BadResponseTooLarge


def test_a_cheap_fault_is_a_service_fault() -> None:
    body = StrictBuffer(fault(7, ua.StatusCodes.BadServerTooBusy, 1_700_000_000_000_000_000))
    decoded = struct_from_binary(ua.ServiceFault, body)
    assert decoded.TypeId == ua.FourByteNodeId(ua.ObjectIds.ServiceFault_Encoding_DefaultBinary)
    assert decoded.ResponseHeader.RequestHandle == 7
    assert decoded.ResponseHeader.ServiceResult.value == ua.StatusCodes.BadServerTooBusy
    assert decoded.ResponseHeader.Timestamp.isoformat() == "2023-11-14T22:13:20+00:00"
    assert body.whole[body.cur_pos :] == b""
