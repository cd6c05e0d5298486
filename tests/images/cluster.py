"""A namespace of the test cluster, and instances in it: pods like those of the controller."""

import base64
import json
import subprocess
import uuid

from tests.harness.commands import inside, run
from tests.harness.kubectl import TIMEOUT
from tests.harness.patience import LONGER, PATIENCE, until

PORT = 8080
FREED = '{"metadata":{"finalizers":null}}'


class Namespace:
    def __init__(self):
        self.name = f"images-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", self.name)

    def delete(self):
        # A failed test leaves pods with a finalizer, which keeps them.
        for pod in self.kubectl("get", "pods", "--output=name").split():
            self.kubectl("patch", pod, "--type=merge", f"--patch={FREED}")
        self.kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *words, **options):
        return run(*inside("kubectl", f"--namespace={self.name}", *words), **options)

    def get(self, kind, name):
        return json.loads(self.kubectl("get", kind, name, "--output=json"))


class Instance:
    """A pod with an image. A ConfigMap mounts its code."""

    def __init__(self, namespace, name, image, environment, command, code, handler, **settings):
        self.namespace, self.name = namespace, name
        self.memory = settings.pop("memory", 128)
        config = {
            "listen": f"0.0.0.0:{PORT}",
            "endsWithParent": False,
            "function": name,
            "memory": self.memory,
            "timeout": LONGER,
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
        namespace.kubectl("wait", "--for=condition=Ready", TIMEOUT, f"pod/{name}")
        self.address = namespace.get("pod", name)["status"]["podIP"]

    def spec(self, image, config):
        return {
            "restartPolicy": "Never",
            # The kubelet kills a supervisor that lives longer, and the exit code shows that.
            "terminationGracePeriodSeconds": PATIENCE,
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
        command = inside("curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--include")
        command += ["--header", f"pilotlight-request-id: {uuid.uuid4()}"]
        command += ["--header", "lambda-runtime-invoked-function-arn: arn:aws:lambda:x:0:function:f"]
        command += ["--data-binary", json.dumps(event), f"http://{self.address}:{PORT}/lease"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def invoke(self, event):
        """Repeats a refused invocation, as a gateway does. Returns its outcome and body."""

        def attempt():
            result = answer(self.call(event))
            return result if result[0] != "refused" else None

        return until(attempt, lambda: f"{self.name} takes an event:\n{self.log()}")

    def log(self):
        return self.namespace.kubectl("logs", self.name)

    def await_log(self, text, times):
        until(lambda: self.log().count(text) >= times, lambda: f"{times} times {text!r}:\n{self.log()}")

    def delete(self):
        self.namespace.kubectl("delete", "pod", self.name, "--wait=false")

    def exit(self):
        """Waits for the container's end and returns it. The finalizer keeps the deleted pod until then."""

        def terminated():
            [status] = self.namespace.get("pod", self.name)["status"]["containerStatuses"]
            return status["state"].get("terminated")

        ended = until(terminated, lambda: f"{self.name} has ended:\n{self.log()}")
        self.namespace.kubectl("patch", "pod", self.name, "--type=merge", f"--patch={FREED}")
        return ended


def answer(call):
    """The reported outcome and the body, or `refused` and the reason why nothing started."""
    output, errors = call.communicate()
    assert call.returncode == 0, errors
    head, _, body = output.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if "pilotlight-refusal" in headers:
        return "refused", headers["pilotlight-refusal"]
    assert " 200 " in f"{status} ", output
    return headers["pilotlight-outcome"], json.loads(body)
