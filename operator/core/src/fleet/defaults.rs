//! The warm pools that an installation has without anybody naming them: a small one for each runtime with an image.
//!
//! Fed by the controller with the WarmPools that its watch shows. A pool of somebody's own that serves the same functions
//! takes the place of a default one. Pure: it knows no object of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::fit::{Class, Needs, Settings};
use crate::function::{EphemeralStorageMiB, MemoryMiB, PoolSize, Runtime};
use crate::ids::Uid;

/// Begins the name of each default pool.
const PREFIX: &str = "default-";
/// The longest name of a WarmPool.
const NAME_LENGTH: usize = 63;

/// A WarmPool that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingPool {
    pub uid: Uid,
    /// `None` if its spec cannot be read, and the same for the class.
    pub size: Option<PoolSize>,
    pub class: Option<Class>,
    /// Whether the controller has made it as a default pool.
    pub is_default: bool,
    pub is_being_deleted: bool,
}

/// What the controller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create { name: String, runtime: Runtime },
    Resize { name: String, uid: Uid },
    Delete { name: String, uid: Uid },
}

/// The steps from the WarmPools that are there, by name, to those that should be. `size`: of each default pool; 0: there is
/// none. `runtimes`: those with an image. `runtime_class`: that of functions that name none.
pub fn plan(
    size: PoolSize,
    runtimes: &BTreeSet<Runtime>,
    runtime_class: Option<&str>,
    known: &BTreeMap<String, ExistingPool>,
) -> Vec<Step> {
    let mut wanted = BTreeMap::new();
    for runtime in runtimes.iter().filter(|_| size.get() > 0) {
        let needs = plain(runtime, runtime_class);
        let serves = |pool: &ExistingPool| {
            !pool.is_default && pool.class.as_ref().is_some_and(|class| class.fits(&needs))
        };
        if !known.values().any(serves) {
            // Of two runtimes whose names become one, the first has a pool.
            wanted.entry(name(runtime)).or_insert(runtime);
        }
    }
    let mut steps = Vec::new();
    let present = known
        .iter()
        .filter(|(_, pool)| pool.is_default && !pool.is_being_deleted);
    for (name, ExistingPool { uid, size: has, .. }) in present {
        let (name, uid) = (name.clone(), uid.clone());
        match wanted.contains_key(&name) {
            true if has.is_none_or(|has| has == size) => {}
            true => steps.push(Step::Resize { name, uid }),
            false => steps.push(Step::Delete { name, uid }),
        }
    }
    // A name that somebody else uses stays theirs, and one that is being deleted is free soon.
    wanted.retain(|name, _| !known.contains_key(name));
    steps.extend(wanted.into_iter().map(|(name, runtime)| Step::Create {
        name,
        runtime: runtime.clone(),
    }));
    steps
}

/// A function of the runtime that names nothing else.
fn plain(runtime: &Runtime, runtime_class: Option<&str>) -> Needs {
    Needs {
        memory: MemoryMiB::default(),
        ephemeral_storage: EphemeralStorageMiB::default(),
        runtime: runtime.clone(),
        has_layers: false,
        settings: Settings {
            runtime_class: runtime_class.map(str::to_owned),
            ..Settings::default()
        },
        own_pod: None,
    }
}

