"""Which request runs when, on which worker, with which others: pure, on times that the caller gives."""
