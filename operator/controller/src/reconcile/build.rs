//! The objects of one function: its code's config map, and the pod of an instance.
//!
//! Pure: complete objects from the Function and the controller's options. Never sees a client;
//! `apply` writes what this returns. `warm` makes the pod of a warm pool, of the same parts; `variables` has
//! the environment of both.

mod variables;
pub(crate) mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapEnvSource, ConfigMapVolumeSource, Container, ContainerPort,
    EmptyDirVolumeSource, EnvFromSource, EnvVar, KeyToPath, Pod, PodSpec, ResourceRequirements,
    SeccompProfile, SecretEnvSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use pilotlight_api::instance_config::{Place, compose};
use pilotlight_api::resource::{CODE_NOT_SUPPORTED, FunctionResource, NO_IMAGE};
use pilotlight_api::{Code, EnvironmentSource, ObjectName, PodSettings, labels};
use pilotlight_core::function::{FunctionName, Handler, MemoryMiB, Runtime};
use pilotlight_core::instance::memory::SUPERVISOR_MIB;
use pilotlight_runtimes::{IMAGE_TASK_ROOT, RuntimeDescription};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::variables::{gateways, given, suggested, unclaimed};
use crate::Options;
use crate::function::code;

/// Memory that brings one whole processor, in MiB: processors are in proportion to memory.
const MIB_PER_CPU: u32 = 1769;
/// Of the images' user and group `function`.
const USER: i64 = 993;
const GROUP: i64 = 990;
/// For END, REPORT, the gateways and the log after the longest event, in seconds.
const FLUSH: u32 = 10;
/// Code is read and executed by everybody, and written by nobody but root.
const CODE_MODE: i32 = 0o755;
const CONTAINER: &str = "instance";

/// The limit of an archive's content, and room for what a file system adds.
const UNPACKED_MIB: u32 = 300;

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
            // To whoever wrote the Function both are the same: nothing to run it in.
            Unbuildable::NoImage(_) | Unbuildable::NoRuntime(_) => NO_IMAGE,
        }
    }
}

