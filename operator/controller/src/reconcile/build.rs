//! The objects of one function: its code's config map, and the pod of an instance.
//!
//! Pure: complete objects from the Function and the controller's options. Never sees a client;
//! `apply` writes what this returns.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
    EnvVar, KeyToPath, Pod, PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use pilotlight_api::instance_config::{Launch, Place, compose};
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::{Code, ObjectName, labels};
use pilotlight_core::function::{FunctionName, Handler, Runtime};
use pilotlight_core::wire::CONFIG_VARIABLE;
use pilotlight_runtimes::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Options;

/// What a supervisor may use besides the function's memory, in MiB.
const SUPERVISOR_MIB: u32 = 32;
/// Memory that brings one whole processor, in MiB: processors are in proportion to memory.
const MIB_PER_CPU: u32 = 1769;
/// Of the images' user and group `function`.
const USER: i64 = 993;
const GROUP: i64 = 990;
/// For END, REPORT and the log's last lines after the longest event, in seconds.
const FLUSH: u32 = 5;
/// Code is read and executed by everybody, and written by nobody but root.
const CODE_MODE: i32 = 0o755;

const TASK_ROOT: &str = "/var/task";

/// Why a function has no pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbuildable {
    #[error("spec.code.{0} is not supported in a cluster yet: use inline, configMap or image")]
    Code(&'static str),
    #[error("spec.environmentFrom is not supported yet: use environment")]
    EnvironmentFrom,
    #[error("spec.layers is not supported in a cluster yet: put them into an image under /opt")]
    Layers,
    #[error(
        "spec.runtime: the controller has no image for {0}: give it one with --image {0}=IMAGE"
    )]
    NoImage(Runtime),
    #[error("spec.runtime: must be one of {known}, got `{asked}`")]
    NoRuntime { asked: Runtime, known: String },
}

impl Unbuildable {
    /// The condition's reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Unbuildable::Code(_) => "CodeNotSupported",
            Unbuildable::Layers => "LayersNotSupported",
            Unbuildable::EnvironmentFrom => "EnvironmentFromNotSupported",
            // To whoever wrote the Function both are the same: nothing to run it in.
            Unbuildable::NoImage(_) | Unbuildable::NoRuntime { .. } => "NoImage",
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
            name: Some(code_name(function)),
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
    runtime(function, options)?;
    image(function, options)?;
    if !function.spec.environment_from.is_empty() {
        return Err(Unbuildable::EnvironmentFrom);
    }
    if !function.spec.layers.is_empty() {
        return Err(Unbuildable::Layers);
    }
    match &function.spec.code {
        Code::Inline(_) | Code::ConfigMap(_) | Code::Image(_) => Ok(()),
        Code::Archive(_) => Err(Unbuildable::Code("archive")),
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
        listen: &format!("0.0.0.0:{}", labels::CONTROL_PORT),
        ends_with_parent: false,
    };
    let config = compose(name, spec, &launch(function, options)?, place);
    let config = serde_json::to_string(&config).expect("the configuration has string keys");
    // Kubernetes reads `$(NAME)` and `$$` in a variable's value; this is how it reads a plain `$`.
    let config = config.replace('$', "$$");
    let (mut volumes, mut mounts) = (
        vec![tmp(spec.ephemeral_storage.get())],
        vec![mount("tmp", "/tmp")],
    );
    if let Some(volume) = code_volume(function) {
        volumes.push(volume);
        mounts.push(VolumeMount {
            read_only: Some(true),
            ..mount("code", TASK_ROOT)
        });
    }
    let (revision, settings) = (spec.revision(), &spec.pod);
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
        spec: Some(PodSpec {
            service_account_name: settings.service_account.as_ref().map(text),
            automount_service_account_token: Some(settings.service_account.is_some()),
            image_pull_secrets: Some(as_in_a_pod(&settings.image_pull_secrets)),
            node_selector: Some(as_in_a_pod(&settings.node_selector)),
            tolerations: Some(as_in_a_pod(&settings.tolerations)),
            enable_service_links: Some(false),
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some((spec.timeout.get() + FLUSH).into()),
            containers: vec![Container {
                name: "instance".to_owned(),
                image: Some(image(function, options)?),
                image_pull_policy: Some("IfNotPresent".to_owned()),
                env: Some(vec![EnvVar {
                    name: CONFIG_VARIABLE.to_owned(),
                    value: Some(config),
                    ..EnvVar::default()
                }]),
                ports: Some(vec![ContainerPort {
                    name: Some("lease".to_owned()),
                    container_port: labels::CONTROL_PORT.into(),
                    ..ContainerPort::default()
                }]),
                resources: Some(resources(spec.memory.get())),
                security_context: Some(confined()),
                volume_mounts: Some(mounts),
                ..Container::default()
            }],
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
        ..Pod::default()
    })
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
    let runtime = &function.spec.runtime;
    match &function.spec.code {
        Code::Image(image) => Ok(image.as_str().to_owned()),
        _ => options
            .images
            .get(runtime.as_str())
            .cloned()
            .ok_or_else(|| Unbuildable::NoImage(runtime.clone())),
    }
}

