"""The tables of docs/runtimes.md: cases by runtime, and what was measured, locally and in a cluster.

Results are kept beside the page, as JSON, by place and runtime. A run updates its own results, and the page keeps
the earlier results of everything that did not run. Fed by conftest.py.
"""

import json

LOCAL, CLUSTER, SANDBOX = "local", "cluster", "sandbox"
SIGNS = {"passed": "✓", "skipped": "–", "failed": "✗"}

HEAD = """\
# Runtimes

Made by `make show-runtimes`, `make show-runtimes-cluster` and `make show-gvisor` from runs of `tests/conformance`;
not edited by hand. `runtimes/README.md` says how a runtime is described, and how to bring one of your own.

✓ behaves as the original platform's, – does not apply: the code is a program with one entry point, or local
mode has no warm pools.

Times are in milliseconds: *cold* is the first call as its caller sees it, the start of the instance included,
*init* the part of it that REPORT shows, *pooled* the middle of five such calls that a warm pool's process takes,
*warm* the middle of 50 calls one after the other; *memory* is REPORT's `Max Memory Used` in MB.

"""

TITLES = {
    LOCAL: "## In local mode\n\n",
    CLUSTER: "## In a cluster\n\nInstances are pods from the runtimes' images, code comes as archives of "
    "`pilotlight package`.\n\n",
    SANDBOX: "## In gVisor\n\nAs in a cluster, with a RuntimeClass of gVisor (`runsc`, platform `systrap`) for all "
    "functions and pools.\n\n",
}

COLUMNS = {
    LOCAL: ["cold", "init", "warm", "memory"],
    CLUSTER: ["cold", "init", "pooled", "warm", "memory"],
    SANDBOX: ["cold", "init", "pooled", "warm", "memory"],
}

FIGURES = {
    LOCAL: """

Measured with the supervisor of the same build.

""",
    CLUSTER: """

Measured in pods of `tests/cluster` on one machine; *cold* includes the pod and the archive's fetch.

""",
    SANDBOX: """

Measured as in a cluster.

""",
}


def keep(page, place, results):
    """Takes up what a run has found at a place, and writes the page."""
    file = page.with_suffix(".json")
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[place] = dict(sorted({**kept.get(place, {}), **results}.items()))
    file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    page.write_text(document(kept))


def document(kept):
    return HEAD + "\n".join(section(place, kept[place]) for place in TITLES if kept.get(place))


def section(place, results):
    # In the order of the first; another may have cases of its own.
    cases = list(dict.fromkeys(case for one in results.values() for case in one["cases"]))
    signs = [[case, *(SIGNS.get(one["cases"].get(case), "") for one in results.values())] for case in cases]
    columns = COLUMNS[place]
    measured = [
        [name, *(f"{one['figures'].get(column, 0):.1f}" for column in columns)]
        for name, one in results.items()
        if one["figures"]
    ]
    return (
        TITLES[place]
        + grid(["case", *results], signs)
        + FIGURES[place]
        + grid(["runtime", *columns], measured)
        + "\n"
    )


def grid(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