/// The config map of inline code; `None` if the code lies elsewhere.
pub(crate) fn code(function: &FunctionResource) -> Option<ConfigMap> {
    let Code::Inline(files) = &function.spec.code else {
        return None;
    };
    let texts = files.iter().enumerate();
    let data = texts
        .map(|(place, (_, text))| (key(place), text.to_owned()))
        .collect();
    Some(ConfigMap {
        metadata: ObjectMeta {
            name: Some(code_name(function, &function.spec.revision())),
            namespace: function.namespace(),
            labels: Some(labelled(function, &[])),
            owner_references: Some(vec![owner(function)]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        // A pod of an earlier revision keeps the code that it began with.
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// Whether a function can have pods; the checks of [`pod`] without making one.
pub(crate) fn check(function: &FunctionResource, options: &Options) -> Result<(), Unbuildable> {
    runtime(&function.spec.runtime, options)?;
    image(function, options)?;
    match &function.spec.code {
        Code::Inline(_) | Code::ConfigMap(_) | Code::Image(_) | Code::Archive(_) => Ok(()),
        Code::Path(_) => Err(Unbuildable::Code("path")),
    }
}

/// The pod of an instance, ready to be created. `date`: the day, `2026/01/31`.
pub(crate) fn pod(
    function: &FunctionResource,
    name: &FunctionName,
    instance: &str,
    date: &str,
    options: &Options,
) -> Result<Pod, Unbuildable> {
    check(function, options)?;
    let spec = &function.spec;
    let place = Place {
        instance,
        date,
        region: &options.region,
        listen: &labels::listen(),
        ends_with_parent: false,
    };
    let launch = runtime(&spec.runtime, options)?.launch(spec.handler.clone());
    let config = compose(name, spec, &launch, place);
    let mut variables = vec![variables::config(&config), gateways(options)];
    if !spec.environment_from.is_empty() {
        variables.push(suggested(&config, spec));
    }
    let has_layers = !spec.layers.is_empty();
    if has_layers || matches!(spec.code, Code::Archive(_)) {
        variables.push(unclaimed(None));
    }
    let (mut volumes, mut mounts) = (
        vec![empty("tmp", spec.ephemeral_storage.get())],
        vec![mount("tmp", "/tmp")],
    );
    // It hashes all inline code.
    let revision = spec.revision();
    if let Some(volume) = code_volume(function, &revision) {
        volumes.push(volume);
        // An archive's code comes through the supervisor.
        let read_only = !matches!(spec.code, Code::Archive(_));
        mounts.push(VolumeMount {
            read_only: Some(read_only),
            ..mount("code", IMAGE_TASK_ROOT)
        });
    }
    if has_layers {
        volumes.push(empty("layers", UNPACKED_MIB));
        mounts.push(mount("layers", "/opt"));
    }
    let container = Container {
        image: Some(image(function, options)?),
        env: Some(variables),
        env_from: Some(spec.environment_from.iter().map(given).collect()),
        resources: Some(resources(spec.memory.get())),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    let own = [
        (labels::INSTANCE, instance),
        (labels::REVISION, revision.as_str()),
    ];
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(labels::pod_name(name.as_str(), instance)),
            namespace: function.namespace(),
            labels: Some(labelled(function, &own)),
            owner_references: Some(vec![owner(function)]),
            ..ObjectMeta::default()
        },
        spec: Some(instance_spec(
            &spec.pod,
            spec.timeout.get(),
            container,
            volumes,
        )),
        ..Pod::default()
    })
}

/// What makes a pod of a warm pool the function's: a merge of its metadata, if it has the UID.
pub(crate) fn taken_over(
    function: &FunctionResource,
    instance: &str,
    revision: &str,
    uid: &str,
) -> Value {
    let own = [(labels::INSTANCE, instance), (labels::REVISION, revision)];
    let mut labels = json!(labelled(function, &own));
    labels[labels::WARM_POOL] = Value::Null;
    json!({
        "metadata": { "uid": uid, "labels": labels, "ownerReferences": [owner(function)] },
    })
}

/// A function's own memory and processors for a pod that it has taken over; `None` if the pod has
/// them.
pub(crate) fn resized(memory: MemoryMiB, pod: &Pod) -> Option<Value> {
    let own = resources(memory.get());
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut instances = containers.filter(|container| container.name == CONTAINER);
    let has = instances.next()?.resources.as_ref();
    let is_same = has.is_some_and(|has| has.limits == own.limits && has.requests == own.requests);
    (!is_same)
        .then(|| json!({ "spec": { "containers": [{ "name": CONTAINER, "resources": own }] } }))
}

/// The spec of a pod whose container is this, with what all instances have. `longest`: of an event,
/// in seconds.
fn instance_spec(
    settings: &PodSettings,
    longest: u32,
    container: Container,
    volumes: Vec<Volume>,
) -> PodSpec {
    PodSpec {
        service_account_name: settings.service_account.as_ref().map(text),
        automount_service_account_token: Some(settings.service_account.is_some()),
        image_pull_secrets: Some(as_in_a_pod(&settings.image_pull_secrets)),
        node_selector: Some(as_in_a_pod(&settings.node_selector)),
        tolerations: Some(as_in_a_pod(&settings.tolerations)),
        enable_service_links: Some(false),
        // The kernel drops a SIGTERM for the first process of a namespace that has no handler yet:
        // a pod that is deleted as it comes up would live on for its whole grace period.
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

/// A Function spells these settings as a pod does.
fn as_in_a_pod<T: DeserializeOwned>(settings: &impl Serialize) -> T {
    let settings = serde_json::to_value(settings).and_then(serde_json::from_value);
    settings.expect("a Function's settings are a pod's")
}

fn text(name: &ObjectName) -> String {
    name.as_str().to_owned()
}

fn image(function: &FunctionResource, options: &Options) -> Result<String, Unbuildable> {
    match &function.spec.code {
        Code::Image(image) => Ok(image.as_str().to_owned()),
        _ => runtime_image(&function.spec.runtime, options),
    }
}

fn runtime_image(runtime: &Runtime, options: &Options) -> Result<String, Unbuildable> {
    let image = options.images.get(runtime.canonical().as_str()).cloned();
    image.ok_or_else(|| Unbuildable::NoImage(runtime.clone()))
}

/// The entry point: the function's own, or its runtime's default.
pub(crate) fn handler(function: &FunctionResource, options: &Options) -> Option<Handler> {
    let own = function.spec.handler.clone();
    own.or_else(|| {
        let runtime = options.runtimes.get(&function.spec.runtime)?;
        Some(runtime.default_handler.clone())
    })
}

fn runtime<'a>(
    name: &Runtime,
    options: &'a Options,
) -> Result<&'a RuntimeDescription, Unbuildable> {
    let runtime = options.runtimes.get(name);
    runtime
        .map(Arc::as_ref)
        .ok_or_else(|| Unbuildable::NoRuntime(options.runtimes.lacking(name)))
}

fn code_volume(function: &FunctionResource, revision: &str) -> Option<Volume> {
    let (name, items) = match &function.spec.code {
        Code::Inline(files) => {
            let items = files
                .iter()
                .enumerate()
                .map(|(place, (name, _))| KeyToPath {
                    key: key(place),
                    path: name.as_str().to_owned(),
                    ..KeyToPath::default()
                });
            (code_name(function, revision), Some(items.collect()))
        }
        Code::ConfigMap(name) => (name.as_str().to_owned(), None),
        Code::Archive(_) => return Some(empty("code", UNPACKED_MIB)),
        Code::Image(_) | Code::Path(_) => return None,
    };
    Some(Volume {
        name: "code".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            items,
            default_mode: Some(CODE_MODE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    })
}

fn code_name(function: &FunctionResource, revision: &str) -> String {
    code::name(&function.name_any(), revision)
}

/// A config map's keys allow less than file names do.
fn key(place: usize) -> String {
    format!("file-{place}")
}

fn empty(name: &str, size_mib: u32) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(format!("{size_mib}Mi"))),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn resources(memory_mib: u32) -> ResourceRequirements {
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

fn confined() -> SecurityContext {
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

fn labelled(function: &FunctionResource, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let name = function.name_any();
    let all = [
        (labels::FUNCTION, name.as_str()),
        (labels::MANAGED_BY, labels::MANAGER),
    ];
    let all = all.iter().chain(own);
    all.map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
        .collect()
}

fn owner(of: &impl Resource<DynamicType = ()>) -> OwnerReference {
    of.controller_owner_ref(&())
        .expect("what the API server told of has a UID")
}

#[cfg(test)]
mod tests;
