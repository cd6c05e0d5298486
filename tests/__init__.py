"""The Python code of the tests: one package, imported from the repository's root.

Each suite is a subpackage that pytest collects; what they share is in `tests.harness`. Functions that
run inside instances are files of their own, which import nothing from here. `cluster/cluster` and the
programs beside it need no virtual environment, since other programs use the cluster too.
"""
