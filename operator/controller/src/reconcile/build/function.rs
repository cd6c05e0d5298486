//! The objects of one function: the config map of its code, and the pod of an instance.
//!
//! Pure: makes complete objects from the Function and the controller's options; `apply` writes them. The
//! parts that a warm pool's pod has as well come from `instance`, the environment from `variables`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, KeyToPath, Pod, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use pilotlight_api::instance_config::{Place, compose};
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::{Code, labels};
use pilotlight_core::function::{FunctionName, Handler, MemoryMiB};
use pilotlight_core::ids::Qualifier;
use pilotlight_runtimes::IMAGE_TASK_ROOT;
use serde_json::{Value, json};

use super::instance::{
    CODE_MODE, CONTAINER, UNPACKED_MIB, Unbuildable, empty, instance_spec, mount, owner, resources,
    runtime, runtime_image,
};
use super::variables::{self, gateways, given, suggested, unclaimed};
use crate::options::Options;

/// The qualifier of a Function resource itself. Published versions are resources of another kind.
const QUALIFIER: Qualifier = Qualifier::Latest;

/// Between the names of function and revision in the name of a config map.
const CODE_INFIX: &str = "-code-";

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
        // A pod of an earlier revision keeps the code that it started with.
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// Checks whether a function can have pods, as [`pod`] does, without making one.
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
        qualifier: QUALIFIER,
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
    // Computed once, because it hashes all inline code.
    let revision = spec.revision();
    if let Some(volume) = code_volume(function, &revision) {
        volumes.push(volume);
        // The supervisor writes an archive's code into the volume.
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
        (labels::QUALIFIER, labels::qualifier_value(QUALIFIER)),
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

/// The patch that makes a warm pool's pod the function's. It applies only to the pod with this UID.
pub(crate) fn taken_over(
    function: &FunctionResource,
    instance: &str,
    revision: &str,
    uid: &str,
) -> Value {
    let own = [
        (labels::QUALIFIER, labels::qualifier_value(QUALIFIER)),
        (labels::INSTANCE, instance),
        (labels::REVISION, revision),
    ];
    let mut labels = json!(labelled(function, &own));
    labels[labels::WARM_POOL] = Value::Null;
    json!({
        "metadata": { "uid": uid, "labels": labels, "ownerReferences": [owner(function)] },
    })
}

/// The patch that gives a pod that was taken over the function's own memory and processors; `None` if it
/// has them.
pub(crate) fn resized(memory: MemoryMiB, pod: &Pod) -> Option<Value> {
    let own = resources(memory.get());
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut instances = containers.filter(|container| container.name == CONTAINER);
    let has = instances.next()?.resources.as_ref();
    let is_same = has.is_some_and(|has| has.limits == own.limits && has.requests == own.requests);
    (!is_same)
        .then(|| json!({ "spec": { "containers": [{ "name": CONTAINER, "resources": own }] } }))
}

fn image(function: &FunctionResource, options: &Options) -> Result<String, Unbuildable> {
    match &function.spec.code {
        Code::Image(image) => Ok(image.as_str().to_owned()),
        _ => runtime_image(&function.spec.runtime, options),
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
    format!("{}{CODE_INFIX}{revision}", function.name_any())
}

/// The revision whose code a config map of this name holds, if it is the function's.
pub(crate) fn revision_of_code<'a>(function: &str, map: &'a str) -> Option<&'a str> {
    map.strip_prefix(function)?.strip_prefix(CODE_INFIX)
}

/// The key of a file. The keys of config maps allow fewer characters than file names.
fn key(place: usize) -> String {
    format!("file-{place}")
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
