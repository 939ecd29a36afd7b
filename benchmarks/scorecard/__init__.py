"""How good is every way to get an error bar? See docs/scorecard.md; `make scorecard`."""
