"""Standard output and standard error are one stream, as on the original platform."""

import pytest

from tests.faithful.served import bootstrap, nodejs, python

# Writes alternately to standard output and standard error, directly and through a program that it starts.
BOTH_PYTHON = """
import os, subprocess
from traceback import print_exc

def lambda_handler(event, context):
    for number in range(0, 20, 4):
        os.write(1, b"line %d\\n" % number)
        os.write(2, b"line %d\\n" % (number + 1))
        subprocess.run(["sh", "-c", f"echo line {number + 2}; echo line {number + 3} >&2"])
    print("line 20")
    try:
        1 / 0
    except ZeroDivisionError:
        print_exc()
    print("line 21")
"""
BOTH_NODE = """
export const handler = async () => {
  for (let number = 0; number < 22; number += 2) {
    process.stdout.write(`line ${number}\\n`);
    process.stderr.write(`line ${number + 1}\\n`);
  }
};
"""
BOTH_CUSTOM = """#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while id=$(curl -si $api/next | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //p'); do
    number=0
    while [ $number -lt 22 ]; do
        echo "line $number"
        echo "line $((number + 1))" >&2
        number=$((number + 2))
    done
    curl -s $api/$id/response -d null >/dev/null
done
"""

FUNCTIONS = {
    "both-python": python(BOTH_PYTHON),
    "both-node": nodejs(BOTH_NODE),
    "both-custom": bootstrap(BOTH_CUSTOM),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_standard_output_and_standard_error_keep_their_order(served, name):
    log = served.invoke(name, LogType="Tail")["Log"]
    lines = [line.split()[1] for line in log.split("\n") if line.startswith("line ")]
    assert lines == [str(number) for number in range(22)]


def test_a_traceback_is_where_it_was_printed(served):
    log = served.invoke("both-python", LogType="Tail")["Log"]
    assert log.index("line 20\n") < log.index("ZeroDivisionError: ") < log.index("line 21\n")
