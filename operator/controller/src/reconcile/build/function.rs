//! The objects of one function: the config map of its code, and the pod of an instance.
//!
//! Pure: makes complete objects from the Function and the controller's options; `apply` writes them. The
//! parts that a warm pool's pod has as well come from `instance` and `volumes`, the environment from `variables`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, Container, KeyToPath, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use pilotlight_api::instance_config::{Place, compose};
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::{Code, FunctionSpec, labels};
use pilotlight_core::function::{FunctionName, Handler, MemoryMiB};
use pilotlight_core::ids::Qualifier;
use pilotlight_core::instance::node_share::CpuLimit;
use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_runtimes::IMAGE_TASK_ROOT;
use serde_json::{Value, json};

use super::instance::{
    CODE_MODE, Parts, UNPACKED_MIB, Unbuildable, check_sources, instance_spec, owner, resizable,
    runtime, runtime_image,
};
use super::variables::{self, gateways, given, suggested, unclaimed};
use super::volumes::Volumes;
use crate::options::Options;

/// The qualifier of a Function resource itself. Published versions are resources of another kind.
const QUALIFIER: Qualifier = Qualifier::Latest;

type Quantities = BTreeMap<String, Quantity>;

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
    check_sources(&function.spec.environment_from, options)?;
    for (field, archive) in function.spec.archives() {
        let mut names = archive.secret_ref.iter().map(|secret| secret.name.as_str());
        if let Some(name) = names.find(|name| !options.archive_secrets.contains(*name)) {
            let name = name.to_owned();
            return Err(Unbuildable::ArchiveSecret { field, name });
        }
    }
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
        variables.push(unclaimed(Some((instance, archives(spec))), None));
    }
    // Computed once, because it hashes all inline code.
    let revision = spec.revision();
    let mut volumes = Volumes::default();
    volumes.empty("tmp", "/tmp", spec.ephemeral_storage.get());
    match code_map(function, &revision) {
        Some(map) => volumes.config_map("code", IMAGE_TASK_ROOT, map),
        // The supervisor writes an archive's code into the volume.
        None if matches!(spec.code, Code::Archive(_)) => {
            volumes.empty("code", IMAGE_TASK_ROOT, UNPACKED_MIB);
        }
        None => {}
    }
    if has_layers {
        volumes.empty("layers", labels::LAYERS_MOUNT, UNPACKED_MIB);
    }
    let container = Container {
        image: Some(image(function, options)?),
        env: Some(variables),
        env_from: Some(spec.environment_from.iter().map(given).collect()),
        ..Container::default()
    };
    let parts = Parts {
        settings: &spec.pod,
        longest: spec.timeout.get(),
        memory: spec.memory,
        container,
        is_runtime_image: !matches!(spec.code, Code::Image(_)),
        volumes,
    };
    let mut own = vec![
        (labels::QUALIFIER, labels::qualifier_value(QUALIFIER)),
        (labels::INSTANCE, instance),
        (labels::REVISION, revision.as_str()),
    ];
    if spec.pod.service_account.is_some() {
        own.push((labels::SERVICE_ACCOUNT, labels::OWN));
    }
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(labels::pod_name(name.as_str(), instance)),
            namespace: function.namespace(),
            labels: Some(labelled(function, &own)),
            owner_references: Some(vec![owner(function)]),
            ..ObjectMeta::default()
        },
        spec: Some(instance_spec(parts, options)),
        ..Pod::default()
    })
}

/// The archives that the pod's supervisor takes as the function's code and layers. The digests are those of the author.
fn archives(spec: &FunctionSpec) -> Vec<OwnArchive> {
    let archives = spec.placed_archives();
    let own = archives.map(|(field, folder, archive)| OwnArchive {
        field,
        folder: folder.into(),
        sha256: archive.digest(),
    });
    own.collect()
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
    // The label of a service account stays as it is: the pod has a token or has none since it was made.
    labels[labels::WARM_POOL] = Value::Null;
    json!({
        "metadata": { "uid": uid, "labels": labels, "ownerReferences": [owner(function)] },
    })
}

/// The patch that gives a pod that was taken over the function's own memory and processors; `None` if it
/// has them.
///
/// It concerns nothing else. Storage keeps the pool's size, because Kubernetes changes that of no running pod. The
/// patch takes no limit away, either: a pod of a time when processors were limited keeps its limit.
pub(crate) fn resized(memory: MemoryMiB, limit: CpuLimit, pod: &Pod) -> Option<Value> {
    let own = resizable(memory, limit);
    let containers = pod.spec.as_ref()?.containers.iter();
    let mut instances = containers.filter(|container| container.name == labels::CONTAINER);
    let has = instances.next()?.resources.clone().unwrap_or_default();
    let contains = |has: Option<Quantities>, own: &Option<Quantities>| {
        let has = has.unwrap_or_default();
        let mut own = own.iter().flatten();
        own.all(|(name, quantity)| has.get(name) == Some(quantity))
    };
    let is_same = contains(has.limits, &own.limits) && contains(has.requests, &own.requests);
    (!is_same).then(
        || json!({ "spec": { "containers": [{ "name": labels::CONTAINER, "resources": own }] } }),
    )
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

/// The source of the volume with the code, if that is a config map.
fn code_map(function: &FunctionResource, revision: &str) -> Option<ConfigMapVolumeSource> {
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
        Code::Archive(_) | Code::Image(_) | Code::Path(_) => return None,
    };
    Some(ConfigMapVolumeSource {
        name,
        items,
        default_mode: Some(CODE_MODE),
        ..ConfigMapVolumeSource::default()
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
