"""One run from a model and samples to a report: what is tried, what is kept of it, what is chosen."""
