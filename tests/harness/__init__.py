"""Shared by the suites: how they reach Pilotlight and the cluster, and how they wait.

No module here knows a suite. Each begins with what it owns.
"""
