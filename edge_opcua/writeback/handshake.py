"""The handshake of the edge-AI interface block as the edge sees it: triggers, results, commands; pure.

Four phases each: Trigger up, TriggerAck up, Trigger down, TriggerAck down; ResultsValid up, ResultsAck up,
ResultsValid down, ResultsAck down. Every wait ends: a trigger that finds no result is answered with the code
TIMEOUT, a result that nobody takes is taken back, and whoever restarts leads both ends to the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.config.eai import (
    QUEUE,
    ControlWord,
    Ctrl,
    ErrorCode,
    ResultCode,
    Stat,
    following,
    is_ahead,
)

_NOTHING: Final = Ctrl(0)
_EARLY: Final = 8
_PATIENCE_NS: Final = 50_000_000
_COMMAND_NUMBERS: Final = {1: "load_model"}


@dataclass(frozen=True, slots=True)
class Control:
    """The control words as they were read.

    Args:
        ctrl: Bits.
        heartbeat: PlcHeartbeat.
        echo: EchoEdgeHeartbeat.
        trigger_seq: Number of the newest trigger.
        command: Command that ExecuteCmd asks for.
        argument: Its argument.
        version: InterfaceVersion.
        machine_state: PackML state, 0 if the PLC does not say.
    """

    ctrl: Ctrl = _NOTHING
    heartbeat: int = 0
    echo: int = 0
    trigger_seq: int = 0
    command: int = 0
    argument: int = 0
    version: int = 0
    machine_state: int = 0

    @classmethod
    def of(cls, words: Sequence[int]) -> Control:
        """Read the words; some protocols give them with a sign.

        Raises:
            ValueError: There are too few.
        """
        if len(words) < len(ControlWord):
            raise ValueError(f"{len(words)} control words are too few")
        plain = [int(word) & 0xFFFF for word in words]
        return cls(
            Ctrl(plain[ControlWord.CTRL] & _KNOWN),
            plain[ControlWord.PLC_HEARTBEAT],
            plain[ControlWord.ECHO_EDGE_HEARTBEAT],
            plain[ControlWord.TRIGGER_SEQ],
            plain[ControlWord.COMMAND],
            plain[ControlWord.COMMAND_ARG],
            plain[ControlWord.INTERFACE_VERSION],
            plain[ControlWord.STATE],
        )


_KNOWN: Final = sum(Ctrl)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the PLC gets as a result.

    Args:
        cycle: Machine cycle it is about; in mode triggered the TriggerSeq it answers.
        values: One number for each value of a result, in the order of the map.
        bad: Bit i: value i is not Good.
        code: Why it is what it is.
        degraded: Whether some inputs were Uncertain.
        simulated: Whether the inputs are made up.
        model_id: 16 bits of a hash of the model's name.
        model_version: Its version.
        inference_ms: Time it took, rounded up.
    """

    cycle: int = 0
    values: tuple[float, ...] = ()
    bad: int = 0
    code: ResultCode = ResultCode.NO_AUTHORITY
    degraded: bool = False
    simulated: bool = False
    model_id: int = 0
    model_version: int = 0
    inference_ms: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What has come since the last step.

    Args:
        answers: Results.
        captured: Machine cycle of the newest capture: the TriggerSeq whose request was read.
    """

    answers: Sequence[Answer] = ()
    captured: int = 0


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the edge waits, ns, and what it says when that was in vain.

    Args:
        answer_ns: For the result of a trigger.
        ack_ns: For the PLC to take a result.
        early_ns: For the trigger of a result that came before it: the capture may have seen it sooner.
        safe: Values that stand for no result.
    """

    answer_ns: int
    ack_ns: int
    early_ns: int = 100_000_000
    safe: Answer = Answer()


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the PLC: in hand, or done; until ExecuteCmd falls."""

    number: int
    argument: int
    done: bool = False
    error: ErrorCode = ErrorCode.NONE

    @property
    def name(self) -> str:
        """What it is called in the configuration; empty if there is none of this number."""
        return _COMMAND_NUMBERS.get(self.number, "")


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everything the next step depends on besides words and results; every ``_ns`` is monotonic.

    Args:
        heartbeat: PlcHeartbeat at the last step; None before the first.
        asked: TriggerSeq that waits for its result; None if none does.
        asked_ns: When it was taken.
        raised: TriggerSeq of the trigger that was up at the last step; None if it was down.
        taken: Whether its request was read, so that it may fall: TriggerAck.
        captured_ns: Since when it has been read; 0: it has not.
        missed: Whether it was not: MissedTrigger.
        valid: The result that the PLC may take now, with its number.
        valid_ns: Since when.
        released: Whether ResultsAck was seen down, so that its rise would be about this result.
        queue: Results that wait, oldest first.
        queued_ns: Since when the first of them waits.
        early: Results that nobody has asked for yet, with the time they came.
        command: Command in hand.
        error: What went wrong last.
        toggle: Changes with each result.
        sequence: Number of the newest result.
        last: The newest result, whether or not it is still to be taken.
    """

    heartbeat: int | None = None
    asked: int | None = None
    asked_ns: int = 0
    raised: int | None = None
    taken: bool = False
    captured_ns: int = 0
    missed: bool = False
    valid: tuple[int, Answer] | None = None
    valid_ns: int = 0
    released: bool = True
    queue: tuple[tuple[int, Answer], ...] = ()
    queued_ns: int = 0
    early: tuple[tuple[int, Answer], ...] = ()
    command: Command | None = None
    error: ErrorCode = ErrorCode.NONE
    toggle: bool = False
    sequence: int = 0
    last: Answer = Answer()

    @property
    def waiting(self) -> int:
        """Results that the PLC has not taken."""
        return len(self.queue) + (self.valid is not None)

    def has_room(self, control: Control) -> bool:
        """Return whether a trigger would be taken, as far as results are concerned."""
        most = QUEUE if Ctrl.BUFFER_RESULTS in control.ctrl else 1
        return self.asked is None and self.waiting < most


