"""A namespace of the test cluster, and instances in it: pods as the controller will make them."""

import base64
import json
import subprocess
import time
import uuid
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "tests/cluster/cluster"
PORT = 8080
READY_LIMIT = "60s"
FREED = '{"metadata":{"finalizers":null}}'


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Namespace:
    def __init__(self):
        self.name = f"images-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", self.name)

    def delete(self):
        # A test that failed has left its pods with what keeps them.
        for pod in self.kubectl("get", "pods", "--output=name").split():
            self.kubectl("patch", pod, "--type=merge", f"--patch={FREED}")
        self.kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *words, **options):
        return run(CLUSTER, "exec", "--", "kubectl", f"--namespace={self.name}", *words, **options)

    def get(self, kind, name):
        return json.loads(self.kubectl("get", kind, name, "--output=json"))


class Instance:
    """A pod with an image, its code mounted from a ConfigMap."""

    def __init__(self, namespace, name, image, environment, command, code, handler, **settings):
        self.namespace, self.name = namespace, name
        self.memory = settings.pop("memory", 128)
        config = {
            "listen": f"0.0.0.0:{PORT}",
            "endsWithParent": False,
            "function": name,
            "memory": self.memory,
            "timeout": 10,
            "sanitizeErrors": False,
            "logFormat": "Text",
            "logs": True,
            "logGroup": f"/aws/lambda/{name}",
            "logStream": "2026/01/31/[$LATEST]00000000000000000000000000000000",
            "runtime": name,
            "command": command,
            "taskRoot": "/var/task",
            "environment": {
                **environment,
                "AWS_LAMBDA_FUNCTION_NAME": name,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
                "_HANDLER": handler,
            },
            **settings,
        }
        files = {file.name: base64.b64encode(file.read_bytes()).decode() for file in code}
        objects = [
            {"kind": "ConfigMap", "metadata": {"name": name}, "binaryData": files},
            {
                "kind": "Pod",
                "metadata": {"name": name, "finalizers": ["pilotlight.test/exit-is-read"]},
                "spec": self.spec(image, config),
            },
        ]
        objects = [{"apiVersion": "v1", **each} for each in objects]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        namespace.kubectl("create", "--filename=-", input=json.dumps(listed))
        namespace.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_LIMIT}", f"pod/{name}")
        self.address = namespace.get("pod", name)["status"]["podIP"]

    def spec(self, image, config):
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "instance",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "env": [
                        {"name": "PILOTLIGHT_INSTANCE", "value": json.dumps(config).replace("$(", "$$(")}
                    ],
                    "ports": [{"containerPort": PORT}],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                    "resources": {"limits": {"memory": f"{self.memory + 32}Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "code", "mountPath": "/var/task"},
                        {"name": "tmp", "mountPath": "/tmp"},
                    ],
                }
            ],
            "volumes": [
                {"name": "code", "configMap": {"name": self.name, "defaultMode": 0o755}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}},
            ],
        }

    def call(self, event):
        """Starts an invocation; `answer` waits for its end."""
        command = [CLUSTER, "exec", "--", "curl", "--silent", "--show-error", "--max-time", "30", "--include"]
        command += ["--header", f"pilotlight-request-id: {uuid.uuid4()}"]
        command += ["--header", "lambda-runtime-invoked-function-arn: arn:aws:lambda:x:0:function:f"]
        command += ["--data-binary", json.dumps(event), f"http://{self.address}:{PORT}/lease"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def invoke(self, event, limit=15):
        """As a gateway does: what never started is tried again."""
        end = time.monotonic() + limit
        while (told := answer(self.call(event)))[0] == "refused" and time.monotonic() < end:
            time.sleep(0.1)
        return told

    def log(self):
        return self.namespace.kubectl("logs", self.name)

    def await_log(self, text, times, limit=10):
        end = time.monotonic() + limit
        while self.log().count(text) < times:
            assert time.monotonic() < end, f"not {times} times {text!r} after {limit} s:\n{self.log()}"
            time.sleep(0.1)

    def delete(self):
        self.namespace.kubectl("delete", "pod", self.name, "--wait=false")

    def exit(self, limit=30):
        """How the container ended, once it has. Its finalizer kept the deleted pod up to here."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            states = self.namespace.get("pod", self.name)["status"]["containerStatuses"]
            if ended := states[0]["state"].get("terminated"):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{self.name} runs on after {limit} s:\n{self.log()}")
        self.namespace.kubectl("patch", "pod", self.name, "--type=merge", f"--patch={FREED}")
        return ended


def answer(call):
    """The outcome that the supervisor reports, and the body; or `refused` and why it never started."""
    output, errors = call.communicate()
    assert call.returncode == 0, errors
    head, _, body = output.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if "pilotlight-refusal" in headers:
        return "refused", headers["pilotlight-refusal"]
    assert " 200 " in f"{status} ", output
    return headers["pilotlight-outcome"], json.loads(body)
