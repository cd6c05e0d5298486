//! Which functions the pods of a warm pool can serve.
//!
//! A pod gets its account, its variables from Secrets and config maps, its node and its runtime class when it is created,
//! so a function that names them fits only a pool that names exactly the same. Size may be larger, and code always comes
//! with the claim. `gateways::choice` ranks pods by it, and the controller's statuses say it. Fed by `pilotlight-api`,
//! which reads WarmPools, pods and Functions. Pure: it knows no object of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::function::{EphemeralStorageMiB, MemoryMiB, Runtime};

/// The size of a pool's pods, and what they were given when they were created.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The first field, so that the smallest class that fits is the least one.
    pub memory: MemoryMiB,
    pub ephemeral_storage: EphemeralStorageMiB,
    /// Under its canonical name.
    pub runtime: Runtime,
    /// Whether there is room for layers. Pods that a controller of an earlier release made have none.
    pub takes_layers: bool,
    pub settings: Settings,
}

/// The function's side: what a pod must have to become an instance of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub memory: MemoryMiB,
    pub ephemeral_storage: EphemeralStorageMiB,
    pub runtime: Runtime,
    pub has_layers: bool,
    pub settings: Settings,
    /// The field that only a pod of the function's own can have, such as an image.
    pub own_pod: Option<&'static str>,
}

/// The part of a pod that nobody changes once it is there, and that a function can see or is kept in by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Settings {
    /// The service account whose token the pod has; `None`: it has no token.
    pub account: Option<String>,
    /// A later source overrides an earlier one, so their order counts.
    pub sources: Vec<VariableSource>,
    pub placement: Placement,
    /// The one that the pods have, be it their own or the installation's default.
    pub runtime_class: Option<String>,
}

/// An object each of whose keys is a variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VariableSource {
    Secret(String),
    ConfigMap(String),
}

/// Which nodes take the pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    pub node_selector: BTreeMap<String, String>,
    /// Their order does not matter to the scheduler.
    pub tolerations: BTreeSet<ToleratedTaint>,
}

/// A taint that the pods tolerate, as a pod spells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToleratedTaint {
    pub key: Option<String>,
    pub operator: String,
    pub value: Option<String>,
    pub effect: Option<String>,
    /// Seconds.
    pub toleration_seconds: Option<u32>,
}

/// Why a pool does not serve a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misfit {
    /// The field needs a pod of the function's own: no pool can serve the function.
    OwnPod(&'static str),
    Runtime,
    Memory,
    EphemeralStorage,
    Layers,
    Account,
    Sources,
    NodeSelector,
    Tolerations,
    RuntimeClass,
}

impl Misfit {
    /// The field of the Function that the pool does not match.
    pub fn field(self) -> &'static str {
        match self {
            Misfit::OwnPod(field) => field,
            Misfit::Runtime => "spec.runtime",
            Misfit::Memory => "spec.memory",
            Misfit::EphemeralStorage => "spec.ephemeralStorage",
            Misfit::Layers => "spec.layers",
            Misfit::Account => "spec.pod.serviceAccount",
            Misfit::Sources => "spec.environmentFrom",
            Misfit::NodeSelector => "spec.pod.nodeSelector",
            Misfit::Tolerations => "spec.pod.tolerations",
            Misfit::RuntimeClass => "spec.pod.runtimeClassName",
        }
    }
}

impl Settings {
    /// Whether the code in such a pod can use what others must not: an account, or the variables of Secrets and config
    /// maps.
    pub fn has_access(&self) -> bool {
        self.account.is_some() || !self.sources.is_empty()
    }
}

impl Class {
    pub fn fits(&self, needs: &Needs) -> bool {
        self.misfits(needs).next().is_none()
    }

