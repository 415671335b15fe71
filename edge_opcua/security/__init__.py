"""Who we are to other machines (pki) and whom we believe (trust); rooms above refuse, this room decides."""
