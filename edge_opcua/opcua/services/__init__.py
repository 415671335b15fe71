"""The services of Part 4, one service set per file; sessions and sockets are known only as a caller."""
