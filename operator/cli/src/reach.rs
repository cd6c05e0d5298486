//! The way to the gateway of a cluster, for `invoke`, `logs` and `top`: with the rights that the kubeconfig has there.
//!
//! Owns two requests to the API server: a port-forward to a gateway's pod, and a token of a service account, which the
//! user may ask for with the right `create` on serviceaccounts/token. A thread of its own carries the bytes; `endpoint`
//! makes the calls.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use pilotlight_gateway::AUDIENCE;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The release whose chart is installed as README.md says.
const RELEASE_NAMESPACE: &str = "pilotlight";
/// The pods of gateways.
const GATEWAYS: &str = "app.kubernetes.io/name=pilotlight,app.kubernetes.io/component=gateway";
/// The name of the port for callers.
const PORT: &str = "api";
/// Seconds for which a token is valid.
const TOKEN_SECONDS: i64 = 3600;
/// A token of this age is replaced by a new one.
const TOKEN_AGE: Duration = Duration::from_secs(3000);

/// How a gateway of a cluster is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct InCluster {
    /// Reach a gateway of the cluster through the API server instead of --endpoint, with the rights of the kubeconfig:
    /// `list` on pods, and `get` and `create` on pods/portforward, in the release's namespace.
    #[arg(
        long,
        env = "PILOTLIGHT_CLUSTER",
        value_name = "NAMESPACE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = RELEASE_NAMESPACE
    )]
    cluster: Option<String>,
    /// Call as this service account, by a token that the API server makes: with the right `create` on
    /// serviceaccounts/token. Without a namespace it is that of the kubeconfig.
    #[arg(
        long,
        env = "PILOTLIGHT_SERVICE_ACCOUNT",
        value_name = "[NAMESPACE/]NAME"
    )]
    service_account: Option<String>,
    /// The audience of that token: `auth.audience` of the release.
    #[arg(
        long,
        env = "PILOTLIGHT_AUDIENCE",
        default_value = AUDIENCE,
        value_name = "NAME"
    )]
    audience: String,
}

/// A way that is open.
pub(crate) struct Reached {
    runtime: Runtime,
    client: Client,
    account: Option<(String, String)>,
    audience: String,
    token: RefCell<Option<(String, Instant)>>,
    forward: Option<Forward>,
}

/// A port of this machine that leads to a gateway.
struct Forward {
    address: SocketAddr,
    needs_tls: bool,
    /// Ends the thread.
    _end: DropGuard,
}

impl InCluster {
    pub(crate) fn is_given(&self) -> bool {
        self.cluster.is_some() || self.service_account.is_some()
    }

    /// `None` if the cluster has no part in it.
    pub(crate) fn reach(&self) -> Result<Option<Reached>> {
        if !self.is_given() {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("no runtime for the cluster's client")?;
        let client = runtime.block_on(Client::try_default());
        let client = client.context("no way to the cluster; is there a kubeconfig?")?;
        let account = self.service_account.as_deref().map(|account| {
            let own = client.default_namespace();
            let (namespace, name) = account.split_once('/').unwrap_or((own, account));
            (namespace.to_owned(), name.to_owned())
        });
        let forward = match &self.cluster {
            Some(namespace) => Some(Forward::open(&runtime, &client, namespace)?),
            None => None,
        };
        Ok(Some(Reached {
            runtime,
            client,
            account,
            audience: self.audience.clone(),
            token: RefCell::default(),
            forward,
        }))
    }
}

impl Reached {
    /// The address of the gateway on this machine, if it is reached through the API server.
    pub(crate) fn url(&self) -> Option<String> {
        let forward = self.forward.as_ref()?;
        let scheme = if forward.needs_tls { "https" } else { "http" };
        Some(format!("{scheme}://{}", forward.address))
    }

    /// The token to show, if a service account is named.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        let Some((namespace, name)) = &self.account else {
            return Ok(None);
        };
        let mut held = self.token.borrow_mut();
        if let Some((token, since)) = &*held
            && since.elapsed() < TOKEN_AGE
        {
            return Ok(Some(token.clone()));
        }
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![self.audience.clone()],
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let parameters = PostParams::default();
        let asked = accounts.create_token_request(name, &parameters, &request);
        let made = self.runtime.block_on(asked).with_context(|| {
            format!("--service-account {namespace}/{name}: the cluster gives no token for it")
        })?;
        let token = made.status.map(|status| status.token);
        let token = token.ok_or_else(|| anyhow!("the cluster has answered without a token"))?;
        *held = Some((token.clone(), Instant::now()));
        Ok(Some(token))
    }
}

