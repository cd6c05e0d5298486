"""Heaps follow the function's memory, unless the function says otherwise."""

import pytest

from tests.faithful.served import bootstrap, code

JAVA = """\
public class Heap {
    public Object handle(Object event) {
        return Runtime.getRuntime().maxMemory() >> 20;
    }
}
"""

# First creates garbage, which must not count. Then keeps as much memory as the heap allows.
MONO = """\
using System;
using System.Collections.Generic;

namespace Example {
    public class Function {
        public int FunctionHandler(object input) {
            long sum = 0;
            for (int i = 0; i < 2000; i++) {
                var garbage = new byte[1 << 20];
                garbage[i] = 1;
                sum += garbage.Length;
            }
            var kept = new List<byte[]>();
            try {
                for (int i = 0; i < 1000; i++) {
                    var part = new byte[1 << 20];
                    for (int at = 0; at < part.Length; at += 4096)
                        part[at] = 1;
                    kept.Add(part);
                }
                return -1;
            } catch (OutOfMemoryException) {
                int count = kept.Count;
                kept = null;
                return sum == 2000L << 20 ? count : -2;
            }
        }
    }
}
"""

GO = """\
package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			return
		}
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		next.Body.Close()
		limit := fmt.Sprint(debug.SetMemoryLimit(-1) >> 20)
		if done, err := http.Post(api+id+"/response", "application/json", strings.NewReader(limit)); err == nil {
			done.Body.Close()
		}
	}
}
"""

SCRIPT = """\
#!/bin/bash
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
    id=$(curl -sf -D - -o /dev/null "$api/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
    curl -sf -d "[\\"$GOMEMLIMIT\\", \\"$DOTNET_GCHeapHardLimit\\"]" "$api/$id/response"
done
"""


def java(memory, options=None):
    environment = {"environment": {"JAVA_TOOL_OPTIONS": options}} if options else {}
    return code("java17", {"Heap.java": JAVA}, handler="Heap::handle", memory=memory, **environment)


def mono(memory):
    return code("dotnet", {"Function.cs": MONO}, memory=memory)


def go(memory, **environment):
    files = {"go.mod": "module example\n\ngo 1.21\n", "main.go": GO}
    return code("go", files, memory=memory, environment=environment)


FUNCTIONS = {
    "java-256": java(256),
    "java-1024": java(1024),
    "java-own-heap": java(512, "-Xmx150m"),
    "java-own-share": java(512, "-XX:MaxRAMPercentage=50"),
    "java-own-collector": java(512, "-XX:+UseParallelGC -XX:+TieredCompilation"),
    "mono-128": mono(128),
    "mono-256": mono(256),
    "go-128": go(128),
    "go-512": go(512),
    "go-own": go(512, GOMEMLIMIT="200MiB"),
    "script-128": bootstrap(SCRIPT, memory=128),
    "script-1024": bootstrap(SCRIPT, memory=1024),
    "script-own": bootstrap(SCRIPT, environment={"GOMEMLIMIT": "off"}),
}


@pytest.mark.parametrize(("name", "least", "most"), [("java-256", 150, 200), ("java-1024", 750, 880)])
def test_java_gets_most_of_the_memory_as_its_heap(served, name, least, most):
    """-Xmx is a share of the memory and leaves memory for Java itself"""
    assert least <= served.answer(name) <= most


def test_java_uses_the_functions_own_options(served):
    """JAVA_TOOL_OPTIONS takes precedence over the heap and the collector that start.sh would choose"""
    assert 130 <= served.answer("java-own-heap") <= 150
    assert served.answer("java-own-share") > 435, "it is a share of the machine's"
    assert served.answer("java-own-collector") > 300


@pytest.mark.parametrize(("name", "least", "most"), [("mono-128", 55, 90), ("mono-256", 160, 220)])
def test_mono_collects_its_garbage_and_ends_at_its_memory(served, name, least, most):
    """gigabytes of garbage are no error, and Mono throws before kept memory would kill the instance"""
    assert least <= served.answer(name) <= most


@pytest.mark.parametrize(("name", "limit"), [("go-128", 115), ("go-512", 460), ("go-own", 200)])
def test_go_gets_its_memory_limit(served, name, limit):
    """Go's runtime uses GOMEMLIMIT, the function's own value if there is one"""
    assert served.answer(name) == limit


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("script-128", ["115MiB", "6000000"]),
        ("script-1024", ["921MiB", "30000000"]),
        ("script-own", ["off", "6000000"]),
    ],
)
def test_custom_runtimes_get_their_memory_limit_too(served, name, limits):
    """a `bootstrap` may be written in Go or .NET, so both limits are set from the memory"""
    assert served.answer(name) == limits
