"""The processes of pods. Nodes are namespaces of this machine, so their processes are visible here."""

from pathlib import Path

# As /proc has it: only the first 15 characters count.
PILOTLIGHT, SUPERVISOR, NATS = "pilotlight", "pilotlight-supe", "nats-server"


def running():
    """All processes of the machine, by id: parent, name and control groups."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            name, groups = ((folder / file).read_text() for file in ("comm", "cgroup"))
            found[int(folder.name)] = (int(parent), name.strip(), groups)
        except OSError:
            pass  # it has ended
    return found


def processes(pod):
    """Those of a pod, by id: parent and name."""
    uid = pod["metadata"]["uid"]
    return {
        pid: (parent, name)
        for pid, (parent, name, groups) in running().items()
        if uid in groups or uid.replace("-", "_") in groups
    }


def named(pod, name):
    """The process of a pod with this name, if it runs."""
    return next((pid for pid, (_, known) in processes(pod).items() if known == name), None)
