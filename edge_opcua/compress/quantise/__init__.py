"""Whole numbers instead of floats: INT8 with ranges calibrated before or measured at run time, and FP16."""
