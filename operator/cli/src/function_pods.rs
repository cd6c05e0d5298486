//! The options of `pilotlight controller` that shape the pods of all functions and warm pools.
//!
//! Owns their names and ranges; the controller's `build` writes what follows from them into pods.

use pilotlight_api::ObjectName;
use pilotlight_controller::{LOG_RATE, LOG_STORAGE_MIB, PodOptions};
use pilotlight_core::instance::node_share::CpuLimit;

const KIB: u32 = 1024;
/// The least rate of a log in KiB a second: the largest record fits what may come at once.
const LOG_RATE_MIN: u32 = 64;
const LOG_RATE_MAX: u32 = 1024 * 1024;

fn log_rate(text: &str) -> Result<u32, String> {
    let rate = text.parse().ok();
    let rate = rate.filter(|rate| *rate == 0 || (LOG_RATE_MIN..=LOG_RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("must be 0, or KiB between {LOG_RATE_MIN} and {LOG_RATE_MAX}"))
}

/// Settings of the installation for the pods of functions.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FunctionPods {
    /// The most processors of an instance: `none`, `proportional` to its memory, or a number such as 2 or 500m.
    #[arg(
        long,
        env = "PILOTLIGHT_FUNCTION_CPU_LIMIT",
        default_value = "none",
        value_name = "LIMIT"
    )]
    function_cpu_limit: CpuLimit,
    /// MiB of a node's disk for the log files of one instance, in addition to its volumes. It has to be more than the
    /// kubelet keeps (containerLogMaxSize times containerLogMaxFiles), or the kubelet evicts instances that log much.
    #[arg(
        long,
        env = "PILOTLIGHT_FUNCTION_LOG_STORAGE",
        default_value_t = LOG_STORAGE_MIB,
        value_parser = clap::value_parser!(u32).range(1..=10240),
        value_name = "MIB"
    )]
    function_log_storage: u32,
    /// KiB a second that are logged of what an instance prints, 64 at least; 0: all. Lines beyond it are dropped and
    /// counted.
    #[arg(
        long,
        env = "PILOTLIGHT_FUNCTION_LOG_RATE",
        default_value_t = LOG_RATE / KIB,
        value_parser = log_rate,
        value_name = "KIB"
    )]
    function_log_rate: u32,
    /// Give each instance users of its own (`hostUsers: false`). Nodes need Linux 6.3, containerd 2.0 or CRI-O 1.25,
    /// and Kubernetes 1.33, or an earlier one with the feature gate UserNamespacesSupport.
    #[arg(long, env = "PILOTLIGHT_FUNCTION_USER_NAMESPACES")]
    function_user_namespaces: bool,
    /// Have the kubelet probe no supervisor. Needed if an image of --image is of a release without such probes.
    #[arg(long, env = "PILOTLIGHT_NO_LIVENESS_PROBE")]
    no_liveness_probe: bool,
    /// The runtime class of functions and warm pools that name none. The gateways need the same option.
    #[arg(long, env = "PILOTLIGHT_FUNCTION_RUNTIME_CLASS", value_name = "NAME")]
    function_runtime_class: Option<ObjectName>,
}

impl From<FunctionPods> for PodOptions {
    fn from(pods: FunctionPods) -> Self {
        PodOptions {
            cpu_limit: pods.function_cpu_limit,
            log_storage_mib: pods.function_log_storage,
            log_rate: (pods.function_log_rate > 0).then_some(pods.function_log_rate * KIB),
            user_namespaces: pods.function_user_namespaces,
            liveness_probe: !pods.no_liveness_probe,
            runtime_class: pods.function_runtime_class,
        }
    }
}