def restarted(control: Control, before: Exchange) -> bool:
    """Return whether the PLC's program has started anew: its heartbeat is 0 or has jumped back."""
    if control.heartbeat == 0 or before.heartbeat is None:
        return True
    if before.heartbeat in (0, control.heartbeat):
        return False
    return not is_ahead(control.heartbeat, before.heartbeat)


def rearmed(exchange: Exchange, control: Control) -> Exchange:
    """Return the exchange with everything forgotten that was under way.

    A trigger that is up now belongs to what is forgotten: it counts as missed until it falls.
    """
    up = Ctrl.TRIGGER in control.ctrl
    return replace(
        exchange,
        asked=None,
        raised=control.trigger_seq if up else None,
        taken=False,
        missed=up,
        valid=None,
        queue=(),
        early=(),
        released=Ctrl.RESULTS_ACK not in control.ctrl,
    )


def pushed(exchange: Exchange, answer: Answer) -> Exchange:
    """Return the exchange after a result that nobody asked for (every mode but triggered)."""
    return replace(
        exchange,
        sequence=following(exchange.sequence),
        toggle=not exchange.toggle,
        last=answer,
    )


def step(
    exchange: Exchange,
    control: Control,
    news: News,
    now_ns: int,
    waits: Waits,
    *,
    takes: bool,
    goes_on: bool,
) -> Exchange:
    """Return the exchange of mode triggered after one look at the control words.

    Args:
        exchange: What the last step left.
        control: What the PLC says.
        news: What has come since then.
        now_ns: Monotonic time, ns.
        waits: How long the edge waits.
        takes: Whether new triggers are taken.
        goes_on: Whether what is under way may be finished.
    """
    before = exchange
    exchange = replace(exchange, heartbeat=control.heartbeat)
    if restarted(control, before) or Ctrl.ENABLE not in control.ctrl or not goes_on:
        return rearmed(exchange, control)
    if Ctrl.CLEAR_ERROR in control.ctrl:
        exchange = replace(exchange, error=ErrorCode.NONE)
    exchange = _acknowledged(exchange, control, now_ns, waits)
    exchange = _triggered(exchange, control, now_ns, takes=takes)
    exchange = _captured(exchange, news.captured, now_ns)
    exchange = _answered(exchange, news.answers, now_ns, waits)
    return _offered(exchange, control, now_ns, waits)


def _answered(exchange: Exchange, answers: Sequence[Answer], now_ns: int, waits: Waits) -> Exchange:
    """Take the result of the trigger that waits; others are about something else, or came too early."""
    kept = [(at_ns, answer) for at_ns, answer in exchange.early if now_ns - at_ns <= waits.early_ns]
    kept += [(now_ns, answer) for answer in answers if answer.cycle]
    exchange = replace(exchange, early=tuple(kept[-_EARLY:]))
    if exchange.asked is None:
        return exchange
    found = next((answer for _, answer in exchange.early if answer.cycle == exchange.asked), None)
    if found is None:
        if now_ns - exchange.asked_ns <= waits.answer_ns:
            return exchange
        found = replace(waits.safe, cycle=exchange.asked, code=ResultCode.TIMEOUT)
    waited_ns = exchange.queued_ns if exchange.queue else now_ns
    queue = (*exchange.queue, (exchange.asked, found))
    early = tuple(each for each in exchange.early if each[1].cycle != exchange.asked)
    taken = exchange.taken or exchange.raised == exchange.asked
    return replace(exchange, asked=None, queue=queue, queued_ns=waited_ns, early=early, taken=taken)


def _acknowledged(exchange: Exchange, control: Control, now_ns: int, waits: Waits) -> Exchange:
    """Take ResultsValid back when the result was taken, or when it was not in time."""
    up = Ctrl.RESULTS_ACK in control.ctrl
    if exchange.valid is not None:
        if up:
            return replace(exchange, valid=None, released=False, queued_ns=now_ns)
        if now_ns - exchange.valid_ns > waits.ack_ns:
            return replace(rearmed(exchange, control), error=ErrorCode.ACK_TIMEOUT)
    return replace(exchange, released=exchange.released or not up)


