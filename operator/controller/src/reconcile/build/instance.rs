//! What all instances' pods have in common: limits, confinement, volumes, and the runtime's image.
//!
//! Pure. Feeds `function` and `warm`, which make complete pods of these parts. `volumes` has the volumes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, PodSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use pilotlight_api::status::{CODE_NOT_SUPPORTED, NO_IMAGE, SECRET_REFUSED};
use pilotlight_api::{EnvironmentSource, ObjectName, PodSettings, labels};
use pilotlight_core::function::{MemoryMiB, Runtime};
use pilotlight_core::instance::memory::SUPERVISOR_MIB;
use pilotlight_core::instance::node_share::CpuLimit;
use pilotlight_runtimes::RuntimeDescription;
use pilotlight_wire::config::HEALTH_PATH;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::variables;
use super::volumes::Volumes;
use crate::options::{Options, PodOptions};

/// The IDs of the user and the group `function` in the images.
pub(super) const USER: i64 = 993;
pub(super) const GROUP: i64 = 990;
/// Time after the longest event, in seconds, to report its end and to flush the log.
pub(super) const FLUSH: u32 = 10;
/// Everybody reads and executes the code; only root writes it.
pub(super) const CODE_MODE: i32 = 0o755;

/// The probe of a supervisor, in seconds. It answers in the pauses of its own work, and a busy function takes
/// processors from it, so a supervisor counts as dead only after half a minute.
const PROBE_PERIOD: i32 = 10;
const PROBE_TIMEOUT: i32 = 5;
const PROBE_FAILURES: i32 = 3;
const PROBE_GRACE: i64 = 1;

/// The limit of an archive's content plus the overhead of a file system, in MiB.
pub(super) const UNPACKED_MIB: u32 = 300;

/// Why a function has no pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbuildable {
    #[error(
        "spec.code.{0} lies on a machine, not in the cluster: `pilotlight package` makes an archive of it"
    )]
    Code(&'static str),
    #[error(
        "spec.runtime: the controller has no image for {0}: give it one with --image {0}=IMAGE (chart value \
         runtimeImages)"
    )]
    NoImage(Runtime),
    #[error("spec.runtime: {0}")]
    NoRuntime(String),
    #[error(
        "spec.environmentFrom: the Secret {0} belongs to Pilotlight itself: name one of your own"
    )]
    OwnSecret(String),
    #[error(
        "{field}.secretRef: gateways may not read the Secret {name}: whoever installs Pilotlight adds it to the chart \
         value gateway.fetch.secrets"
    )]
    ArchiveSecret { field: String, name: String },
}

impl Unbuildable {
    /// The condition's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Unbuildable::Code(_) => CODE_NOT_SUPPORTED,
            Unbuildable::OwnSecret(_) | Unbuildable::ArchiveSecret { .. } => SECRET_REFUSED,
            // The author of the Function sees both in the same way: there is nothing to run it in.
            Unbuildable::NoImage(_) | Unbuildable::NoRuntime(_) => NO_IMAGE,
        }
    }
}

/// The release's own Secrets become nobody's variables, neither of a function's pods nor of a pool's.
pub(super) fn check_sources(
    sources: &[EnvironmentSource],
    options: &Options,
) -> Result<(), Unbuildable> {
    let secrets = sources.iter().filter_map(|source| match source {
        EnvironmentSource::Secret(secret) => Some(secret.name.as_str()),
        EnvironmentSource::ConfigMap(_) => None,
    });
    let mut own = secrets.filter(|name| options.owns_secret(name));
    match own.next() {
        Some(name) => Err(Unbuildable::OwnSecret(name.to_owned())),
        None => Ok(()),
    }
}

/// The parts of a pod besides those that all instances have.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a PodSettings,
    /// The longest time that an event may run, in seconds.
    pub(super) longest: u32,
    pub(super) memory: MemoryMiB,
    /// The image and the variables.
    pub(super) container: Container,
    /// Whether the image is that of a runtime, and not the function's own.
    pub(super) is_runtime_image: bool,
    pub(super) volumes: Volumes,
}

