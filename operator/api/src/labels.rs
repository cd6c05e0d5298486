//! The labels, names and the ports that mark a pod as an instance.
//!
//! The controller sets them, and gateways select pods by them. A pod of a warm pool has the pool's labels
//! until it is claimed, and its function's labels afterwards.

use std::collections::BTreeMap;

use pilotlight_core::ids::{PoolId, Qualifier};

/// The label of everything that the controller makes: pods of functions and warm pools, and config maps.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "pilotlight";

/// The name of the function. The function's namespace is that of the pod.
pub const FUNCTION: &str = "pilotlight.dev/function";
/// The qualifier of the pool that the instance belongs to, as [`qualifier_value`] encodes it. Pods that an
/// earlier release created lack this label and belong to `$LATEST`.
pub const QUALIFIER: &str = "pilotlight.dev/qualifier";
/// The name of the instance, which the gateway that wants it has chosen.
pub const INSTANCE: &str = "pilotlight.dev/instance";
/// The revision that the instance was made from.
pub const REVISION: &str = "pilotlight.dev/revision";

/// Marks a pod that runs with a service account of its own, and so has a token. The chart's policies let only such
/// pods connect to the API server, where its addresses are known (`functions.egress.apiServer`).
pub const SERVICE_ACCOUNT: &str = "pilotlight.dev/service-account";
pub const OWN: &str = "own";

/// Marks a WarmPool that the controller has made by itself.
pub const DEFAULT_POOL: &str = "pilotlight.dev/default-pool";

/// The name of the warm pool of an unclaimed pod. It is removed when the pod is claimed.
pub const WARM_POOL: &str = "pilotlight.dev/warm-pool";
/// The runtime of a warm pool's pod. A function that claims the pod must fit this, [`MEMORY`] and
/// [`EPHEMERAL_STORAGE`], both in MiB.
///
/// The name of this label changes when images start a runtime in another way than those of the release before,
/// for example after files moved in `/var/runtime`. So during an upgrade a gateway never claims a pod whose
/// image lacks what the gateway's descriptions start.
pub const RUNTIME: &str = "pilotlight.dev/runtime-v2";
/// The same label for a pod with a service account, or with variables of Secrets and config maps. Gateways of an earlier
/// release do not know that only some functions may have such a pod, and find no pod by a label that they do not know.
/// It is renamed together with [`RUNTIME`].
pub const RUNTIME_WITH_ACCESS: &str = "pilotlight.dev/runtime-v2-with-access";
pub const MEMORY: &str = "pilotlight.dev/memory";
pub const EPHEMERAL_STORAGE: &str = "pilotlight.dev/ephemeral-storage";

/// The annotation of a warm pool's pod with the node selector and the tolerations of its pool, as JSON. The pod's own spec
/// has more of both: admission controllers add theirs.
pub const PLACEMENT: &str = "pilotlight.dev/placement";

/// The container of an instance in its pod.
pub const CONTAINER: &str = "instance";
/// The folder of layers in it.
pub const LAYERS_MOUNT: &str = "/opt";

/// The qualifier as a label's value, which may not contain `$`: `$LATEST` is `latest`.
pub fn qualifier_value(qualifier: Qualifier) -> &'static str {
    match qualifier {
        Qualifier::Latest => "latest",
    }
}

/// The pool that the labels of an object in this namespace name; `None` if they name none that exists.
pub fn pool_of(namespace: &str, labels: &BTreeMap<String, String>) -> Option<PoolId> {
    let latest = qualifier_value(Qualifier::Latest);
    let qualifier = labels.get(QUALIFIER).map_or(latest, String::as_str);
    if qualifier != latest {
        return None;
    }
    let name = labels.get(FUNCTION)?.parse().ok()?;
    Some(PoolId::latest(namespace.parse().ok()?, name))
}

/// The port on which a supervisor accepts leases in its pod.
pub const CONTROL_PORT: u16 = 9001;

/// The same as `HOST:PORT`, for the configuration of a supervisor.
pub fn listen() -> String {
    format!("0.0.0.0:{CONTROL_PORT}")
}

/// The port on which a supervisor answers the kubelet's probe.
pub const HEALTH_PORT: u16 = 9002;

/// The same as `HOST:PORT`, for a supervisor.
pub fn health_listen() -> String {
    format!("0.0.0.0:{HEALTH_PORT}")
}

/// Digits of an instance's name that are part of its pod's name.
const POD_DIGITS: usize = 10;

/// The only name that an instance's pod can have, so that the pod is never created twice.
pub fn pod_name(function: &str, instance: &str) -> String {
    let digits = instance.get(..POD_DIGITS).unwrap_or(instance);
    format!("{function}-{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_qualifier_belongs_to_the_newest_version() {
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let function = (FUNCTION, "hello");
        for labels in [
            labels(&[function]),
            labels(&[function, (QUALIFIER, "latest")]),
        ] {
            let pool = pool_of("shop", &labels).expect("a pool");
            assert_eq!(pool.to_string(), "shop/hello:$LATEST");
        }
        assert_eq!(
            pool_of("shop", &labels(&[function, (QUALIFIER, "7")])),
            None
        );
        assert_eq!(pool_of("shop", &labels(&[])), None);
    }
}
