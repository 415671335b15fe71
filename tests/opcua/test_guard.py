"""What a request may unfold to is known before it is decoded; honest requests pass as they are."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import random
import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua import ua_binary
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, struct_to_binary, variant_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.guard import check_request, handle_of
from edge_opcua.opcua.seam.request import check_activation, decode

CODES = ua.StatusCodes
LIMITS = ServerLimits()
STRUCTURES = sorted(
    {kind for kind in vars(ua).values() if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")},
    key=lambda kind: kind.__name__,
)

# The walk goes as asyncua's decoder does. Whoever changes a hash compares the two first.
UPSTREAM = {
    "_create_dataclass_deserializer": "df2090ec",
    "_create_list_deserializer": "ea68c129",
    "_create_type_deserializer": "8fc1cd56",
    "_create_uatype_array_deserializer": "6f780984",
    "_create_uatype_deserializer": "9ac44f05",
    "_reshape": "5e469d79",
    "_resolve_type_in_dataclass_context": "99359cfb",
    "create_enum_deserializer": "7649f5e2",
    "extensionobject_from_binary": "1fd0586b",
    "get_safe_type_hints": "16e5b0b8",
    "nodeid_from_binary": "827f4d41",
    "resolve_uatype": "1ad86afb",
    "variant_from_binary": "6f5e9588",
}


def write_of(variant: bytes, times: int = 1) -> bytes:
    """Return WriteParameters whose values are the given bytes."""
    head = struct.pack("<i", times)
    item = b"\x00\x01" + struct.pack("<I", 13) + b"\xff\xff\xff\xff" + b"\x01" + variant
    return head + item * times


def refused(cls: Any, data: bytes, limits: ServerLimits = LIMITS, **most: int) -> int:
    """Return the status with which a request is refused, 0 if it is not."""
    try:
        check_request(cls, data, 0, limits, most)
    except ServiceError as exc:
        return int(exc.code)
    return 0


def refused_write(variant: bytes, limits: ServerLimits = LIMITS) -> int:
    return refused(ua.WriteParameters, write_of(variant), limits)


def nested(kind: int, levels: int) -> bytes:
    """Return a Variant: an array of one, of an array of one … of the kind."""
    return b"\x98\x01\x00\x00\x00" * levels + bytes([kind, 0])


def nested_objects(levels: int) -> bytes:
    """Return a Variant that holds an ExtensionObject that holds a Variant, as deep as asked for."""
    type_id = nodeid_to_binary(ua.NodeId(ua.ObjectIds.KeyValuePair_Encoding_DefaultBinary))
    variant = b"\x01\x00"
    for _ in range(levels):
        pair = struct.pack("<H", 0) + b"\xff\xff\xff\xff" + variant
        variant = b"\x16" + type_id + b"\x01" + struct.pack("<i", len(pair)) + pair
    return variant


def nested_diagnostics(levels: int) -> bytes:
    return b"\x19" + b"\x40" * levels + b"\x00"


def matrix(length: int, *dimensions: int, kind: int = 3, size: int = 1) -> bytes:
    data = struct.pack("<i", length) + bytes(length * size)
    return bytes([0xC0 | kind]) + data + struct.pack(f"<i{len(dimensions)}i", len(dimensions), *dimensions)


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_the_decoder_goes_the_way_that_the_walk_goes(name: str) -> None:
    source = inspect.getsource(inspect.unwrap(getattr(ua_binary, name)))
    assert hashlib.sha256(source.encode()).hexdigest()[:8] == UPSTREAM[name]


# --- what passes -------------------------------------------------------------------------------------------


def test_the_walk_ends_where_asyncua_does_for_every_structure_there_is() -> None:
    walked = 0
    for kind in STRUCTURES:
        try:
            data = struct_to_binary(kind())
            buffer = StrictBuffer(data)
            struct_from_binary(kind, buffer)
        except Exception:  # noqa: BLE001 - asyncua cannot encode the defaults of all of its own types
            continue
        check_request(kind, data, 0, LIMITS)
        check_request(kind, data[: buffer.cur_pos], 0, LIMITS)
        walked += 1
    assert walked > 350


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.floats(allow_nan=False), min_size=1, max_size=9),
        st.lists(st.text(max_size=5), min_size=1, max_size=9),
        st.lists(st.binary(max_size=5), min_size=1, max_size=9),
        st.integers(-(2**31), 2**31 - 1),
        st.text(max_size=20),
        st.booleans(),
        st.uuids(),
    )
)
def test_every_value_that_a_client_can_write_passes_and_decodes_as_before(value: Any) -> None:
    data = write_of(variant_to_binary(ua.Variant(value)))
    decoded = decode(ua.WriteParameters, StrictBuffer(data), LIMITS)
    found = decoded.NodesToWrite[0].Value.Value.Value
    assert (list(found) if isinstance(value, list) else found) == value


def test_matrices_structures_and_nested_variants_pass() -> None:
    for value in (
        ua.Variant([[1, 2, 3], [4, 5, 6]], ua.VariantType.Int32, [2, 3]),
        ua.Variant(ua.Range(0.0, 1.0)),
        ua.Variant([ua.EUInformation(), ua.EUInformation()]),
        ua.Variant([ua.Variant(1), ua.Variant([ua.Variant("x")])], ua.VariantType.Variant),
        ua.Variant(ua.DataValue(ua.Variant(1.5))),
        ua.Variant(ua.LocalizedText("a", "en")),
        ua.Variant(ua.NodeId("a", 3)),
        ua.Variant(ua.ExpandedNodeId("a", 3, NamespaceUri="urn:x", ServerIndex=1)),
        ua.Variant([], ua.VariantType.Double),
    ):
        data = write_of(variant_to_binary(value))
        assert refused(ua.WriteParameters, data) == 0
        assert refused(ua.WriteParameters, data[:-1]) == CODES.BadDecodingError


def test_a_filter_with_operands_passes_and_its_variants_are_walked() -> None:
    where = ua.ContentFilter(
        [ua.ContentFilterElement(ua.FilterOperator.Equals, [ua.LiteralOperand(ua.Variant(1.5))])]
    )
    item = ua.MonitoredItemCreateRequest()
    item.RequestedParameters.Filter = ua.EventFilter(WhereClause=where)
    data = struct_to_binary(ua.CreateMonitoredItemsParameters(ItemsToCreate=[item]))
    assert refused(ua.CreateMonitoredItemsParameters, data) == 0
    # Part 4 §7.7.4.4: the operand's value, made one that announces a matrix of a million.
    double = struct.pack("<Bd", 11, 1.5)
    assert double in data
    bomb = matrix(1, 1, 700_000, kind=1)
    grown = data.replace(struct.pack("<i", 9) + double, struct.pack("<i", len(bomb)) + bomb)
    assert refused(ua.CreateMonitoredItemsParameters, grown) in {
        CODES.BadEncodingLimitsExceeded,
        CODES.BadDecodingError,
    }


# --- what does not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [nested_objects, lambda n: nested(1, n)])
def test_nesting_is_allowed_to_a_hundred_levels_and_no_further(build: Any) -> None:
    # Part 6 §5.1.5, §5.2.2.12: at least 100 levels, and an error beyond what is supported.
    deep = 49 if build is nested_objects else 99  # an ExtensionObject and a Variant are two levels
    data = write_of(build(deep))
    check_request(ua.WriteParameters, data, 0, LIMITS)
    decode(ua.WriteParameters, StrictBuffer(data), LIMITS)  # and asyncua's decoder gets that far
    for levels in (101, 5000):
        assert refused_write(build(levels)) == CODES.BadEncodingLimitsExceeded


def test_diagnostic_infos_do_not_nest() -> None:
    # asyncua 2.1.0 takes an InnerDiagnosticInfo for an ExtensionObject: Part 6 §5.2.2.12 cannot recurse.
    for levels in (3, 5000):
        assert refused_write(nested_diagnostics(levels)) in {0, CODES.BadDecodingError}
        with contextlib.suppress(ServiceError):
            decode(ua.WriteParameters, StrictBuffer(write_of(nested_diagnostics(levels))), LIMITS)


def test_a_variant_directly_in_a_variant_is_refused() -> None:
    # Part 6 §5.2.2.16: "Variants can contain arrays of Variants but cannot directly contain another Variant".
    assert refused_write(b"\x18" * 3 + b"\x01\x00") == CODES.BadDecodingError


@pytest.mark.parametrize(
    "variant",
    [
        matrix(0, 1, 400_000),  # announces elements that do not come: asyncua fills them with lists
        matrix(6, 2, 2),
        matrix(6, 2, 4),
        matrix(4, -2, -2),
        matrix(1),
        b"\xc3" + struct.pack("<i", 1) + b"\x00" + struct.pack("<i", -1),
        b"\x43\x00" + struct.pack("<ii", 1, 1),  # dimensions of what is no array
    ],
)
def test_dimensions_that_do_not_fit_are_refused(variant: bytes) -> None:
    # Part 6 §5.2.2.16: inconsistent ArrayDimensions are a Bad_DecodingError.
    assert refused_write(variant) == CODES.BadDecodingError


def test_dimensions_that_unfold_are_refused() -> None:
    assert refused_write(matrix(0, 0, 2_000_000)) == CODES.BadEncodingLimitsExceeded
    # One byte per element, and a copy of all of them for each dimension.
    assert refused_write(matrix(100_000, *[1] * 60, 100_000)) == CODES.BadEncodingLimitsExceeded
    assert refused_write(matrix(1, *[1] * 101)) == CODES.BadDecodingError
    assert refused_write(matrix(1, *[1] * 5)) == 0


def test_an_array_longer_than_advertised_is_refused() -> None:
    # Part 5 §6.3.2 MaxArrayLength.
    limits = ServerLimits(array_length=10)
    assert refused_write(variant_to_binary(ua.Variant([1] * 10)), limits) == 0
    assert refused_write(variant_to_binary(ua.Variant([1] * 11)), limits) == CODES.BadEncodingLimitsExceeded
    assert refused_write(b"\x80" + struct.pack("<i", 2**31 - 1)) == CODES.BadEncodingLimitsExceeded


def test_a_string_longer_than_advertised_is_refused() -> None:
    # Part 5 §6.3.2 MaxStringLength, MaxByteStringLength.
    limits = ServerLimits(string_bytes=10)
    for value, longer in (("x" * 10, "x" * 11), (b"x" * 10, b"x" * 11)):
        assert refused_write(variant_to_binary(ua.Variant(value)), limits) == 0
        refusal = refused_write(variant_to_binary(ua.Variant(longer)), limits)
        assert refusal == CODES.BadEncodingLimitsExceeded
    # Where nothing is walked (Browse ends with a list of plain structures) the buffer refuses it.
    browse = ua.BrowseParameters(NodesToBrowse=[ua.BrowseDescription(NodeId=ua.NodeId("x" * 11, 1))])
    with pytest.raises(ServiceError) as found:
        decode(ua.BrowseParameters, StrictBuffer(struct_to_binary(browse), longest=10), limits)
    assert found.value.code == CODES.BadEncodingLimitsExceeded


def test_all_arrays_of_a_request_together_are_limited() -> None:
    nothing = b"\x00"
    arguments = struct.pack("<i", 400_000) + nothing * 400_000
    call = struct.pack("<i", 1) + b"\x00\x01" * 2 + arguments
    assert refused(ua.CallParameters, call) == CODES.BadEncodingLimitsExceeded
    words = matrix(400_000, 400_000, kind=4, size=2)
    assert refused(ua.WriteParameters, write_of(words)) == 0
    assert refused(ua.WriteParameters, write_of(words, 3)) == CODES.BadEncodingLimitsExceeded


def test_the_number_of_operations_is_told_before_they_are_decoded() -> None:
    read = ua.ReadParameters(NodesToRead=[ua.ReadValueId() for _ in range(5)])
    data = struct_to_binary(read)
    assert refused(ua.ReadParameters, data, NodesToRead=5) == 0
    assert refused(ua.ReadParameters, data, NodesToRead=4) == CODES.BadTooManyOperations
    links = ua.SetTriggeringParameters(LinksToAdd=[1, 2, 3], LinksToRemove=[4, 5])
    data = struct_to_binary(links)
    assert refused(ua.SetTriggeringParameters, data, LinksToRemove=1) == CODES.BadTooManyOperations
    # Announced and not there.
    short = struct_to_binary(ua.ReadParameters())[:-4] + struct.pack("<i", 9000)
    assert refused(ua.ReadParameters, short, NodesToRead=10_000) == CODES.BadDecodingError


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        write_of(b"\x16\x00"),
        write_of(b"\x16\x01\x00\xff\xff\x01" + struct.pack("<i", -1)),
        write_of(b"\x16\x01\x00\xff\xff\x01" + struct.pack("<i", 100)),
        write_of(b"\x0c" + struct.pack("<i", -2)),
        write_of(b"\x8c" + struct.pack("<i", -2)),
        write_of(b"\x11\x3f"),
        write_of(b"\x8b" + struct.pack("<i", 1000)),
    ],
)
def test_what_is_no_request_is_a_decoding_error(data: bytes) -> None:
    assert refused(ua.WriteParameters, data) == CODES.BadDecodingError


def test_whatever_passes_the_walk_decodes_or_is_refused_and_never_escapes() -> None:
    dice = random.Random(20261121)
    seeds = [
        (
            ua.WriteParameters,
            write_of(variant_to_binary(ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int32, [2, 2]))),
        ),
        (ua.WriteParameters, write_of(nested_objects(3))),
        (ua.WriteParameters, write_of(nested_diagnostics(3))),
        (ua.ReadParameters, struct_to_binary(ua.ReadParameters(NodesToRead=[ua.ReadValueId()] * 3))),
        (
            ua.CallParameters,
            struct_to_binary(ua.CallParameters([ua.CallMethodRequest(InputArguments=[ua.Variant("x")])])),
        ),
    ]
    decoded = 0
    for _ in range(3000):
        cls, seed = dice.choice(seeds)
        data = bytearray(seed)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data))
            data[at : at + dice.choice([0, 1, 1, 4])] = dice.choice(
                [dice.randbytes(1), struct.pack("<i", dice.choice([-1, -9, 2**31 - 1, 70_000, 3])), b"\xd6"]
            )
        try:
            decode(cls, StrictBuffer(bytes(data)), LIMITS)
            decoded += 1
        except (ServiceError, ua.UaError, struct.error):
            continue
    assert decoded


def test_the_handle_is_found_without_decoding_the_request() -> None:
    for token in (ua.NodeId(), ua.NodeId(b"x" * 32, 0, ua.NodeIdType.ByteString), ua.NodeId("a", 2)):
        message = ua.ReadRequest()
        message.RequestHeader.AuthenticationToken = token
        message.RequestHeader.RequestHandle = 0x89ABCDEF
        assert handle_of(struct_to_binary(message)) == 0x89ABCDEF
    with pytest.raises(ServiceError):
        handle_of(b"\x01\x00\x77\x02")


def test_an_identity_token_whose_type_is_no_node_id_does_not_decode() -> None:
    # Part 6 §5.2.2.9: there are six encodings of a NodeId; 47 is none. A fuzzer found that it was our fault.
    nothing = struct.pack("<ii", -1, -1)  # algorithm and signature
    body = StrictBuffer(nothing + struct.pack("<ii", 0, 0) + bytes([47]))
    with pytest.raises(ServiceError) as refused:
        check_activation(body)
    assert refused.value.code == ua.StatusCodes.BadDecodingError