/// The name of a runtime's default pool. A WarmPool's name has no dots.
fn name(runtime: &Runtime) -> String {
    let mut name = format!("{PREFIX}{}", runtime.canonical().as_str().replace('.', "-"));
    name.truncate(NAME_LENGTH);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(names: &[&str]) -> BTreeSet<Runtime> {
        let names = names.iter();
        names.map(|name| name.parse().expect("a name")).collect()
    }

    fn size(size: u32) -> PoolSize {
        i128::from(size).try_into().expect("within bounds")
    }

    fn class(runtime: &str) -> Class {
        Class {
            memory: MemoryMiB::default(),
            ephemeral_storage: EphemeralStorageMiB::default(),
            runtime: runtime.parse().expect("a name"),
            takes_layers: true,
            settings: Settings::default(),
        }
    }

    fn known(runtime: &str, is_default: bool) -> ExistingPool {
        ExistingPool {
            uid: "u1".into(),
            size: Some(size(1)),
            class: Some(class(runtime)),
            is_default,
            is_being_deleted: false,
        }
    }

    fn create(name: &str, runtime: &str) -> Step {
        Step::Create {
            name: name.to_owned(),
            runtime: runtime.parse().expect("a name"),
        }
    }

    fn delete(name: &str) -> Step {
        let (name, uid) = (name.to_owned(), "u1".into());
        Step::Delete { name, uid }
    }

    fn planned(wanted: u32, names: &[&str], known: &[(&str, ExistingPool)]) -> Vec<Step> {
        let known = known.iter().cloned();
        let known = known.map(|(name, pool)| (name.to_owned(), pool)).collect();
        plan(size(wanted), &runtimes(names), None, &known)
    }

    const RUNTIMES: [&str; 2] = ["custom", "python3.11"];

    #[test]
    fn each_runtime_with_an_image_gets_one_pool_and_keeps_it() {
        let steps = planned(1, &RUNTIMES, &[]);
        let created = [
            create("default-custom", "custom"),
            create("default-python3-11", "python3.11"),
        ];
        assert_eq!(steps, created);
        let there = [
            ("default-custom", known("custom", true)),
            ("default-python3-11", known("python3.11", true)),
        ];
        assert_eq!(planned(1, &RUNTIMES, &there), []);
        // Without its image a pool can have no pods.
        assert_eq!(
            planned(1, &RUNTIMES[..1], &there),
            [delete("default-python3-11")]
        );
        let (name, uid) = ("default-custom".to_owned(), "u1".into());
        let resized = Step::Resize { name, uid };
        assert_eq!(planned(2, &RUNTIMES[..1], &there[..1]), [resized]);
    }

    #[test]
    fn the_size_0_takes_all_default_pools_away_and_no_other() {
        assert_eq!(planned(0, &RUNTIMES, &[]), []);
        let there = [
            ("default-custom", known("custom", true)),
            ("mine", known("python3.11", false)),
        ];
        assert_eq!(planned(0, &RUNTIMES, &there), [delete("default-custom")]);
    }

    #[test]
    fn a_pool_for_the_same_functions_takes_its_place_and_one_for_others_does_not() {
        let there = |own: ExistingPool| {
            [
                ("default-python3-11", known("python3.11", true)),
                ("mine", own),
            ]
        };
        let steps = |own: ExistingPool| planned(1, &RUNTIMES[1..], &there(own));
        assert_eq!(
            steps(known("python3.11", false)),
            [delete("default-python3-11")]
        );
        assert_eq!(
            planned(1, &["python3.11"], &there(known("python3.11", false))[1..]),
            []
        );
        let mut with_account = known("python3.11", false);
        let class = with_account.class.as_mut().expect("it is readable");
        class.settings.account = Some("orders".to_owned());
        assert_eq!(steps(with_account), []);
        assert_eq!(steps(known("custom", false)), []);
        let mut unreadable = known("python3.11", false);
        unreadable.class = None;
        assert_eq!(steps(unreadable), []);
    }

    #[test]
    fn a_name_that_is_in_use_is_left_alone() {
        let theirs = [("default-python3-11", known("custom", false))];
        assert_eq!(planned(1, &RUNTIMES[1..], &theirs), []);
        let mut ending = known("python3.11", true);
        ending.is_being_deleted = true;
        let ending = [("default-python3-11", ending)];
        assert_eq!(planned(1, &RUNTIMES[1..], &ending), []);
        assert_eq!(planned(0, &RUNTIMES[1..], &ending), []);
    }

    #[test]
    fn names_are_those_of_a_warm_pool() {
        let long = "a".repeat(60) + ".5";
        for (runtime, expected) in [
            ("nodejs22.x", "default-nodejs22".to_owned()),
            ("provided.al2023", "default-custom".to_owned()),
            (long.as_str(), format!("default-{}", "a".repeat(55))),
            ("a.b", "default-a-b".to_owned()),
        ] {
            assert_eq!(name(&runtime.parse().expect("a name")), expected);
        }
        // Only one of two runtimes that would share a name has a pool.
        assert_eq!(
            planned(1, &["a-b", "a.b"], &[]),
            [create("default-a-b", "a-b")]
        );
    }

    #[test]
    fn the_installations_runtime_class_is_that_of_plain_functions() {
        let mut sandboxed = known("custom", false);
        let class = sandboxed.class.as_mut().expect("it is readable");
        class.settings.runtime_class = Some("sandbox".to_owned());
        let there = BTreeMap::from([("mine".to_owned(), sandboxed)]);
        let with = |class| plan(size(1), &runtimes(&["custom"]), class, &there);
        assert_eq!(with(Some("sandbox")), []);
        assert_eq!(with(None).len(), 1);
    }
}
