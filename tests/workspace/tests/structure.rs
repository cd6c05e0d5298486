//! The structure within crates: no circles of files, no file that is too long, one meaning for each name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::MetadataCommand;
use pilotlight_workspace_tests::modules::Graph;
use pilotlight_workspace_tests::{names, tree};

/// Files that are in a circle. This list may only become shorter.
const IN_CIRCLES: [&str; 4] = [
    "operator/core/tests/simulation/broken.rs",
    "operator/core/tests/simulation/instances.rs",
    "operator/core/tests/simulation/main.rs",
    "operator/core/tests/simulation/world.rs",
];

const LINES: usize = 650;
/// Files that have more lines. This list may only become shorter.
const TOO_LONG: [&str; 0] = [];

/// Types whose name says nothing. This list may only become shorter.
const RIDDLES: [&str; 0] = [];

/// Public types of one name in several crates. This list may only become shorter.
const SHARED: [&str; 1] = ["Outcome: operator/core, operator/wire"];

/// Fails for what is found and not in the list, and for what is in the list and not found any more.
#[track_caller]
fn assert_only(list: &[&str], found: &BTreeSet<String>, what: &str) {
    let list: BTreeSet<_> = list.iter().map(|one| (*one).to_owned()).collect();
    let new = Vec::from_iter(found.difference(&list));
    assert!(new.is_empty(), "{what}: {new:#?}");
    let gone = Vec::from_iter(list.difference(found));
    assert!(
        gone.is_empty(),
        "take these from the list, as they are mended: {gone:#?}"
    );
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let root = tree::root();
    let (mut files, mut edges) = (BTreeSet::new(), Vec::new());
    let targets = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets);
    for target in targets {
        let graph = Graph::read(Path::new(&target.src_path));
        for circle in graph.circles(&root) {
            edges.extend(graph.edges_within(&circle, &root));
            files.extend(circle);
        }
    }
    let is_new = |edge: &&String| IN_CIRCLES.iter().all(|file| !edge.contains(file));
    let new = Vec::from_iter(edges.iter().filter(is_new));
    assert_only(
        &IN_CIRCLES,
        &files,
        &format!("these use each other ({new:#?})"),
    );
}

#[test]
fn no_source_has_too_many_lines() {
    let files = tree::files("");
    let sources = files.iter().filter(|file| file.has_extension(&["rs"]));
    let is_long = |file: &&tree::File| file.text.lines().count() > LINES;
    let long = sources.filter(is_long).map(|file| file.path.clone());
    assert_only(
        &TOO_LONG,
        &long.collect(),
        &format!("more than {LINES} lines"),
    );
}

#[test]
fn no_type_has_a_name_that_says_nothing() {
    let mut files = tree::files("");
    files.retain(|file| file.has_extension(&["rs"]) && file.path != "tests/workspace/src/names.rs");
    assert_only(
        &RIDDLES,
        &names::riddles(&files),
        "name them for what they are",
    );
}

#[test]
fn no_two_crates_have_a_public_type_of_the_same_name() {
    let mut files = tree::files("");
    files.retain(|file| file.has_extension(&["rs"]) && !file.path.starts_with("fuzz/"));
    let shared: BTreeMap<_, _> = names::shared(&files);
    let shared = shared.into_iter().map(|(name, crates)| {
        let crates = Vec::from_iter(crates).join(", ");
        format!("{name}: {crates}")
    });
    assert_only(&SHARED, &shared.collect(), "one of them needs another name");
}
