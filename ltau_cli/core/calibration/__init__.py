"""From scores and some true errors to calibrated errors and bounds."""
