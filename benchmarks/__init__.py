"""Figures, measured in one run on one machine and printed; never asserted. Run them with `make bench`."""
