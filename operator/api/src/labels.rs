//! What marks a pod as an instance, for those who make it and those who look for it.
//!
//! Owns labels, names and the port; the controller sets them, gateways select by them. A pod of a
//! warm pool has that pool's labels until it is claimed, then a function's.

/// On all that the controller makes, instances' pods and pods of warm pools among it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "pilotlight";

/// The function's name.
pub const FUNCTION: &str = "pilotlight.dev/function";
/// The instance's name, as the gateway that wants it made it up.
pub const INSTANCE: &str = "pilotlight.dev/instance";
/// What the instance was made from.
pub const REVISION: &str = "pilotlight.dev/revision";

/// The name of the warm pool that an unclaimed pod is of. It goes when the pod is claimed.
pub const WARM_POOL: &str = "pilotlight.dev/warm-pool";
/// Of a pod of a warm pool: what a function must fit that claims it. Memory and storage in MiB.
///
/// The name of this label changes when a runtime is started in another way than in images of the release
/// before (files moved in `/var/runtime`, say). So during an upgrade a gateway never claims a pod whose image
/// lacks what the gateway's descriptions start.
pub const RUNTIME: &str = "pilotlight.dev/runtime-v2";
pub const MEMORY: &str = "pilotlight.dev/memory";
pub const EPHEMERAL_STORAGE: &str = "pilotlight.dev/ephemeral-storage";

/// Where a supervisor takes leases in its pod.
pub const CONTROL_PORT: u16 = 9001;

/// The same, as a supervisor is told it.
pub fn listen() -> String {
    format!("0.0.0.0:{CONTROL_PORT}")
}

/// Digits of an instance's name that its pod bears.
const POD_DIGITS: usize = 10;

/// The one name that an instance's pod can have: a pod is never made twice.
pub fn pod_name(function: &str, instance: &str) -> String {
    let digits = instance.get(..POD_DIGITS).unwrap_or(instance);
    format!("{function}-{digits}")
}
