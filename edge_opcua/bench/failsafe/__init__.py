"""``edge-opcua bench failsafe``: from a fault to the PLC's fail-safe value, beside what `check` promises."""
