//! The structure within crates: no circles of files, no file that is too long, one meaning for each name.

use std::path::Path;

use cargo_metadata::MetadataCommand;
use pilotlight_workspace_tests::modules::Graph;
use pilotlight_workspace_tests::{names, tree};

const LINES: usize = 650;

/// Public types of one name in several crates. This list may only become shorter.
const SHARED: [&str; 1] = ["Outcome: operator/core, operator/wire"];

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let root = tree::root();
    let mut edges = Vec::new();
    let targets = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets);
    for target in targets {
        let graph = Graph::read(Path::new(&target.src_path));
        for circle in graph.circles(&root) {
            edges.extend(graph.edges_within(&circle, &root));
        }
    }
    assert!(edges.is_empty(), "these use each other: {edges:#?}");
}

#[test]
fn no_source_has_too_many_lines() {
    let files = tree::files("");
    let sources = files.iter().filter(|file| file.has_extension(&["rs"]));
    let is_long = |file: &&tree::File| file.text.lines().count() > LINES;
    let long = Vec::from_iter(sources.filter(is_long).map(|file| &file.path));
    assert!(long.is_empty(), "more than {LINES} lines: {long:#?}");
}

#[test]
fn no_type_has_a_name_that_says_nothing() {
    let mut files = tree::files("");
    files.retain(|file| file.has_extension(&["rs"]) && file.path != "tests/workspace/src/names.rs");
    let riddles = names::riddles(&files);
    assert!(
        riddles.is_empty(),
        "name them for what they are: {riddles:#?}"
    );
}

#[test]
fn no_two_crates_have_a_public_type_of_the_same_name() {
    let mut files = tree::files("");
    files.retain(|file| file.has_extension(&["rs"]) && !file.path.starts_with("fuzz/"));
    let shared = names::shared(&files).into_iter().map(|(name, crates)| {
        let crates = Vec::from_iter(crates).join(", ");
        format!("{name}: {crates}")
    });
    assert_eq!(
        Vec::from_iter(shared),
        SHARED,
        "one of them needs another name"
    );
}