/// The spec of a pod of these parts and of everything that all instances have.
pub(super) fn instance_spec(parts: Parts<'_>, options: &Options) -> PodSpec {
    let Parts {
        settings, longest, ..
    } = parts;
    let mut variables = parts.container.env.unwrap_or_default();
    let mut volumes = parts.volumes;
    if let Some(identity) = &options.instance_identity {
        variables.push(variables::identity(identity));
    }
    volumes.tokens(
        options.instance_identity.is_some(),
        &options.caller_audience,
    );
    variables.extend(options.pods.log_rate.map(variables::log_rate));
    if options.exporter.is_some() {
        variables.push(variables::traces());
    }
    let is_probed = options.pods.liveness_probe && parts.is_runtime_image;
    if is_probed {
        variables.push(variables::health());
    }
    let Volumes {
        volumes,
        mounts,
        mib,
    } = volumes;
    PodSpec {
        service_account_name: settings
            .service_account
            .as_ref()
            .map(ObjectName::as_str)
            .map(str::to_owned),
        automount_service_account_token: Some(settings.service_account.is_some()),
        image_pull_secrets: Some(as_in_a_pod(&settings.image_pull_secrets)),
        node_selector: Some(as_in_a_pod(&settings.node_selector)),
        tolerations: Some(as_in_a_pod(&settings.tolerations)),
        runtime_class_name: settings
            .runtime_class(options.pods.runtime_class.as_ref())
            .map(ToString::to_string),
        enable_service_links: Some(false),
        host_users: options.pods.user_namespaces.then_some(false),
        // The kernel ignores a SIGTERM to the first process of a namespace that has no handler for it yet.
        // Otherwise a pod that is deleted while it starts would live for its whole grace period.
        share_process_namespace: Some(true),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some((longest + FLUSH).into()),
        containers: vec![Container {
            name: labels::CONTAINER.to_owned(),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            ports: Some(vec![ContainerPort {
                name: Some("lease".to_owned()),
                container_port: labels::CONTROL_PORT.into(),
                ..ContainerPort::default()
            }]),
            env: Some(variables),
            liveness_probe: is_probed.then(liveness_probe),
            resources: Some(resources(parts.memory, mib, &options.pods)),
            volume_mounts: Some(mounts),
            security_context: Some(confined()),
            ..parts.container
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// Ends a supervisor that has been stopped, or hangs, also while it has no invocation and no function. Gateways
/// notice that only of an instance that has a lease.
fn liveness_probe() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(HEALTH_PATH.to_owned()),
            port: IntOrString::Int(labels::HEALTH_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(PROBE_PERIOD),
        timeout_seconds: Some(PROBE_TIMEOUT),
        failure_threshold: Some(PROBE_FAILURES),
        // A process that was stopped handles no SIGTERM, and the pod's own grace period is that of a long event.
        termination_grace_period_seconds: Some(PROBE_GRACE),
        ..Probe::default()
    }
}

/// Converts settings that a Function spells exactly as a pod does.
pub(super) fn as_in_a_pod<T: DeserializeOwned>(settings: &impl Serialize) -> T {
    let settings = serde_json::to_value(settings).and_then(serde_json::from_value);
    settings.expect("a Function's settings are a pod's")
}

pub(super) fn runtime_image(runtime: &Runtime, options: &Options) -> Result<String, Unbuildable> {
    let image = options.images.get(runtime.canonical().as_str()).cloned();
    image.ok_or_else(|| Unbuildable::NoImage(runtime.clone()))
}

pub(super) fn runtime<'a>(
    name: &Runtime,
    options: &'a Options,
) -> Result<&'a RuntimeDescription, Unbuildable> {
    let runtime = options.runtimes.get(name);
    runtime
        .map(Arc::as_ref)
        .ok_or_else(|| Unbuildable::NoRuntime(options.runtimes.lacking(name)))
}

/// `volumes_mib`: what its volumes may take of the disk. The kubelet counts the container's log as well, and the
/// file system of a container is read-only, so nothing else counts.
fn resources(memory: MemoryMiB, volumes_mib: u32, options: &PodOptions) -> ResourceRequirements {
    let mut resources = resizable(memory, options.cpu_limit);
    let storage = Quantity(format!("{}Mi", volumes_mib + options.log_storage_mib));
    // A request as large as the limit: the scheduler never promises the same part of a disk twice.
    for kind in [&mut resources.limits, &mut resources.requests] {
        let kind = kind.get_or_insert_default();
        kind.insert("ephemeral-storage".to_owned(), storage.clone());
    }
    resources
}

/// Memory and processors, which a running pod can be given more or less of.
pub(super) fn resizable(memory: MemoryMiB, limit: CpuLimit) -> ResourceRequirements {
    let cpu = limit.of(memory);
    let memory = Quantity(format!("{}Mi", memory.get() + SUPERVISOR_MIB));
    let milli = |milli: u32| ("cpu".to_owned(), Quantity(format!("{milli}m")));
    let memory = ("memory".to_owned(), memory);
    let limits = [memory.clone()].into_iter().chain(cpu.limit.map(milli));
    ResourceRequirements {
        limits: Some(limits.collect()),
        requests: Some([memory, milli(cpu.request)].into()),
        ..ResourceRequirements::default()
    }
}

pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(GROUP),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

pub(super) fn owner(of: &impl Resource<DynamicType = ()>) -> OwnerReference {
    of.controller_owner_ref(&())
        .expect("what the API server told of has a UID")
}
