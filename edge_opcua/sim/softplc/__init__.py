"""Executes IEC 61131-3 Structured Text, so that what is exported for a PLC is what the tests run."""
