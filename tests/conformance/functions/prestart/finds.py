"""What a handler can find out about its process, for the comparison of test_prestart.py."""

# Its own imports come after a look at what was loaded without it.
# ruff: noqa: E402

import sys

MODULES = sorted(sys.modules)

import builtins
import ctypes
import faulthandler
import gc
import importlib
import inspect
import locale
import logging
import os
import random
import resource
import signal
import subprocess
import threading
import time
import traceback
import uuid
import warnings

PATH = list(sys.path)
STACK = traceback.format_stack()
FRAMES = [(frame.filename, frame.function) for frame in inspect.stack(0)]


def status(*names):
    with open("/proc/self/status") as file:
        return [line.split() for line in file if line.split(":")[0] in names]


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            found[name] = target.split(":[")[0], os.get_inheritable(int(name))
        except OSError:
            pass  # the one that lists them
    return found


def public(module):
    return {name: repr(value) for name, value in vars(module).items() if " at 0x" not in repr(value)}


def find():
    main = sys.modules["__main__"]
    stdin = sys.stdin
    return {
        "environment": list(os.environ.items()),
        "subprocess": subprocess.run(["env"], capture_output=True, text=True).stdout,
        "modules": MODULES,
        "path": PATH,
        "path_now": sys.path,
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "executable": [sys.executable, sys.prefix, sys.base_prefix],
        "flags": repr(sys.flags),
        "options": [sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.pycache_prefix],
        "meta_path": repr([type(finder).__name__ for finder in sys.meta_path]),
        "path_hooks": len(sys.path_hooks),
        "importers": sorted(folder for folder, finder in sys.path_importer_cache.items() if finder),
        "main": public(main),
        "main_names": list(vars(main)),
        "builtins": sorted(vars(builtins)),
        "directory": os.getcwd(),
        "descriptors": descriptors(),
        "stdin": [
            stdin.name,
            stdin.mode,
            stdin.encoding,
            stdin.errors,
            stdin.seekable(),
            stdin.isatty(),
            stdin.line_buffering,
            stdin.write_through,
            repr(stdin.newlines),
            stdin.buffer.raw.name,
            stdin is sys.__stdin__,
            stdin.closed,
            stdin.buffer.raw.mode,
            stdin.buffer.raw.closefd,
            repr(stdin),
            stdin.read(),
        ],
        "stdout": [sys.__stdout__.encoding, sys.__stdout__.errors, sys.__stdout__.line_buffering],
        "handlers": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
        "signals": status("SigBlk", "SigIgn", "SigCgt", "ShdPnd", "SigPnd"),
        "user": [os.getresuid(), os.getresgid(), os.getgroups(), *status("CapEff", "NoNewPrivs", "Seccomp")],
        "umask": status("Umask"),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "niceness": [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
        "name": open("/proc/self/comm").read(),
        "group": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
        "locale": [
            locale.setlocale(locale.LC_ALL),
            locale.getpreferredencoding(),
            sys.getfilesystemencoding(),
        ],
        "time": [time.tzname, time.timezone, time.daylight, time.localtime(0).tm_hour],
        "threads": [thread.name for thread in threading.enumerate()],
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.get_debug(), gc.callbacks == []],
        "warnings": repr(warnings.filters),
        "logging": [
            repr(logging.root.handlers)[:24],
            logging.root.level,
            sorted(logging.root.manager.loggerDict),
        ],
        "limits_of_python": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.get_int_max_str_digits()],
        "hooks": [sys.excepthook.__name__, sys.displayhook.__name__, sys.gettrace(), sys.getprofile()],
        "faulthandler": faulthandler.is_enabled(),
        "stack": STACK,
        "frames": FRAMES,
        "stack_now": traceback.format_stack(),
        "depth": len(inspect.stack(0)),
        "atexit": ctypes.pythonapi is not None and __import__("atexit")._ncallbacks(),
    }


def draw():
    return {
        "random": random.random(),
        "uuid1": str(uuid.uuid1()),
        "uuid": str(uuid.uuid4()),
        "urandom": os.urandom(8).hex(),
        "hash": hash("text"),
        "address": id(object()),
        "process": os.getpid(),
    }


def kernel():
    read = lambda name: open(f"/proc/self/{name}").read().split("\0")[:-1]  # noqa: E731
    return {"cmdline": read("cmdline"), "environ": sorted(read("environ"))}


def load(name):
    ctypes.CDLL(name)
    with open("/proc/self/maps") as file:
        places = {line.split()[-1] for line in file if line.rstrip().endswith(name)}
    return "/".join(places.pop().split("/")[-3:-1])


def handler(event, context):
    match event["do"]:
        case "find":
            return find()
        case "draw":
            return draw()
        case "kernel":
            return kernel()
        case "fail":
            raise ValueError("as it was asked to")
        case "relative":
            return logging.makeLogRecord({}).relativeCreated
        case "whose":
            return getattr(importlib.import_module(event["module"]), "whose", None)
        case "builtin":
            return getattr(builtins, "whose", None)
        case "load":
            return load(event["library"])
        case "user_site":
            import site

            return [sys.path, site.USER_SITE, site.USER_BASE, site.ENABLE_USER_SITE]