/// The entry point: the function's own, or its runtime's default.
pub(crate) fn handler(function: &FunctionResource, options: &Options) -> Option<Handler> {
    let own = function.spec.handler.clone();
    own.or_else(|| {
        let runtime = options.runtimes.get(&function.spec.runtime)?;
        Some(runtime.default_handler.clone())
    })
}

/// How the images start a runtime (contracts §1, §2).
fn launch(function: &FunctionResource, options: &Options) -> Result<Launch, Unbuildable> {
    let runtime = runtime(function, options)?;
    let handler = handler(function, options);
    let handler = handler.unwrap_or_else(|| runtime.default_handler.clone());
    let variables = [
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        (
            "LD_LIBRARY_PATH",
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        ),
        (
            "PATH",
            "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        ),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
    ];
    let mut environment: BTreeMap<String, String> = variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let (command, own) = runtime.in_image(&handler);
    environment.extend(own);
    Ok(Launch {
        command,
        handler,
        task_root: PathBuf::from(TASK_ROOT),
        environment,
    })
}

fn runtime<'a>(
    function: &FunctionResource,
    options: &'a Options,
) -> Result<&'a Description, Unbuildable> {
    let name = &function.spec.runtime;
    let runtime = options.runtimes.get(name);
    runtime
        .map(Arc::as_ref)
        .ok_or_else(|| Unbuildable::NoRuntime {
            asked: name.clone(),
            known: options.runtimes.names(),
        })
}

fn code_volume(function: &FunctionResource) -> Option<Volume> {
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
            (code_name(function), Some(items.collect()))
        }
        Code::ConfigMap(name) => (name.as_str().to_owned(), None),
        Code::Archive(_) | Code::Image(_) | Code::Path(_) => return None,
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

fn code_name(function: &FunctionResource) -> String {
    format!("{}-code-{}", function.name_any(), function.spec.revision())
}

/// A config map's keys allow less than file names do.
fn key(place: usize) -> String {
    format!("file-{place}")
}

fn tmp(size_mib: u32) -> Volume {
    Volume {
        name: "tmp".to_owned(),
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
        ("app.kubernetes.io/managed-by", "pilotlight"),
    ];
    let all = all.iter().chain(own);
    all.map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
        .collect()
}

fn owner(function: &FunctionResource) -> OwnerReference {
    function
        .controller_owner_ref(&())
        .expect("a Function that the API server told of has a UID")
}

#[cfg(test)]
mod tests {
    use pilotlight_runtimes::Runtimes;
    use serde_json::json;

    use super::*;

    fn options() -> Options {
        let images = [("python3.11", "python:1"), ("custom", "custom:1")];
        Options {
            namespace: "functions".to_owned(),
            gateway_service: "gateway".to_owned(),
            gateway_namespace: "system".to_owned(),
            region: "eu-central-1".to_owned(),
            images: images
                .map(|(name, image)| (name.to_owned(), image.to_owned()))
                .into(),
            runtimes: Runtimes::built_in(),
        }
    }

    fn function(spec: serde_json::Value) -> FunctionResource {
        let text = json!({
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": { "name": "hello", "namespace": "functions", "uid": "the-uid" },
            "spec": spec,
        });
        serde_json::from_value(text).expect("a Function")
    }

    fn built(spec: serde_json::Value) -> serde_json::Value {
        let name = "hello".parse().expect("a name");
        let instance = "0123456789abcdef0123456789abcdef";
        let pod = pod(&function(spec), &name, instance, "2026/01/31", &options());
        serde_json::to_value(pod.expect("a pod")).expect("JSON")
    }

    fn inline() -> serde_json::Value {
        json!({ "runtime": "python3.11", "code": { "inline": { "a.py": "1", "lib/b.py": "2" } } })
    }

