"""What every room stands on: the tag bus, quality, time, workers and the control channel."""
