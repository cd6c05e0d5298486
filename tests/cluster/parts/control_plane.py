"""The control machine: etcd, the control plane, CoreDNS, and a kube-proxy so that whatever runs in
its network (`cluster exec`) reaches Services as a pod does.

`start` begins what everything else waits for; `finish` follows once the API server answers.
"""

import socket
import sys

from . import api, certificates, network
from .certificates import ACCOUNT_KEY, ACCOUNT_PUBLIC_KEY, CA_CERTIFICATE, CA_KEY
from .layout import (
    API_ADDRESS,
    CONTROL,
    CONTROL_ADDRESS,
    DNS_SERVICE_ADDRESS,
    DOMAIN,
    KUBECONFIG,
    PKI,
    SERVICE_RANGE,
    SOURCE,
    inside,
    node_name,
)
from .machine import Machine
from .node import write_proxy_config
from .progress import wait_until

API = "kube-apiserver"
CONTROLLERS = ["kube-controller-manager", "kube-scheduler"]
COMPONENTS = ["etcd", API, *CONTROLLERS, "coredns", "kube-proxy", "loopback"]
NODE_GRACE_SECONDS = 16

COREFILE = f"""{DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {inside(PKI / "coredns.kubeconfig")}
        pods insecure
    }}
    cache 5
}}
"""

RESOLVER = f"""nameserver {DNS_SERVICE_ADDRESS}
search default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}
options ndots:5
"""


def control() -> Machine:
    return Machine(CONTROL)


def start() -> None:
    machine = control()
    machine.boot()
    network.lay_fabric(machine)
    start_etcd(machine)
    start_api_server(machine)
    start_loopback(machine)


def start_etcd(machine: Machine) -> None:
    # Nothing here is to survive the machine, so no write waits for the disk.
    machine.start("etcd", ["--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn"])


def start_api_server(machine: Machine) -> None:
    flags = {
        "advertise-address": API_ADDRESS,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": inside(CA_CERTIFICATE),
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": "http://127.0.0.1:2379",
        "kubelet-certificate-authority": inside(CA_CERTIFICATE),
        "kubelet-client-certificate": inside(PKI / "kubelet-client.crt"),
        "kubelet-client-key": inside(PKI / "kubelet-client.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "profiling": "false",
        "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
        "service-account-key-file": inside(ACCOUNT_PUBLIC_KEY),
        "service-account-signing-key-file": inside(ACCOUNT_KEY),
        "service-cluster-ip-range": SERVICE_RANGE,
        "tls-cert-file": inside(PKI / "kube-apiserver.crt"),
        "tls-private-key-file": inside(PKI / "kube-apiserver.key"),
    }
    machine.start(API, as_flags(flags))


def start_loopback(machine: Machine) -> None:
    """Makes the API server reachable at the host's 127.0.0.1. A listening socket stays in the host's network,
    whichever process holds it, and the process that holds it connects from the machine's network."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = f"https://127.0.0.1:{listener.getsockname()[1]}"
        script = str(SOURCE / "parts" / "loopback.py")
        command = [sys.executable, script, str(listener.fileno()), API_ADDRESS, "6443"]
        machine.spawn("loopback", machine.entering(command, ("net",)), pass_fds=[listener.fileno()])
    certificates.write_kubeconfig(KUBECONFIG, "admin", server)


def wait_for_api() -> None:
    machine = control()
    wait_until(
        "the API server is ready",
        lambda: api.answers("/readyz"),
        lambda: machine.runs(API) and machine.runs("etcd"),
        machine.log(API),
    )


def start_controllers() -> None:
    machine = control()
    machine.start(
        "kube-controller-manager",
        as_flags(
            {
                "authentication-skip-lookup": "true",
                "bind-address": "127.0.0.1",
                "cluster-signing-cert-file": inside(CA_CERTIFICATE),
                "cluster-signing-key-file": inside(CA_KEY),
                # As for the kubelet: the default is the host's.
                "flex-volume-plugin-dir": "/var/lib/volume-plugins",
                "kube-api-burst": "200",
                "kube-api-qps": "100",
                "kubeconfig": inside(PKI / "kube-controller-manager.kubeconfig"),
                "leader-elect": "false",
                "node-monitor-grace-period": f"{NODE_GRACE_SECONDS}s",
                "node-monitor-period": "2s",
                "root-ca-file": inside(CA_CERTIFICATE),
                "service-account-private-key-file": inside(ACCOUNT_KEY),
                "use-service-account-credentials": "true",
            }
        ),
    )
    machine.start(
        "kube-scheduler",
        as_flags(
            {
                "authentication-skip-lookup": "true",
                "bind-address": "127.0.0.1",
                "kubeconfig": inside(PKI / "kube-scheduler.kubeconfig"),
                "leader-elect": "false",
            }
        ),
    )


def restart_controllers() -> None:
    # As the loss of their leader leases would, which one of each kind does not need. Running on, they
    # ask a server that has not read its roles yet, are refused, and then stay away for half a minute.
    machine = control()
    for component in CONTROLLERS:
        machine.stop(component)
    start_controllers()


def start_dns() -> None:
    machine = control()
    api.apply(dns_objects())
    corefile = machine.folder / "Corefile"
    corefile.write_text(COREFILE)
    machine.start("coredns", ["-conf", inside(corefile)])


def start_proxy() -> None:
    # There is no Node of this machine, and kube-proxy waits half a minute for one. It only needs a
    # Node's address family, so it may look at the first node's.
    machine = control()
    config = write_proxy_config(machine, node_name(1))
    machine.start("kube-proxy", [f"--config={config}"])


def wait_for_dns() -> None:
    machine = control()
    probe = ["busybox", "nslookup", f"kubernetes.default.svc.{DOMAIN}", DNS_SERVICE_ADDRESS]
    wait_until(
        "the cluster's DNS answers at its Service",
        lambda: machine.succeeds(probe),
        lambda: machine.runs("coredns") and machine.runs("kube-proxy"),
        machine.log("coredns"),
    )


def as_flags(flags: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def dns_objects() -> list[dict]:
    """CoreDNS is a process of the control machine, so its Service has an endpoint, not a selector."""
    reads = {"": ["services", "pods", "namespaces"], "discovery.k8s.io": ["endpointslices"]}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    name = {"name": "kube-dns", "namespace": "kube-system"}
    return [
        *api.reader("system:coredns", reads),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"clusterIP": DNS_SERVICE_ADDRESS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**name, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [CONTROL_ADDRESS], "conditions": {"ready": True}}],
        },
    ]
