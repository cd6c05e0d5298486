//! The pod of a warm pool: an instance of no function yet.
//!
//! Pure, as its parent, whose parts it takes. Whatever shapes the pod is in its template's revision,
//! a label of it: where that changes, with the spec, the image or the controller, pods are replaced.

use pilotlight_api::resource::{WarmPoolResource, revision_of};

use super::*;

/// The longest that an event of any function may run, in seconds.
const LONGEST: u32 = 900;

const MEMORY_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// What the pods of one pool are made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pod: Pod,
    pub(crate) revision: String,
}

impl Template {
    pub(crate) fn of(pool: &WarmPoolResource, options: &Options) -> Result<Self, Unbuildable> {
        let spec = &pool.spec;
        let description = runtime(&spec.runtime, options)?;
        let mut prestart = description.prestart(spec.memory);
        if let Some(prestart) = &mut prestart {
            // Of all functions that may come the same, and what a heap is made by.
            let variable = (MEMORY_VARIABLE.to_owned(), spec.memory.get().to_string());
            prestart.environment.extend([variable]);
        }
        let mounts = [("tmp", "/tmp"), ("code", IMAGE_TASK_ROOT)];
        let container = Container {
            image: Some(runtime_image(&spec.runtime, options)?),
            env: Some(vec![unclaimed(prestart), gateways(options)]),
            resources: Some(resources(spec.memory.get())),
            volume_mounts: Some(mounts.map(|(name, path)| mount(name, path)).into()),
            ..Container::default()
        };
        let volumes = vec![
            empty("tmp", spec.ephemeral_storage.get()),
            empty("code", UNPACKED_MIB),
        ];
        let spec = instance_spec(&spec.pod(), LONGEST, container, volumes);
        let mut pod = Pod {
            metadata: ObjectMeta {
                namespace: pool.namespace(),
                labels: Some(labelled(pool)),
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

fn labelled(pool: &WarmPoolResource) -> BTreeMap<String, String> {
    let own = [
        (labels::WARM_POOL, pool.name_any()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
    ];
    let all = own.into_iter().chain(pool.spec.class().labels());
    all.map(|(label, value)| (label.to_owned(), value))
        .collect()
}
