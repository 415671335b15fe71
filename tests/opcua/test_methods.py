"""Call (Part 4 §5.12), without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AttributeValue

from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.methods import Methods
from edge_opcua.security.roles import Role
from tests.opcua.small_space import IDS, Asker, Space

CODES = ua.StatusCodes
KIND = ua.VariantType


def argument(data_type: int | ua.NodeId, rank: int = -1, dimensions: tuple[int, ...] = ()) -> ua.Argument:
    kind = data_type if isinstance(data_type, ua.NodeId) else ua.NodeId(data_type)
    return ua.Argument("x", kind, rank, list(dimensions), ua.LocalizedText())


class Desk:
    """Methods of a small space, called as a client calls."""

    def __init__(self) -> None:
        self.space = Space()
        self.access = Access()
        self.acts: list[Act] = []
        self.methods = Methods(self.space.aspace, self.access, 100, audit=self.acts.append)
        self.asker = Asker(roles=frozenset({Role.ENGINEER}))
        self.owner = self.space.node("owner")
        self.answer: Any = []
        self.called: list[Any] = []

    async def run(self, owner: ua.NodeId, *arguments: ua.Variant) -> Any:
        self.called.append((str(owner.Identifier), *(each.Value for each in arguments)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def method(
        self,
        name: str = "owner.m",
        owner: ua.NodeId | None = None,
        *,
        takes: tuple[ua.Argument, ...] = (),
        gives: tuple[ua.Argument, ...] = (),
        function: Any = None,
    ) -> ua.NodeId:
        method = self.space.node(name, ua.NodeClass.Method, Executable=True)
        for which, declared in (("InputArguments", takes), ("OutputArguments", gives)):
            if declared:
                value = ua.Variant(list(declared), KIND.ExtensionObject)
                node = self.space.variable(f"{name}.{which}", value, IDS.Argument, rank=1)
                self.space.refer(method, node, IDS.HasProperty)
        self.space.refer(owner or self.owner, method)
        self.access.mark(Kind.MODEL, [method])
        self.space.aspace[method].call = function or self.run
        return method

    async def call(
        self, method: ua.NodeId, *arguments: ua.Variant, owner: ua.NodeId | None = None
    ) -> ua.CallMethodResult:
        wanted = ua.CallMethodRequest(owner or self.owner, method, list(arguments))
        service = self.methods.services()["Call"]
        response = await service.run(self.asker, ua.CallParameters([wanted]))
        (result,) = response.Results
        return result

    async def status(self, *arguments: Any, **more: Any) -> int:
        return int((await self.call(*arguments, **more)).StatusCode.value)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_each_wrong_argument_is_named(desk: Desk) -> None:
    # Part 4 §5.12.2.2, inputArgumentResults; asyncua passed anything to anybody.
    method = desk.method(takes=(argument(IDS.Int64), argument(IDS.Double, 1, (2,)), argument(IDS.String)))
    text = ua.Variant("x")
    wrong = await desk.call(method, ua.Variant("1"), ua.Variant([1.0, 2.0, 3.0]), text)
    assert wrong.StatusCode.value == CODES.BadInvalidArgument
    assert [each.value for each in wrong.InputArgumentResults] == [
        CODES.BadTypeMismatch,
        CODES.BadOutOfRange,
        0,
    ]
    assert await desk.status(method, ua.Variant(1), ua.Variant([1.0])) == CODES.BadArgumentsMissing
    too_many = (ua.Variant(1), ua.Variant([1.0]), text, text)
    assert await desk.status(method, *too_many) == CODES.BadTooManyArguments
    assert desk.called == []
    right = await desk.call(method, ua.Variant(1), ua.Variant([1.0, 2.0]), text)
    assert (right.StatusCode.value, right.InputArgumentResults) == (0, [])
    assert desk.called == [("owner", 1, [1.0, 2.0], "x")]


async def test_an_argument_that_is_no_member_of_its_enumeration_is_out_of_range(desk: Desk) -> None:
    space = desk.space
    space.type(IDS.Enumeration)
    kind = space.node("Mode", ua.NodeClass.DataType)
    space.refer(ua.NodeId(IDS.Enumeration), kind, IDS.HasSubtype)
    names = ua.Variant([ua.LocalizedText("off"), ua.LocalizedText("on")])
    space.refer(kind, space.variable("Mode.EnumStrings", names, IDS.LocalizedText, rank=1), IDS.HasProperty)
    method = desk.method(takes=(argument(kind),))
    assert await desk.status(method, ua.Variant(1, KIND.Int32)) == 0
    wrong = await desk.call(method, ua.Variant(2, KIND.Int32))
    assert [each.value for each in wrong.InputArgumentResults] == [CODES.BadOutOfRange]


async def test_a_method_runs_only_on_an_object_that_has_it(desk: Desk) -> None:
    # Part 4 §5.12.2.2, objectId; asyncua ran it on any.
    method = desk.method()
    stranger = desk.space.node("stranger")
    assert await desk.status(method) == 0
    assert await desk.status(method, owner=stranger) == CODES.BadMethodInvalid
    assert await desk.status(method, owner=ua.NodeId("gone", 7)) == CODES.BadNodeIdUnknown
    assert await desk.status(ua.NodeId("gone", 7)) == CODES.BadMethodInvalid
    assert await desk.status(desk.owner) == CODES.BadMethodInvalid
    variable = desk.space.variable("owner.v", ua.Variant(1.0), IDS.Double)
    desk.space.refer(desk.owner, variable)
    assert await desk.status(variable) == CODES.BadMethodInvalid


async def test_an_object_runs_its_own_method_when_that_of_its_type_is_named(desk: Desk) -> None:
    # Part 4 §5.12.2.2, methodId.
    space = desk.space
    base, kind = (space.node(name, ua.NodeClass.ObjectType) for name in ("BaseType", "Type"))
    space.refer(base, kind, IDS.HasSubtype)
    own_by_type = desk.method("Type.start", kind)
    inherited = desk.method("BaseType.stop", base)
    space.refer(desk.owner, kind, IDS.HasTypeDefinition)
    # Without one of its own it is the type's.
    assert await desk.status(own_by_type) == 0
    assert await desk.status(inherited) == 0
    # On the type itself, too, and on what is derived from it.
    assert await desk.status(inherited, owner=kind) == 0

    async def own(_: ua.NodeId) -> list[ua.Variant]:
        desk.called.append("its own")
        return []

    desk.called.clear()
    start = desk.method("owner.start", function=own)
    assert await desk.status(own_by_type) == 0
    assert desk.called == ["its own"]
    # And its permissions are those that count.
    desk.access.mark(Kind.SECURITY, [start])
    assert await desk.status(own_by_type) == CODES.BadUserAccessDenied


async def test_a_method_that_is_not_executable_does_not_run(desk: Desk) -> None:
    # Part 3 §5.7; asyncua ran it.
    method = desk.method()
    attribute = ua.AttributeIds.Executable
    desk.space.aspace[method].attributes[attribute] = AttributeValue(ua.DataValue(ua.Variant(False)))
    assert await desk.status(method) == CODES.BadNotExecutable
    desk.asker.roles = frozenset({Role.OBSERVER})
    assert await desk.status(method) == CODES.BadUserAccessDenied
    assert desk.acts[-1].facts["reason"] == "not for Observer"
    assert desk.called == []


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        ([ua.Variant("done")], True),
        (ua.CallMethodResult(OutputArguments=[ua.Variant("done")]), True),
        ([], False),
        (None, False),
        ([ua.Variant(1)], False),
        ([ua.Variant("done"), ua.Variant("twice")], False),
        (ua.CallMethodResult(), False),
        (ua.StatusCode(), False),
    ],
)
async def test_a_method_gives_what_it_declares_or_has_failed(desk: Desk, answer: Any, valid: bool) -> None:
    # Part 4 §5.12.2.2, outputArguments.
    method = desk.method(gives=(argument(IDS.String),))
    desk.answer = answer
    with structlog.testing.capture_logs() as logs:
        result = await desk.call(method)
    if valid:
        assert [each.Value for each in result.OutputArguments] == ["done"]
    else:
        assert result.StatusCode.value == CODES.BadInternalError
        assert result.OutputArguments == []
        assert [line["event"] for line in logs] == ["method.answer_invalid"]


async def test_an_answer_that_is_bad_has_no_outputs_and_argument_results_only_if_they_are_the_reason(
    desk: Desk,
) -> None:
    method = desk.method(takes=(argument(IDS.String),), gives=(argument(IDS.String),))
    good = ua.StatusCode()
    for code, kept in ((CODES.BadInvalidState, 0), (CODES.BadInvalidArgument, 1), (CODES.GoodClamped, 0)):
        desk.answer = ua.CallMethodResult(
            StatusCode=ua.StatusCode(code), InputArgumentResults=[good], OutputArguments=[ua.Variant("x")]
        )
        result = await desk.call(method, ua.Variant("x"))
        assert result.StatusCode.value == code
        assert len(result.InputArgumentResults) == kept
        assert len(result.OutputArguments) == (1 if code == CODES.GoodClamped else 0)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ServiceError(CODES.BadInvalidState), CODES.BadInvalidState),
        (ua.UaStatusCodeError(CODES.BadOutOfRange), CODES.BadOutOfRange),
        (TimeoutError(), CODES.BadTimeout),
        (ZeroDivisionError(), CODES.BadInternalError),
    ],
)
async def test_a_method_that_fails_says_how(desk: Desk, failure: Exception, code: int) -> None:
    desk.answer = failure
    with structlog.testing.capture_logs() as logs:
        assert await desk.status(desk.method()) == code
    unforeseen = code == CODES.BadInternalError
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["method.failed"] * unforeseen


async def test_a_function_that_would_block_everybody_is_not_called(desk: Desk) -> None:
    method = desk.method(function=lambda _: pytest.fail("was called"))
    with structlog.testing.capture_logs() as logs:
        assert await desk.status(method) == CODES.BadNotImplemented
    assert [line["event"] for line in logs] == ["method.not_async"]


async def test_a_method_nobody_bound_is_not_implemented(desk: Desk) -> None:
    method = desk.method()
    desk.space.aspace[method].call = None
    assert await desk.status(method) == CODES.BadNotImplemented


# --- what is told of it (Part 5 §6.5.23) --------------------------------------------------------------


async def test_every_call_is_told(desk: Desk) -> None:
    method = desk.method(takes=(argument(IDS.String),), gives=(argument(IDS.String),))
    desk.answer = [ua.Variant("done")]
    await desk.call(method, ua.Variant("x"))
    await desk.call(method, ua.Variant(1))
    done, refused = desk.acts
    assert (done.kind, done.status, done.who, done.node) == ("method.called", 0, "asker", desk.owner)
    assert done.event == {
        "MethodId": method,
        "StatusCodeId": ua.StatusCode(),
        "InputArguments": [ua.Variant("x")],
        "OutputArguments": [ua.Variant("done")],
    }
    assert refused.status == CODES.BadInvalidArgument
    assert refused.event["InputArguments"] == [ua.Variant(1)]


async def test_what_a_method_of_security_was_told_is_not_told_on(desk: Desk) -> None:
    # Part 4 §6.5: audit entries hold no secrets.
    space = desk.space
    kind = space.node("Type", ua.NodeClass.ObjectType)
    space.refer(desk.owner, kind, IDS.HasTypeDefinition)
    declared = desk.method("Type.AddUser", kind, takes=(argument(IDS.String),))
    own = desk.method("owner.AddUser", takes=(argument(IDS.String),))
    desk.access.mark(Kind.SECURITY, [own])
    stranger = space.node("stranger")
    password = ua.Variant("secret")
    for method, owner in ((own, desk.owner), (declared, desk.owner), (declared, stranger)):
        await desk.call(method, password, owner=owner)
    assert len(desk.acts) == 3
    assert "secret" not in repr(desk.acts)


async def test_a_call_that_was_cut_off_is_told_as_one_that_may_have_run(desk: Desk) -> None:
    async def wait(_: ua.NodeId) -> None:
        await asyncio.Event().wait()

    method = desk.method(function=wait)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(desk.call(method))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    assert [act.status for act in desk.acts] == [CODES.BadTimeout]
