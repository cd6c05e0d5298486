"""What the suites share: how they reach Pilotlight and the cluster, and how they wait.

A module here knows no suite. Each opens with what it owns.
"""
