"""Names as a PLC takes them: what no variable of a function block may be called, and which are one name."""

from __future__ import annotations

import re
from typing import Final

# Keywords (2.1.3) with the standard functions and types, then words of SCL and of Logix.
_WORDS: Final = """
abs acos action add and any array asin at atan bool by byte case char concat configuration constant
continue cos ctd ctu ctud date delete dint div do dt dword else elsif end exit exp expt f_edge f_trig
false find for from function function_block goto gt if initial_step insert int interval le left len
limit lint ln log lreal lt lword max method mid min mod move mul mux ne non_retain not null of on or org
program r_edge r_trig read_only read_write real repeat replace resource retain return right rol ror rs
sel shl shr sin sint sqrt sr step string struct sub tan task then time to tod tof ton tp transition true
trunc type udint uint ulint union until usint var var_input var_output while with word wstring xor begin
const counter dataset end_case end_for end_function_block end_if end_repeat end_struct end_type end_var
end_while eno en label region end_region sdt self super this timer tonr variant void alarm axis cop cps
enablein enableout gsv jmp jsr message msg one_shot res ret rto ssv
"""
_PARAMETERS: Final = """
enable grant opack trigger setoffline executecmd command commandarg acceptremoteack state fallback
plclimit plcpermit fallbackpermit status control commok inuse ackreq newresult done busy error errorid
resultcode resultseq out permit lastsilencems cmddone cmdfailed ready
"""
# Its memory, and the words of the areas, which products with named structures have as fields.
_INNER: Final = """
edgeonline edgevalid edgehaserror edgeactive edgefailsafe edgeackrequired edgeready edgetook
edgecmdcompleted edgecmdfailed edgeoutbad edgeheartbeat edgeseq edgecode edgeerror edgeversion started fresh
moved sound lost everused latched ackseen clearing acked opackwas hasresult outbad lastheartbeat lastseq
ahead plcheartbeat beatms silencems elapsed nowms watchms errorno ctrlbits target span triggerwas asking
phase triggerseq fault bits watch silence request reply seen given pair stat echoplcheartbeat commandecho
errorcode modelid modelversion inferencems qualitymask interfaceversion resultseqtail
"""

_TAKEN_OVER: Final = "got_"  # what it calls a result as the edge wrote it

RESERVED: Final = frozenset(_WORDS.split())
"""Small letters: the case of letters does not count (2.1.2)."""

PARAMETERS: Final = frozenset((_PARAMETERS + _INNER).split())
"""What the function block of an output needs for itself; a test holds it against the block."""


def identifier(name: str) -> str:
    """Return a name of ours as a PLC knows it, for comparison: ``Press-veto`` is ``press_veto``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def taken_by(name: str) -> str:
    """Return who has a name already, or an empty text: a variable of that name would not be translated."""
    if name.lower() in RESERVED:
        return "the language of the PLC"
    is_inner = name.lower() in PARAMETERS or name.lower().startswith(_TAKEN_OVER)
    return "the function block" if is_inner else ""
