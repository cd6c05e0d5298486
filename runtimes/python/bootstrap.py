"""Starts the vendor's client as the original platform does.

The order matters: the client's modules are loaded first. Then the function's folders come to the front of
`sys.path`, and their `.pth` files are read. So no module of the function can replace one that the client has
loaded. Wrapper scripts start or import this file by its path on the original platform,
`/var/runtime/bootstrap.py`, and may change `_HANDLER` first.

In local mode code and layers lie elsewhere; runtime.toml passes their folders in variables.
"""

import os
import site
import sys

LIBRARIES, LAYERS = "PILOTLIGHT_LIBRARIES", "PILOTLIGHT_LAYERS"
RECORDS = "_LAMBDA_TELEMETRY_LOG_FD"


def main():
    import awslambdaric.__main__ as client

    task_root = os.environ["LAMBDA_TASK_ROOT"]
    runtime = os.environ.get("LAMBDA_RUNTIME_DIR", os.path.dirname(os.path.abspath(__file__)))
    libraries = [folder for folder in [os.environ.pop(LIBRARIES, "")] if folder]
    layers = os.environ.pop(LAYERS, "/opt")
    packages = "lib/python{}.{}/site-packages".format(*sys.version_info)
    sites = [task_root, *libraries]
    front = sites[:]
    if "PYTHONPATH" in os.environ:
        # The function sets PYTHONPATH, so layers are on the path only if it names them.
        translate({"/var/task": task_root, "/var/runtime": runtime, "/opt": layers})
    else:
        if layers:
            sites += [os.path.join(layers, "python", packages), os.path.join(layers, "python")]
        language = os.path.dirname(os.path.dirname(sys.executable))
        front = [*sites, os.path.join(language, packages)]
        os.environ["PYTHONPATH"] = os.pathsep.join([*libraries, runtime])
    forget_closed_descriptor()
    sys.path[:0] = front
    for folder in sites:
        site.addsitedir(folder)
    client.main([task_root, os.environ["_HANDLER"]])


def forget_closed_descriptor():
    """Removes the variable if a wrapper has closed the descriptor for records, as `subprocess` does.

    With the variable the client would fail; without it the client writes to standard output.
    """
    if descriptor := os.environ.get(RECORDS):
        try:
            os.fstat(int(descriptor))
        except OSError:
            del os.environ[RECORDS]


def translate(places):
    """Replaces entries of `sys.path` below an image's folders by this machine's folders."""
    for at, entry in enumerate(sys.path):
        for place, here in places.items():
            if here and (entry + "/").startswith(place + "/") and not os.path.exists(entry):
                sys.path[at] = here + entry[len(place) :]


if __name__ == "__main__":
    main()
