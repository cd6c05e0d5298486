"""Runs a tier of tests (`python3 -m tests.tiers check`): its stages, several at a time, and their times."""
