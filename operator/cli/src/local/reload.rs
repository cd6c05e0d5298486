//! Updates the gateway's functions after changes of the manifests and the code.
//!
//! Woken by `watch`, it reads everything again (`manifests`, `prepare`) and passes the gateway the full set;
//! unchanged revisions keep their instances. A mistake never removes a function: its last good version stays,
//! and the mistake is printed once.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;

use pilotlight_api::{Manifest, ScheduleManifest};
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::Namespace;
use pilotlight_events::schedule::records::ScheduleId;
use pilotlight_gateway::{Deployment, Gateway, ScheduleDeployment, ScheduleTimes};

use super::manifests;
use super::prepare::{Outcome, Preparer};
use super::print::{self, Progress};
use super::watch::Watch;

/// The functions that are served, and where they come from.
#[derive(Debug)]
pub(crate) struct Served {
    paths: Vec<PathBuf>,
    preparer: Preparer,
    current: BTreeMap<FunctionName, Deployment>,
    schedules: Vec<ScheduleDeployment>,
    /// The directories of the functions' code, as of the last read.
    code: BTreeSet<PathBuf>,
    /// The mistakes that were printed last.
    complaints: Vec<String>,
}

impl Served {
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        preparer: Preparer,
        deployments: Vec<Deployment>,
        schedules: Vec<ScheduleManifest>,
    ) -> Self {
        let current = deployments
            .into_iter()
            .map(|one| (one.name().clone(), one))
            .collect();
        Self {
            paths,
            preparer,
            current,
            schedules: schedules.into_iter().map(deployed).collect(),
            code: BTreeSet::new(),
            complaints: Vec::new(),
        }
    }

    pub(crate) fn deployments(&self) -> Vec<Deployment> {
        self.current.values().cloned().collect()
    }

    pub(crate) fn schedules(&self) -> Vec<ScheduleDeployment> {
        self.schedules.clone()
    }

    /// Applies each change, until dropped.
    pub(crate) async fn keep_up(&mut self, gateway: &Gateway) -> Infallible {
        let mut watch = match Watch::start() {
            Ok(watch) => watch,
            Err(error) => {
                print::note(&format!("warning: {error:#}; changes need a restart"));
                std::future::pending().await
            }
        };
        loop {
            // Once before the first change as well: files may have changed while the runtimes were prepared.
            self.reload(&mut watch, gateway).await;
            watch.changed().await;
        }
    }

    async fn reload(&mut self, watch: &mut Watch, gateway: &Gateway) {
        let (outcome, schedules) = loop {
            let found = manifests::find(&self.paths, self.preparer.runtimes());
            if !found.errors.is_empty() {
                watch.set(&found.directories.union(&self.code).cloned().collect());
                return self.complain(found.errors);
            }
            let outcome = self
                .preparer
                .prepare(found.manifests, &Progress::new())
                .await;
            self.code = outcome.directories.clone();
            if !watch.set(&found.directories.union(&self.code).cloned().collect()) {
                break (outcome, found.schedules);
            }
        };
        self.complain(outcome.failures.iter().map(worded).collect());
        if let Some(changes) = self.take(outcome) {
            gateway.deploy(self.deployments()).await;
            print::note(&changes);
        }
        let schedules: Vec<_> = schedules.into_iter().map(deployed).collect();
        if schedules != self.schedules {
            print::note(&format!("schedules: {}", print::schedules(&schedules)));
            self.schedules = schedules;
        }
        // After the functions that they name.
        gateway.set_schedules(self.schedules());
    }

    /// Makes the outcome the current set, and prints the differences, if there are any.
    fn take(&mut self, outcome: Outcome) -> Option<String> {
        let mut before = std::mem::take(&mut self.current);
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for deployment in outcome.deployments {
            let name = deployment.name().clone();
            let kept = match before.remove(&name) {
                Some(old) if old.revision == deployment.revision => old,
                Some(_) => {
                    changed.push(name.to_string());
                    deployment
                }
                None => {
                    added.push(name.to_string());
                    deployment
                }
            };
            self.current.insert(name, kept);
        }
        for (manifest, _) in &outcome.failures {
            let name = &manifest.function.metadata.name;
            self.current.extend(before.remove_entry(name));
        }
        let removed = before.into_keys().map(|name| name.to_string()).collect();
        let parts = [("added", added), ("changed", changed), ("removed", removed)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts
            .map(|(what, names)| format!("{what}: {}", names.join(", ")))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Prints the mistakes, unless they are those that were printed last.
    fn complain(&mut self, complaints: Vec<String>) {
        if complaints == self.complaints {
            return;
        }
        complaints
            .iter()
            .for_each(|complaint| print::error(complaint));
        if !complaints.is_empty() {
            print::note("what was served before is served on");
        }
        self.complaints = complaints;
    }
}

fn deployed(one: ScheduleManifest) -> ScheduleDeployment {
    let name = one.schedule.metadata.name;
    ScheduleDeployment {
        id: ScheduleId {
            namespace: Namespace::local(),
            uid: name.to_string(),
        },
        name,
        created: None,
        generation: None,
        spec: one.schedule.spec,
        shown: ScheduleTimes::default(),
    }
}

/// Why a function could not be prepared, with the place of its name.
pub(crate) fn worded((manifest, error): &(Manifest, anyhow::Error)) -> String {
    let Manifest {
        file,
        line,
        column,
        function,
        ..
    } = manifest;
    let (file, name) = (file.display(), &function.metadata.name);
    format!("{file}:{line}:{column}: {name}: {error:#}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use anyhow::anyhow;
    use pilotlight_gateway::Source;
    use pilotlight_runtimes::Runtimes;

    use super::super::cache::Cache;
    use super::*;

    /// Functions without a runtime to prepare: each is a script.
    struct Fixture {
        root: tempfile::TempDir,
        served: Served,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a directory");
            let cache = Cache::open(&root.path().join("cache")).expect("a cache");
            let preparer =
                Preparer::new(Runtimes::built_in(), cache, OsString::from("/usr/bin:/bin"));
            let served = Served::new(
                vec![root.path().join("all.yaml")],
                preparer,
                Vec::new(),
                Vec::new(),
            );
            Self { root, served }
        }

        async fn outcome(&mut self, functions: &[(&str, &str)]) -> Outcome {
            let text: String = functions
                .iter()
                .map(|(name, script)| {
                    format!(
                        "---\napiVersion: pilotlight.dev/v1alpha1\nkind: Function\n\
                         metadata: {{ name: {name} }}\nspec:\n  runtime: custom\n  \
                         code: {{ inline: {{ bootstrap: '#!/bin/sh {script}' }} }}\n"
                    )
                })
                .collect();
            let file = self.root.path().join("all.yaml");
            std::fs::write(&file, text).expect("written");
            let found = manifests::find(&[file], self.served.preparer.runtimes());
            assert_eq!(found.errors, Vec::<String>::new());
            self.served
                .preparer
                .prepare(found.manifests, &Progress::new())
                .await
        }

        async fn take(&mut self, functions: &[(&str, &str)]) -> Option<String> {
            let outcome = self.outcome(functions).await;
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
            self.served.take(outcome)
        }

        fn names(&self) -> Vec<&str> {
            self.served
                .current
                .keys()
                .map(FunctionName::as_str)
                .collect()
        }
    }

    #[tokio::test]
    async fn only_differences_are_printed() {
        let mut fixture = Fixture::new();
        let said = fixture.take(&[("a", "1"), ("b", "1")]).await;
        assert_eq!(said.as_deref(), Some("added: a, b"));
        assert_eq!(fixture.take(&[("b", "1"), ("a", "1")]).await, None);
        let said = fixture.take(&[("a", "2"), ("c", "1")]).await;
        assert_eq!(said.as_deref(), Some("added: c; changed: a; removed: b"));
        assert_eq!(fixture.names(), ["a", "c"]);
    }

    #[tokio::test]
    async fn a_function_that_can_no_longer_be_prepared_keeps_its_last_version() {
        let mut fixture = Fixture::new();
        fixture.take(&[("a", "1"), ("b", "1")]).await;
        let mut outcome = fixture.outcome(&[("a", "2"), ("b", "1")]).await;
        let old = fixture
            .served
            .current
            .values()
            .next()
            .expect("a")
            .revision
            .clone();
        let mut found = manifests::find(
            &[fixture.root.path().join("all.yaml")],
            fixture.served.preparer.runtimes(),
        );
        outcome.deployments.remove(0);
        outcome
            .failures
            .push((found.manifests.remove(0), anyhow!("spec.code: broken")));
        let said = worded(&outcome.failures[0]);
        assert!(
            said.ends_with("all.yaml:4:19: a: spec.code: broken"),
            "{said}"
        );
        assert_eq!(fixture.served.take(outcome), None);
        assert_eq!(fixture.names(), ["a", "b"]);
        assert_eq!(
            fixture.served.current.values().next().expect("a").revision,
            old
        );
    }

    #[tokio::test]
    async fn unpacked_code_is_outside_the_users_directory() {
        let mut fixture = Fixture::new();
        let outcome = fixture.outcome(&[("a", "1")]).await;
        let Source::Local(launch) = &outcome.deployments[0].source else {
            panic!("local mode makes local deployments");
        };
        let cache = fixture
            .root
            .path()
            .join("cache")
            .canonicalize()
            .expect("a cache");
        assert!(launch.task_root.starts_with(cache));
        assert_eq!(
            Path::new(&launch.command[0]),
            launch.task_root.join("bootstrap")
        );
        assert_eq!(launch.environment["TZ"], ":UTC");
        assert!(outcome.directories.is_empty(), "nothing to watch");
    }
}
