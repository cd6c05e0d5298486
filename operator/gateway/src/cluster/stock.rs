//! The unclaimed pods of warm pools that this gateway may claim.
//!
//! Shares one `Choice` of `core::gateways` between the watch of pods (`pods`) and the instances that start
//! (`backend`). `core` decides which pod is taken; this file knows the class of a pod, and has the clock.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pilotlight_api::{FunctionSpec, ObjectName};
use pilotlight_core::fleet::fit::Class;
use pilotlight_core::function::{EphemeralStorageMiB, MemoryMiB};
use pilotlight_core::gateways::choice::{AfterFailure, Choice, ClaimFailure, UnclaimedPod};
use pilotlight_core::ids::{InstanceName, PodName, Uid};

use crate::clock;

/// Cheap to clone; all clones are the same stock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    choice: Arc<Mutex<Choice<Class>>>,
    /// The runtime class of functions that name none.
    runtime_class: Option<ObjectName>,
    /// Gives each gateway another order of the same pods, so that two rarely claim the same one.
    order: RandomState,
}

impl Stock {
    /// `runtime_class`: that of functions that name none.
    pub(crate) fn new(runtime_class: Option<ObjectName>) -> Self {
        Stock {
            runtime_class,
            ..Stock::default()
        }
    }

    /// The smallest suitable class is the best.
    fn rank(
        &self,
        spec: &FunctionSpec,
    ) -> impl Fn(&Class) -> Option<(MemoryMiB, EphemeralStorageMiB)> + use<> {
        let needs = spec.needs(self.runtime_class.as_ref());
        move |class| {
            class
                .fits(&needs)
                .then_some((class.memory, class.ephemeral_storage))
        }
    }

    fn choice(&self) -> MutexGuard<'_, Choice<Class>> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch shows a pod of a warm pool. `ip`: `None` while the pod is not ready.
    pub(crate) fn put(&self, name: PodName, uid: Uid, class: Class, ip: Option<IpAddr>) {
        self.choice().put(name, uid, class, ip);
    }

    /// The pod belongs to no warm pool any more. Returns the instance of this gateway that it has become.
    pub(crate) fn remove(&self, uid: &str) -> Option<InstanceName> {
        self.choice().remove(uid)
    }

    /// Takes a pod for the instance.
    pub(crate) fn take(
        &self,
        spec: &FunctionSpec,
        instance: &InstanceName,
    ) -> Option<UnclaimedPod> {
        let order = |uid: &Uid| self.order.hash_one(uid);
        self.choice()
            .take(clock::now(), instance, self.rank(spec), order)
    }

    /// The pod that was taken for the instance and is not claimed yet.
    pub(crate) fn taken(&self, instance: &str) -> Option<UnclaimedPod> {
        self.choice().taken(instance)
    }

    /// The claim succeeded: the pod is this instance.
    pub(crate) fn claimed(&self, uid: &Uid, instance: &InstanceName) {
        self.choice().claimed(uid, instance);
    }

    /// The instance does not need the pod that was taken for it.
    pub(crate) fn leave(&self, instance: &str) {
        self.choice().leave(clock::now(), instance);
    }

    /// The claim of this pod failed. Returns what the instance does next.
    pub(crate) fn failed(
        &self,
        claim: (&Uid, ClaimFailure),
        spec: &FunctionSpec,
        instance: &InstanceName,
    ) -> AfterFailure {
        let order = |uid: &Uid| self.order.hash_one(uid);
        self.choice()
            .failed(clock::now(), claim, instance, self.rank(spec), order)
    }
}

#[cfg(test)]
mod tests {
    use pilotlight_core::fleet::fit::Settings;

    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn put(stock: &Stock, name: &str, memory: u32) {
        let class = Class {
            memory: memory.to_string().parse().expect("a memory size"),
            ephemeral_storage: Default::default(),
            runtime: "python3.11".parse().expect("a runtime"),
            takes_layers: true,
            settings: Settings::default(),
        };
        stock.put(name.into(), format!("uid-{name}").into(), class, Some(IP));
    }

    fn spec(more: &str) -> FunctionSpec {
        let text = format!(
            r#"{{"runtime":"python3.11","code":{{"inline":{{"a.py":"1"}}}},"memory":256{more}}}"#
        );
        serde_json::from_str(&text).expect("a spec")
    }

    #[test]
    fn the_pod_of_the_smallest_class_that_fits_is_taken() {
        let stock = Stock::default();
        for (name, memory) in [("small", 128), ("large", 1024), ("right", 256)] {
            put(&stock, name, memory);
        }
        let names = ["i1", "i2", "i3"].map(|instance| {
            let taken = stock.take(&spec(""), &instance.into());
            taken.map(|unclaimed| unclaimed.name.to_string())
        });
        let expected = [Some("right"), Some("large"), None];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
    }

    #[test]
    fn a_function_with_settings_takes_no_plain_pod() {
        let stock = Stock::default();
        put(&stock, "one", 256);
        for needs in [
            r#","pod":{"serviceAccount":"a"}"#,
            r#","pod":{"nodeSelector":{"disk":"fast"}}"#,
            r#","pod":{"runtimeClassName":"sandbox"}"#,
            r#","environmentFrom":[{"secretRef":{"name":"s"}}]"#,
            r#","ephemeralStorage":1024"#,
        ] {
            assert_eq!(stock.take(&spec(needs), &"i1".into()), None, "{needs}");
        }
        assert!(stock.take(&spec(""), &"i1".into()).is_some());
    }
}
