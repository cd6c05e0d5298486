"""The address at which others reach this process."""

import socket


def own_address(host, port=80):
    """The address of this machine that `host`, a pod or a gateway, can answer to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return probe.getsockname()[0]


def free_port(host="127.0.0.1"):
    """A port that nobody uses now, for a program that cannot choose one by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