impl Forward {
    fn open(runtime: &Runtime, client: &Client, namespace: &str) -> Result<Self> {
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let listed = runtime.block_on(pods.list(&ListParams::default().labels(GATEWAYS)));
        let listed = listed.with_context(|| {
            format!("--cluster={namespace}: the cluster does not list the pods there")
        })?;
        let found = listed.items.iter().find_map(|pod| {
            let port = port(pod).filter(|_| is_ready(pod))?;
            Some((pod.name_any(), port, needs_tls(pod)))
        });
        ensure!(
            !listed.items.is_empty(),
            "--cluster={namespace}: there is no gateway in this namespace; name the namespace of the release"
        );
        let (pod, port, needs_tls) = found.ok_or_else(|| {
            anyhow!("--cluster={namespace}: no gateway there is ready; `kubectl get pods` says why")
        })?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let listener = listener.context("no port of this machine for the way to the gateway")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let end = CancellationToken::new();
        let ends = end.clone();
        let namespace = namespace.to_owned();
        thread::spawn(move || {
            if let Err(error) = carry(listener, &namespace, &pod, port, ends) {
                anstream::eprintln!("error: the way to the gateway has ended: {error:#}");
            }
        });
        Ok(Forward {
            address,
            needs_tls,
            _end: end.drop_guard(),
        })
    }
}

/// Takes connections, and carries each to the pod, until `end`.
fn carry(
    listener: std::net::TcpListener,
    namespace: &str,
    pod: &str,
    port: u16,
    end: CancellationToken,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // A client belongs to the runtime that makes its connections.
        let client = Client::try_default().await?;
        let pods = Api::<Pod>::namespaced(client, namespace);
        let listener = TcpListener::from_std(listener)?;
        let accepting = async {
            loop {
                let (stream, _) = listener.accept().await?;
                // It ends with its connection, or with this runtime.
                tokio::spawn(carry_one(stream, pods.clone(), pod.to_owned(), port));
            }
        };
        tokio::select! {
            () = end.cancelled() => Ok(()),
            failed = accepting => failed,
        }
    })
}

async fn carry_one(mut stream: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    let forwarded = pods.portforward(&pod, &[port]).await;
    let mut forwarder = match forwarded {
        Ok(forwarder) => forwarder,
        Err(error) => {
            anstream::eprintln!("error: no port-forward to pod {pod}: {error}");
            return;
        }
    };
    if let Some(mut upstream) = forwarder.take_stream(port) {
        // Either end may close it.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    }
    let _ = forwarder.join().await;
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready" && one.status == "True");
    pod.metadata.deletion_timestamp.is_none() && ready.next().is_some()
}

/// The port for callers.
fn port(pod: &Pod) -> Option<u16> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(PORT))?;
    named.container_port.try_into().ok()
}

/// Whether the gateway serves TLS alone (`gateway.tls.mode` of the chart).
fn needs_tls(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut arguments = containers.flat_map(|container| container.args.iter().flatten());
    arguments.any(|argument| argument == "--tls=required")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gateway(ready: &str, ports: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "gateway-1"},
            "spec": {"containers": [{"name": "gateway", "ports": ports}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_gateway_is_reached_at_its_port_for_callers_when_it_is_ready() {
        let ports = json!([
            {"name": "parts", "containerPort": 8082},
            {"name": "api", "containerPort": 8080},
        ]);
        let pod = gateway("True", ports.clone());
        assert!(is_ready(&pod));
        assert_eq!(port(&pod), Some(8080));
        assert!(!is_ready(&gateway("False", ports)));
        assert_eq!(port(&gateway("True", json!([]))), None);
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn a_gateway_is_called_by_tls_when_it_serves_nothing_else() {
        for (argument, is_needed) in [
            ("--tls=required", true),
            ("--tls=optional", false),
            ("--tls=off", false),
        ] {
            let mut pod = gateway("True", json!([]));
            let spec = pod.spec.as_mut().expect("a spec");
            spec.containers[0].args = Some(vec!["gateway".to_owned(), argument.to_owned()]);
            assert_eq!(needs_tls(&pod), is_needed);
        }
        assert!(
            !needs_tls(&gateway("True", json!([]))),
            "of an earlier release"
        );
    }
}
