"""Between which bounds a loss lies: pure arithmetic on what two models answered to the same samples."""
