//! One `package.json`: its reading, and the forms in which it names other packages.
//!
//! Used by `package_json`, `workspace` and `manager`, which follow what it names.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::paths::{of_url, text};

pub(super) const MANIFEST: &str = "package.json";

pub(super) type Manifest = Map<String, Value>;

/// The manifest in a folder.
pub(super) fn manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    let Some(content) = text(&path)? else {
        return Ok(None);
    };
    let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
    let manifest = serde_json::from_str(content);
    manifest
        .map(Some)
        .with_context(|| path.display().to_string())
}

pub(super) fn has_script(manifest: &Manifest, name: &str) -> bool {
    manifest
        .get("scripts")
        .is_some_and(|scripts| scripts[name].is_string())
}

/// The form that npm reads, of a dependency that is written for another package manager.
pub(super) fn for_npm(spec: &str) -> Option<String> {
    let path = spec
        .strip_prefix("link:")
        .or_else(|| spec.strip_prefix("portal:"));
    match path {
        Some(path) => Some(format!("file:{path}")),
        None => spec.starts_with("workspace:").then(|| "*".to_owned()),
    }
}

/// The path of a dependency that is a folder or an archive on this machine.
pub(super) fn path_of(spec: &str) -> Option<String> {
    let forms = ["file:", "link:", "portal:"];
    let form = forms.iter().find_map(|form| spec.strip_prefix(form));
    if let Some(url) = form {
        return Some(of_url(url));
    }
    let inner = spec.strip_prefix("workspace:").unwrap_or(spec);
    let is_path = matches!(inner, "." | "..")
        || ["./", "../", "/"]
            .iter()
            .any(|begin| inner.starts_with(begin));
    is_path.then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_with_a_path_are_distinguished_from_others() {
        for (spec, path) in [
            ("file:../a", Some("../a")),
            ("link:./a", Some("./a")),
            ("portal:../a", Some("../a")),
            ("file:///abs/a", Some("/abs/a")),
            ("../a", Some("../a")),
            ("workspace:../a", Some("../a")),
            ("workspace:*", None),
            ("^1.0.0", None),
            ("github:a/b", None),
            ("npm:other@1", None),
            ("https://example.com/a.tgz", None),
        ] {
            assert_eq!(path_of(spec).as_deref(), path, "{spec}");
        }
    }
}
