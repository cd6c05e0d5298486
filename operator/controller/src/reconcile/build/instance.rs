//! What all instances' pods have in common: limits, confinement, volumes, and the runtime's image.
//!
//! Pure. Feeds `function` and `warm`, which make complete pods of these parts.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use pilotlight_api::status::{CODE_NOT_SUPPORTED, NO_IMAGE};
use pilotlight_api::{ObjectName, PodSettings, labels};
use pilotlight_core::function::Runtime;
use pilotlight_core::instance::memory::SUPERVISOR_MIB;
use pilotlight_runtimes::RuntimeDescription;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::Options;

/// The memory in MiB that comes with one whole processor. Processors are proportional to memory.
pub(super) const MIB_PER_CPU: u32 = 1769;
/// The IDs of the user and the group `function` in the images.
pub(super) const USER: i64 = 993;
pub(super) const GROUP: i64 = 990;
/// Time after the longest event, in seconds, to report its end and to flush the log.
pub(super) const FLUSH: u32 = 10;
/// Everybody reads and executes the code; only root writes it.
pub(super) const CODE_MODE: i32 = 0o755;
pub(super) const CONTAINER: &str = "instance";

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
}

impl Unbuildable {
    /// The condition's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Unbuildable::Code(_) => CODE_NOT_SUPPORTED,
            // The author of the Function sees both in the same way: there is nothing to run it in.
            Unbuildable::NoImage(_) | Unbuildable::NoRuntime(_) => NO_IMAGE,
        }
    }
}

/// The spec of a pod with this container and everything that all instances have. `longest`: the longest
/// time that an event may run, in seconds.
pub(super) fn instance_spec(
    settings: &PodSettings,
    longest: u32,
    container: Container,
    volumes: Vec<Volume>,
) -> PodSpec {
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
        enable_service_links: Some(false),
        // The kernel ignores a SIGTERM to the first process of a namespace that has no handler for it yet.
        // Otherwise a pod that is deleted while it starts would live for its whole grace period.
        share_process_namespace: Some(true),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some((longest + FLUSH).into()),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            ports: Some(vec![ContainerPort {
                name: Some("lease".to_owned()),
                container_port: labels::CONTROL_PORT.into(),
                ..ContainerPort::default()
            }]),
            security_context: Some(confined()),
            ..container
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
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

pub(super) fn empty(name: &str, size_mib: u32) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(format!("{size_mib}Mi"))),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

pub(super) fn resources(memory_mib: u32) -> ResourceRequirements {
    let memory = Quantity(format!("{}Mi", memory_mib + SUPERVISOR_MIB));
    let cpu = Quantity(format!("{}m", (memory_mib * 1000).div_ceil(MIB_PER_CPU)));
    let limits = [("memory".to_owned(), memory.clone())];
    let requests = [("memory".to_owned(), memory), ("cpu".to_owned(), cpu)];
    ResourceRequirements {
        limits: Some(limits.into()),
        requests: Some(requests.into()),
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
