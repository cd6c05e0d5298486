//! The pod of a warm pool: an instance that belongs to no function yet.
//!
//! Pure, like its parent, whose parts it uses. The revision of the template is a label of the pod and covers
//! everything that shapes it: when spec, image or controller change the revision, the pods are replaced.

use pilotlight_api::resource::WarmPoolResource;
use pilotlight_api::revision::revision_of;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use pilotlight_api::{class_annotation, class_labels, labels};
use pilotlight_core::fleet::fit::Class;
use pilotlight_runtimes::IMAGE_TASK_ROOT;

use super::instance::{
    Parts, UNPACKED_MIB, Unbuildable, check_sources, instance_spec, owner, runtime, runtime_image,
};
use super::variables::{gateways, given, unclaimed};
use super::volumes::Volumes;
use crate::options::Options;

/// The longest time that an event of any function may run, in seconds.
const LONGEST: u32 = 900;

const MEMORY_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// The template of the pods of one pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pod: Pod,
    pub(crate) revision: String,
}

impl Template {
    pub(crate) fn of(pool: &WarmPoolResource, options: &Options) -> Result<Self, Unbuildable> {
        let spec = &pool.spec;
        let description = runtime(&spec.runtime, options)?;
        check_sources(&spec.environment_from, options)?;
        let mut prestart = description.prestart(spec.memory);
        if let Some(prestart) = &mut prestart {
            // The same for all functions that fit the pool, and the size of the heap depends on it.
            let variable = (MEMORY_VARIABLE.to_owned(), spec.memory.get().to_string());
            prestart.environment.extend([variable]);
        }
        let container = Container {
            image: Some(runtime_image(&spec.runtime, options)?),
            env: Some(vec![unclaimed(None, prestart), gateways(options)]),
            env_from: Some(spec.environment_from.iter().map(given).collect()),
            ..Container::default()
        };
        let mut volumes = Volumes::default();
        volumes.empty("tmp", "/tmp", spec.ephemeral_storage.get());
        volumes.empty("code", IMAGE_TASK_ROOT, UNPACKED_MIB);
        volumes.empty("layers", labels::LAYERS_MOUNT, UNPACKED_MIB);
        let parts = Parts {
            settings: &spec.pod(),
            longest: LONGEST,
            memory: spec.memory,
            container,
            is_runtime_image: true,
            volumes,
        };
        let class = spec.class(None);
        let (placement, text) = class_annotation(&class);
        let spec = match class.settings.has_access() {
            true => instance_spec(parts, &closed(options)),
            false => instance_spec(parts, options),
        };
        let mut pod = Pod {
            metadata: ObjectMeta {
                namespace: pool.namespace(),
                labels: Some(labelled(pool, &class)),
                annotations: Some([(placement.to_owned(), text)].into()),
                owner_references: Some(vec![owner(pool)]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            ..Pod::default()
        };
        let revision = revision_of(&pod);
        let label = (labels::REVISION.to_owned(), revision.clone());
        pod.labels_mut().extend([label]);
        Ok(Template { pod, revision })
    }

    pub(crate) fn pod(&self, name: String) -> Pod {
        let mut pod = self.pod.clone();
        pod.metadata.name = Some(name);
        pod
    }
}

/// The same options for pods that hold an account or Secrets while they wait: they serve only who proves to be a gateway,
/// also during the upgrade from a release whose gateways cannot. Those find no such pods.
fn closed(options: &Options) -> Options {
    let mut closed = options.clone();
    if let Some(identity) = &mut closed.instance_identity {
        identity.needs_tls = true;
    }
    closed
}

fn labelled(pool: &WarmPoolResource, class: &Class) -> BTreeMap<String, String> {
    let own = [
        (labels::WARM_POOL, pool.name_any()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
    ];
    let account = class.settings.account.as_ref();
    let account = account.map(|_| (labels::SERVICE_ACCOUNT, labels::OWN.to_owned()));
    let all = own.into_iter().chain(account).chain(class_labels(class));
    all.map(|(label, value)| (label.to_owned(), value))
        .collect()
}