    #[test]
    fn a_pod_has_one_name_its_owner_and_what_gateways_look_for() {
        let pod = built(inline());
        let metadata = &pod["metadata"];
        assert_eq!(metadata["name"], "hello-0123456789");
        assert_eq!(metadata["ownerReferences"][0]["uid"], "the-uid");
        assert_eq!(metadata["labels"]["pilotlight.dev/function"], "hello");
        assert_eq!(
            metadata["labels"]["pilotlight.dev/revision"],
            function(inline()).spec.revision()
        );
    }

    #[test]
    fn a_pod_is_confined_and_sized_by_its_function() {
        let mut spec = inline();
        spec["memory"] = json!(1769);
        spec["timeout"] = json!(60);
        spec["ephemeralStorage"] = json!(1024);
        let pod = built(spec);
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["restartPolicy"], "Never");
        assert_eq!(spec["terminationGracePeriodSeconds"], 65);
        let container = &spec["containers"][0];
        assert_eq!(container["image"], "python:1");
        assert_eq!(
            container["resources"],
            json!({
                "limits": { "memory": "1801Mi" },
                "requests": { "memory": "1801Mi", "cpu": "1000m" },
            })
        );
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["runAsNonRoot"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(spec["volumes"][0]["emptyDir"]["sizeLimit"], "1024Mi");
    }

    #[test]
    fn inline_files_keep_their_names_though_a_config_map_has_no_such_keys() {
        let items = &built(inline())["spec"]["volumes"][1]["configMap"]["items"];
        assert_eq!(
            items,
            &json!([
                { "key": "file-0", "path": "a.py" },
                { "key": "file-1", "path": "lib/b.py" },
            ])
        );
        let data = code(&function(inline())).and_then(|map| map.data);
        let data = data.expect("a config map of the code");
        assert_eq!(
            (data["file-0"].as_str(), data["file-1"].as_str()),
            ("1", "2")
        );
    }

    #[test]
    fn a_dollar_reaches_the_supervisor_as_it_is() {
        let mut spec = inline();
        spec["environment"] = json!({ "A": "$(PATH) $$" });
        let pod = built(spec);
        let value = pod["spec"]["containers"][0]["env"][0]["value"].as_str();
        assert!(
            value.is_some_and(|text| text.contains(r#""A":"$$(PATH) $$$$""#)),
            "{value:?}"
        );
    }

    #[test]
    fn the_settings_of_a_pod_are_passed_through() {
        let mut spec = inline();
        let settings = json!({
            "imagePullSecrets": [{ "name": "registry" }],
            "nodeSelector": { "kubernetes.io/arch": "amd64" },
            "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
        });
        spec["pod"] = settings.clone();
        spec["pod"]["serviceAccount"] = json!("orders");
        let pod = &built(spec)["spec"];
        for (name, value) in settings.as_object().expect("settings") {
            assert_eq!(&pod[name], value, "{name}");
        }
        assert_eq!(pod["serviceAccountName"], "orders");
        assert_eq!(pod["automountServiceAccountToken"], true);
    }

    #[test]
    fn what_cannot_be_built_is_said_with_what_to_do() {
        let archive = json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64) });
        let archived = function(json!({ "runtime": "custom", "code": { "archive": archive } }));
        let unbuildable = check(&archived, &options()).expect_err("archive");
        assert_eq!(unbuildable.reason(), "CodeNotSupported");
        let layer = json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64) });
        let mut layered = inline();
        layered["layers"] = json!([layer]);
        let unbuildable = check(&function(layered), &options()).expect_err("layers");
        assert_eq!(unbuildable.reason(), "LayersNotSupported");
        let newer = function(json!({ "runtime": "python3.14", "code": { "configMap": "code" } }));
        let unbuildable = check(&newer, &options()).expect_err("no image");
        assert!(
            unbuildable.to_string().contains("--image python3.14=IMAGE"),
            "{unbuildable}"
        );
        let unknown = function(json!({ "runtime": "python2", "code": { "configMap": "code" } }));
        let unbuildable = check(&unknown, &options()).expect_err("no such runtime");
        assert_eq!(unbuildable.reason(), "NoImage");
        let text = unbuildable.to_string();
        assert!(
            text.starts_with("spec.runtime: must be one of custom, ") && text.contains("python2"),
            "{text}"
        );
    }
}
