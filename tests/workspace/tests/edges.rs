//! The edges between the parts, read from `cargo metadata`: docs/design.md draws them.
//!
//! A forbidden crate is looked for in everything a part depends on, however far down.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

struct Graph {
    names: BTreeMap<PackageId, String>,
    edges: BTreeMap<PackageId, Vec<PackageId>>,
}

impl Graph {
    fn read() -> Self {
        let metadata: Metadata = MetadataCommand::new().exec().expect("cargo metadata runs");
        let names = metadata
            .packages
            .iter()
            .map(|p| (p.id.clone(), p.name.to_string()))
            .collect();
        let nodes = metadata
            .resolve
            .expect("the dependencies are resolved")
            .nodes;
        let is_normal = |dep: &&cargo_metadata::NodeDep| {
            dep.dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        };
        let deps = |node: &cargo_metadata::Node| {
            node.deps
                .iter()
                .filter(is_normal)
                .map(|dep| dep.pkg.clone())
                .collect()
        };
        let edges = nodes
            .iter()
            .map(|node| (node.id.clone(), deps(node)))
            .collect();
        Graph { names, edges }
    }

    /// Names of all crates that `part` is built with, itself left out.
    fn reach(&self, part: &str) -> BTreeSet<&str> {
        let start = self.names.iter().find(|(_, name)| *name == part);
        let mut open = vec![
            start
                .unwrap_or_else(|| panic!("{part} is in the workspace"))
                .0,
        ];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

#[track_caller]
fn assert_never(part: &str, forbidden: &[&str]) {
    let graph = Graph::read();
    let reach = graph.reach(part);
    for name in forbidden {
        assert!(!reach.contains(name), "{part} must not depend on {name}");
    }
}

const KUBE: [&str; 3] = ["kube", "kube-client", "k8s-openapi"];

#[test]
fn core_has_no_io_and_no_cluster() {
    assert_never("pilotlight-core", &KUBE);
    assert_never(
        "pilotlight-core",
        &[
            "tokio",
            "hyper",
            "http",
            "pilotlight-api",
            "pilotlight-wire",
        ],
    );
}

#[test]
fn the_messages_have_no_io_and_no_cluster() {
    assert_never("pilotlight-wire", &KUBE);
    assert_never("pilotlight-wire", &["tokio", "hyper", "pilotlight-api"]);
}

#[test]
fn what_callers_show_is_read_without_io_and_without_a_cluster() {
    assert_never("pilotlight-access", &KUBE);
    assert_never("pilotlight-access", &["tokio", "hyper", "pilotlight-api"]);
}

#[test]
fn connections_know_no_message() {
    assert_never("pilotlight-net", &KUBE);
    // It knows core for the roles and modes of `identity` alone.
    assert_never("pilotlight-net", &["pilotlight-wire", "axum"]);
}

#[test]
fn only_net_sets_options_of_sockets() {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs");
    let has_socket2 = |package: &&cargo_metadata::Package| {
        let mut dependencies = package.dependencies.iter();
        dependencies.any(|dependency| dependency.name == "socket2")
    };
    let ours = metadata.workspace_packages().into_iter();
    // The load tool depends on no crate of Pilotlight.
    let ours = ours.filter(|package| *package.name != "pilotlight-load");
    let users: Vec<_> = ours
        .filter(has_socket2)
        .map(|package| &*package.name)
        .collect();
    assert_eq!(users, ["pilotlight-net"]);
}

#[test]
fn the_manifests_have_no_behaviour() {
    assert_never("pilotlight-api", &["tokio", "hyper", "pilotlight-gateway"]);
}

#[test]
fn the_exporter_of_spans_knows_no_invocation() {
    assert_never("pilotlight-otlp", &KUBE);
    assert_never("pilotlight-otlp", &["tokio", "hyper", "pilotlight-wire"]);
}

#[test]
fn archives_know_nothing_of_functions() {
    // They use `core` for what it decides on addresses.
    assert_never("pilotlight-archive", &["pilotlight-api", "tokio"]);
}

#[test]
fn the_descriptions_of_runtimes_know_neither_manifests_nor_the_cluster() {
    assert_never("pilotlight-runtimes", &KUBE);
    assert_never("pilotlight-runtimes", &["tokio", "pilotlight-api"]);
}

#[test]
fn what_is_watched_alike_knows_neither_of_those_who_watch() {
    assert_never(
        "pilotlight-watch",
        &[
            "pilotlight-gateway",
            "pilotlight-controller",
            "pilotlight-api",
        ],
    );
}

#[test]
fn the_gateway_does_not_know_the_command_line() {
    assert_never(
        "pilotlight-gateway",
        &["clap", "pilotlight", "pilotlight-supervisor"],
    );
}

#[test]
fn the_controller_never_sees_an_invocation() {
    assert_never(
        "pilotlight-controller",
        &["pilotlight-gateway", "pilotlight-supervisor", "clap"],
    );
}

#[test]
fn the_supervisor_knows_neither_the_cluster_nor_the_manifest() {
    assert_never("pilotlight-supervisor", &KUBE);
    assert_never(
        "pilotlight-supervisor",
        &["pilotlight-api", "pilotlight-gateway", "clap"],
    );
}

#[test]
fn the_load_tool_knows_nothing_of_what_it_judges() {
    let graph = Graph::read();
    let mut reach = graph.reach("pilotlight-load").into_iter();
    assert_eq!(reach.find(|name| name.starts_with("pilotlight")), None);
}

#[test]
fn the_simulation_takes_the_account_without_io() {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs");
    let package = |name: &str| {
        let mut packages = metadata.packages.iter();
        packages.find(|package| *package.name == name).expect(name)
    };
    let core = &package("pilotlight-core").dependencies;
    let load = core.iter().find(|dep| dep.name == "pilotlight-load");
    let load = load.expect("the simulation uses the account");
    assert!(!load.uses_default_features && load.features.is_empty());
    let always = package("pilotlight-load").dependencies.iter();
    let always = always.filter(|dep| dep.kind == DependencyKind::Normal && !dep.optional);
    let always: Vec<_> = always.map(|dep| &*dep.name).collect();
    assert_eq!(always, ["serde"]);
}

#[test]
fn a_forbidden_edge_would_be_seen() {
    assert!(Graph::read().reach("pilotlight-gateway").contains("tokio"));
}
