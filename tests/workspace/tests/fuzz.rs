//! The fuzz targets are a workspace of their own: that they are built with what is shipped, and each has
//! something to begin with.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// What only libFuzzer needs.
const OWN: [&str; 4] = ["arbitrary", "jobserver", "libfuzzer-sys", "pilotlight-fuzz"];

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../.."].iter().collect()
}

/// Names and versions.
fn packages(lock: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join(lock)).expect("a lock file");
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches([' ', '=', '"']).to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    packages
        .map(|package| {
            let name = field(package, "name").expect("a name");
            (name, field(package, "version").expect("a version"))
        })
        .collect()
}

#[test]
fn the_fuzz_targets_are_built_with_the_versions_that_are_shipped() {
    let shipped = packages("Cargo.lock");
    let fuzzed = packages("fuzz/Cargo.lock");
    let others = fuzzed.difference(&shipped);
    let others: Vec<_> = others.filter(|(name, _)| !OWN.contains(&&**name)).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn each_fuzz_target_is_built_and_has_a_corpus() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("a manifest");
    let targets = fs::read_dir(root().join("fuzz/fuzz_targets")).expect("a directory");
    for target in targets {
        let path = target.expect("readable").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        let corpus = fs::read_dir(root().join("fuzz/corpus").join(name));
        assert!(
            corpus.is_ok_and(|mut seeds| seeds.next().is_some()),
            "{name}"
        );
    }
}
