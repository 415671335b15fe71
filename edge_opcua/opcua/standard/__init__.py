"""What the standard's own nodes show and do: diagnostics, capabilities, roles, trust lists, aliases."""
