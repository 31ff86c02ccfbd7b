"""Host toolkit: distill, prune, quantize, export, verify, ship, measure."""
