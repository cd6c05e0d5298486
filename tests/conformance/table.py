"""The table of a run as a page: cases by runtime, and what was measured."""

SIGNS = {"passed": "✓", "skipped": "–", "failed": "✗"}

HEAD = """\
# Runtimes

Made by `make runtimes-table` from a run of `tests/conformance`; not edited by hand. `runtimes/README.md`
says how a runtime is described, and how to bring one of your own.

✓ behaves as the original platform's, – does not apply: the code is a program with one entry point.

"""

FIGURES = """

Measured in local mode with the supervisor of the same build, in milliseconds: *cold* is the first call as its
caller sees it, process start included, *init* the part of it that REPORT shows, *warm* the middle of 50
calls one after the other; *memory* is REPORT's `Max Memory Used` in MB.

"""


def document(outcomes, figures):
    names = sorted({name for row in outcomes.values() for name in row})
    rows = [[case, *(SIGNS[row[name]] if name in row else "" for name in names)] for case, row in outcomes.items()]
    columns = ["cold", "init", "warm", "memory"]
    measured = [
        [name, *(f"{figures[name].get(column, 0):.1f}" for column in columns)] for name in names if name in figures
    ]
    return HEAD + grid(["case", *names], rows) + FIGURES + grid(["runtime", *columns], measured) + "\n"


def grid(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
