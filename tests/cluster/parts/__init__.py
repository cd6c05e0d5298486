"""The local cluster, part by part. A cluster is machines; a machine is a set of namespaces.

build.py ─► binaries, images
certificates.py ─► identities ─┐
machine.py (over cgroup.py) ───┼─► control_plane.py, node.py ─► local.py ─► ../cluster
network.py ────────────────────┘                  kind.py, given.py ─────►
"""
