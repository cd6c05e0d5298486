"""The address at which others reach this process."""

import socket


def own_address(host, port=80):
    """The address of this machine that `host`, a pod or a gateway, can answer to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))  # sends nothing
        return probe.getsockname()[0]
