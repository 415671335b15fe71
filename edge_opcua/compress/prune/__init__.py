"""Structured pruning: whole channels go, and the layers behind them are fitted anew, without training."""