    /// Everything in which this class does not match the function.
    pub fn misfits(&self, needs: &Needs) -> impl Iterator<Item = Misfit> {
        let (has, wants) = (&self.settings, &needs.settings);
        let (on, wants_on) = (&has.placement, &wants.placement);
        let own_pod = needs.own_pod.map(Misfit::OwnPod);
        let checks = [
            (Misfit::Runtime, self.runtime.is_same(&needs.runtime)),
            (Misfit::Memory, self.memory >= needs.memory),
            (
                Misfit::EphemeralStorage,
                self.ephemeral_storage >= needs.ephemeral_storage,
            ),
            (Misfit::Layers, self.takes_layers || !needs.has_layers),
            (Misfit::Account, has.account == wants.account),
            (Misfit::Sources, has.sources == wants.sources),
            (
                Misfit::NodeSelector,
                on.node_selector == wants_on.node_selector,
            ),
            (Misfit::Tolerations, on.tolerations == wants_on.tolerations),
            (
                Misfit::RuntimeClass,
                has.runtime_class == wants.runtime_class,
            ),
        ];
        let failed = checks
            .into_iter()
            .filter_map(|(misfit, is_met)| (!is_met).then_some(misfit));
        own_pod.into_iter().chain(failed)
    }
}

/// The pool that serves a function, or why none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served<'a> {
    By(&'a str),
    /// No pool can.
    OwnPod(&'static str),
    /// This pool of the runtime has the fewest differences, and these are they.
    Nearly(&'a str, Vec<Misfit>),
    /// There is no pool of the runtime.
    NoPool,
}

/// The pool of the smallest class that fits, which is the one that gateways choose. `pools`: each with its name.
pub fn served<'a>(needs: &Needs, pools: &'a [(Class, String)]) -> Served<'a> {
    if let Some(field) = needs.own_pod {
        return Served::OwnPod(field);
    }
    let fitting = pools.iter().filter(|(class, _)| class.fits(needs));
    if let Some((_, name)) = fitting.min() {
        return Served::By(name);
    }
    let of_runtime = pools
        .iter()
        .filter(|(class, _)| class.runtime.is_same(&needs.runtime));
    let differing =
        of_runtime.map(|(class, name)| (Vec::from_iter(class.misfits(needs)), name.as_str()));
    match differing.min_by_key(|(misfits, name)| (misfits.len(), *name)) {
        Some((misfits, name)) => Served::Nearly(name, misfits),
        None => Served::NoPool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            account: Some("orders".to_owned()),
            sources: vec![
                VariableSource::ConfigMap("defaults".to_owned()),
                VariableSource::Secret("login".to_owned()),
            ],
            placement: Placement {
                node_selector: [("disk".to_owned(), "fast".to_owned())].into(),
                tolerations: [toleration("a"), toleration("b")].into(),
            },
            runtime_class: Some("sandbox".to_owned()),
        }
    }

    fn toleration(key: &str) -> ToleratedTaint {
        ToleratedTaint {
            key: Some(key.to_owned()),
            operator: "Exists".to_owned(),
            value: None,
            effect: None,
            toleration_seconds: None,
        }
    }

    fn class(memory: &str, settings: Settings) -> Class {
        Class {
            memory: memory.parse().expect("a size"),
            ephemeral_storage: EphemeralStorageMiB::default(),
            runtime: "nodejs22".parse().expect("a name"),
            takes_layers: true,
            settings,
        }
    }

    fn needs(settings: Settings) -> Needs {
        Needs {
            memory: "256".parse().expect("a size"),
            ephemeral_storage: EphemeralStorageMiB::default(),
            runtime: "nodejs22.x".parse().expect("a name"),
            has_layers: true,
            settings,
            own_pod: None,
        }
    }

    fn misfits(class: &Class, needs: &Needs) -> Vec<Misfit> {
        class.misfits(needs).collect()
    }

    #[test]
    fn a_function_fits_a_pool_with_exactly_its_settings_and_no_less_room() {
        let pool = class("512", settings());
        assert_eq!(misfits(&pool, &needs(settings())), []);
        assert!(class("256", settings()).fits(&needs(settings())));
        assert_eq!(
            misfits(&class("128", settings()), &needs(settings())),
            [Misfit::Memory]
        );
        let mut large = needs(settings());
        large.ephemeral_storage = "1024".parse().expect("a size");
        assert_eq!(misfits(&pool, &large), [Misfit::EphemeralStorage]);
        let mut other = needs(settings());
        other.runtime = "python3.11".parse().expect("a name");
        assert_eq!(misfits(&pool, &other), [Misfit::Runtime]);
    }

    /// Each change, made on either side alone, keeps the function out of the pool.
    #[test]
    fn one_difference_on_either_side_is_enough_and_is_named() {
        type Change = fn(&mut Settings);
        let changes: [(Misfit, Change); 10] = [
            (Misfit::Account, |it| it.account = None),
            (Misfit::Account, |it| it.account = Some("other".to_owned())),
            (Misfit::Sources, |it| it.sources.reverse()),
            (Misfit::Sources, |it| {
                it.sources.pop();
            }),
            (Misfit::Sources, |it| {
                it.sources[1] = VariableSource::ConfigMap("login".to_owned());
            }),
            (Misfit::NodeSelector, |it| {
                it.placement.node_selector.clear();
            }),
            (Misfit::NodeSelector, |it| {
                let more = ("zone".to_owned(), "a".to_owned());
                it.placement.node_selector.extend([more]);
            }),
            (Misfit::Tolerations, |it| {
                it.placement.tolerations.pop_first();
            }),
            (Misfit::RuntimeClass, |it| it.runtime_class = None),
            (Misfit::RuntimeClass, |it| {
                it.runtime_class = Some("other".to_owned());
            }),
        ];
        for (misfit, change) in changes {
            let mut changed = settings();
            change(&mut changed);
            let of_pool = class("512", changed.clone());
            assert_eq!(misfits(&of_pool, &needs(settings())), [misfit]);
            let of_function = needs(changed);
            assert_eq!(misfits(&class("512", settings()), &of_function), [misfit]);
        }
    }

    #[test]
    fn layers_need_room_and_an_image_needs_a_pod_of_its_own() {
        let mut narrow = class("512", Settings::default());
        narrow.takes_layers = false;
        let mut function = needs(Settings::default());
        assert_eq!(misfits(&narrow, &function), [Misfit::Layers]);
        function.has_layers = false;
        assert!(narrow.fits(&function));
        function.own_pod = Some("spec.code.image");
        assert_eq!(
            misfits(&narrow, &function),
            [Misfit::OwnPod("spec.code.image")]
        );
        assert_eq!(
            served(&function, &[(narrow, "a".to_owned())]),
            Served::OwnPod("spec.code.image")
        );
    }

    #[test]
    fn the_smallest_pool_that_fits_serves_or_the_nearest_one_is_named() {
        let pools = |all: &[(&str, Settings)]| {
            let all = all.iter().enumerate();
            let all = all.map(|(place, (memory, settings))| {
                (class(memory, settings.clone()), format!("pool-{place}"))
            });
            Vec::from_iter(all)
        };
        let fitting = pools(&[
            ("1024", settings()),
            ("512", settings()),
            ("128", settings()),
            ("256", Settings::default()),
        ]);
        assert_eq!(
            served(&needs(settings()), &fitting),
            Served::By(&fitting[1].1)
        );
        let mut other = settings();
        other.account = None;
        let near = pools(&[("512", Settings::default()), ("128", other)]);
        let found = served(&needs(settings()), &near);
        let differs = vec![Misfit::Memory, Misfit::Account];
        assert_eq!(found, Served::Nearly("pool-1", differs));
        assert_eq!(served(&needs(settings()), &[]), Served::NoPool);
        let mut python = needs(settings());
        python.runtime = "python3.11".parse().expect("a name");
        assert_eq!(served(&python, &near), Served::NoPool);
    }

    #[test]
    fn access_is_an_account_or_a_source() {
        assert!(settings().has_access());
        let placed = Settings {
            placement: settings().placement,
            runtime_class: settings().runtime_class,
            ..Settings::default()
        };
        assert!(!placed.has_access());
        let account = Settings {
            account: settings().account,
            ..Settings::default()
        };
        let sources = Settings {
            sources: settings().sources,
            ..Settings::default()
        };
        assert!(account.has_access() && sources.has_access());
    }
}