def _triggered(exchange: Exchange, control: Control, now_ns: int, *, takes: bool) -> Exchange:
    """Take a trigger that has just come up, by its bit or by its number."""
    number = control.trigger_seq
    if Ctrl.TRIGGER not in control.ctrl:
        return replace(exchange, raised=None, taken=False, missed=False)
    if exchange.raised == number:
        return exchange
    if not takes or exchange.asked is not None or number == 0:
        return replace(exchange, raised=number, taken=False, missed=True, error=ErrorCode.MISSED_TRIGGER)
    if not exchange.has_room(control):
        # The PLC goes on without having taken the last result: then neither do we wait for that.
        exchange = replace(rearmed(exchange, control), early=exchange.early)
    return replace(
        exchange,
        asked=number,
        asked_ns=now_ns,
        raised=number,
        taken=False,
        captured_ns=0,
        missed=False,
        error=ErrorCode.NONE,
    )


def _captured(exchange: Exchange, captured: int, now_ns: int) -> Exchange:
    """Let the trigger fall once the request was read: the capture is ready only while it is up.

    A model that answers at once needs no write of its own for that: it would only delay the result.
    """
    if exchange.asked is None or exchange.raised != exchange.asked or captured != exchange.asked:
        return exchange
    since_ns = exchange.captured_ns or now_ns
    return replace(exchange, captured_ns=since_ns, taken=now_ns - since_ns >= _PATIENCE_NS)


def _offered(exchange: Exchange, control: Control, now_ns: int, waits: Waits) -> Exchange:
    """Offer the oldest result that waits, once the PLC has let go of the one before."""
    if exchange.valid is not None or not exchange.queue:
        return exchange
    if not exchange.released:
        if now_ns - exchange.queued_ns > waits.ack_ns:
            return replace(rearmed(exchange, control), error=ErrorCode.ACK_TIMEOUT)
        return exchange
    (number, answer), *rest = exchange.queue
    return replace(
        exchange,
        valid=(number, answer),
        valid_ns=now_ns,
        queue=tuple(rest),
        sequence=number,
        toggle=not exchange.toggle,
        last=answer,
    )


def commanded(
    exchange: Exchange, control: Control, allowed: Sequence[str]
) -> tuple[Exchange, Command | None]:
    """Return the exchange after a look at ExecuteCmd, and the command to begin now.

    Args:
        exchange: What the last step left.
        control: What the PLC says.
        allowed: Names of the commands it may give.
    """
    if Ctrl.EXECUTE_CMD not in control.ctrl:
        return replace(exchange, command=None), None
    if exchange.command is not None:
        return exchange, None
    command = Command(control.command, control.argument)
    if command.name not in allowed:
        refused = replace(command, done=True, error=ErrorCode.COMMAND_UNKNOWN)
        return replace(exchange, command=refused), None
    return replace(exchange, command=command), command


def command_ended(exchange: Exchange, command: Command, *, succeeded: bool) -> Exchange:
    """Return the exchange after a command has ended; one that the PLC has given up says nothing."""
    if exchange.command != command:
        return exchange
    error = ErrorCode.NONE if succeeded else ErrorCode.COMMAND_FAILED
    return replace(exchange, command=replace(command, done=True, error=error))


def bits(exchange: Exchange, control: Control, *, takes: bool, triggered: bool) -> Stat:
    """Return the bits of word Stat that belong to the handshake.

    Args:
        exchange: What the last step left.
        control: What the PLC said then.
        takes: Whether new triggers are taken.
        triggered: Whether the PLC asks for each result.
    """
    stat = _of_command(exchange.command)
    shown = {
        Stat.COMPLETED_TOGGLE: exchange.toggle,
        Stat.RESULTS_VALID: exchange.valid is not None,
        Stat.TRIGGER_READY: triggered
        and takes
        and Ctrl.ENABLE in control.ctrl
        and Ctrl.TRIGGER not in control.ctrl
        and exchange.has_room(control),
        Stat.TRIGGER_ACK: exchange.taken,
        Stat.BUSY: exchange.asked is not None,
        Stat.MISSED_TRIGGER: exchange.missed,
    }
    for bit, is_on in shown.items():
        if is_on:
            stat |= bit
    return stat


def _of_command(command: Command | None) -> Stat:
    if command is None:
        return Stat(0)
    if not command.done:
        return Stat.CMD_EXECUTING
    return Stat.CMD_COMPLETED if command.error is ErrorCode.NONE else Stat.CMD_FAILED


def error_of(exchange: Exchange) -> ErrorCode:
    """Return what word ErrorCode says of the handshake."""
    command = exchange.command
    if command is not None and command.error is not ErrorCode.NONE:
        return command.error
    return exchange.error
