"""ReferenceDescriptions written by hand: the very bytes of the codec (Part 6 §5.2)."""

from __future__ import annotations

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.opcua.services.view.references import encoder

FIELDS = ("ReferenceTypeId", "IsForward", "NodeClass", "BrowseName", "DisplayName", "TypeDefinition")
NOTHING = {
    "ReferenceTypeId": ua.NodeId(),
    "IsForward": False,
    "NodeClass": ua.NodeClass.Unspecified,
    "BrowseName": ua.QualifiedName(),
    "DisplayName": ua.LocalizedText(),
    "TypeDefinition": ua.ExpandedNodeId(),
}

# Indices of namespaces as the codec takes them: it says Int16 where Part 6 says UInt16.
index = st.integers(0, 2**15 - 1)
strings = st.text(max_size=40)
identifiers = st.one_of(st.integers(0, 2**32 - 1), strings, st.binary(max_size=40), st.uuids())
chosen = st.builds(
    ua.NodeId,
    st.integers(0, 255),
    st.just(0),
    st.sampled_from([ua.NodeIdType.TwoByte, ua.NodeIdType.FourByte, ua.NodeIdType.Numeric]),
)
guessed = st.one_of(
    chosen,
    st.builds(ua.NodeId, identifiers, index),
    st.builds(ua.NodeId, st.integers(0, 70_000), st.integers(0, 300)),
)
expanded = st.builds(
    ua.ExpandedNodeId,
    identifiers,
    index,
    NamespaceUri=st.none() | strings,
    ServerIndex=st.integers(0, 2**32 - 1),
)
nodes = guessed | expanded
names = st.builds(ua.QualifiedName, st.none() | strings, index)
texts = st.builds(ua.LocalizedText, st.none() | strings, st.none() | strings)


@st.composite
def references(draw: st.DrawFn) -> ua.ReferenceDescription:
    name = draw(names)
    return ua.ReferenceDescription(
        ReferenceTypeId=draw(guessed),
        IsForward=draw(st.booleans()),
        NodeId=draw(nodes),
        BrowseName=name,
        DisplayName=draw(texts | st.just(ua.LocalizedText(name.Name))),
        NodeClass=draw(st.sampled_from(ua.NodeClass)),
        TypeDefinition=draw(nodes),
    )


@given(references(), st.integers(0, int(ua.BrowseResultMask.All)))
def test_a_reference_has_the_bytes_of_the_codec(reference: ua.ReferenceDescription, mask: int) -> None:
    shown = {
        name: getattr(reference if mask & getattr(ua.BrowseResultMask, name) else None, name, NOTHING[name])
        for name in FIELDS
    }
    masked = ua.ReferenceDescription(NodeId=reference.NodeId, **shown)
    assert encoder(mask)(reference) == struct_to_binary(masked)
    assert encoder(int(ua.BrowseResultMask.All))(reference) == struct_to_binary(reference)
