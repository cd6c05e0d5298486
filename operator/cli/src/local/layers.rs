//! A function's layers as one directory, which stands in for `/opt`.
//!
//! `code` fetches and unpacks each layer; here they are copied over each other, as the platform does.
//! The descriptions' search paths lead there. Never runs anything from a layer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pilotlight_api::Layers;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::{code, hash};

/// The directory; `None` for a function without layers.
///
/// # Errors
/// Name the field of the manifest.
pub(crate) async fn unpacked(layers: &Layers, cache: &Cache) -> Result<Option<PathBuf>> {
    if layers.is_empty() {
        return Ok(None);
    }
    let (mut hash, mut unpacked) = (Sha256::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        hash::update(&mut hash, layer.sha256.as_str().as_bytes());
        let directory = code::unpacked(layer, cache).await;
        unpacked.push(directory.with_context(|| format!("spec.layers[{number}]"))?);
    }
    let merge = async |place: &Path| {
        for layer in &unpacked {
            lay(layer, place)?;
        }
        Ok(())
    };
    let merged = cache.entry("layers", &hash::hex(hash), merge).await;
    merged.context("spec.layers").map(Some)
}

/// Copies a layer over the layers before it. A file or a link replaces another; nothing is written through
/// a link, which may lead anywhere.
fn lay(layer: &Path, place: &Path) -> Result<()> {
    for entry in fs::read_dir(layer)? {
        let entry = entry?;
        let (from, to) = (entry.path(), place.join(entry.file_name()));
        let kind = entry.file_type()?;
        let there = fs::symlink_metadata(&to).ok();
        if let Some(there) = &there {
            ensure!(
                there.is_dir() == kind.is_dir(),
                "{} is a directory in one layer and a file in another",
                entry.file_name().display()
            );
            if !there.is_dir() {
                fs::remove_file(&to)?;
            }
        }
        if kind.is_dir() {
            if there.is_none() {
                fs::create_dir(&to)?;
            }
            lay(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_layer_replaces_and_nothing_is_written_through_a_link() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        for folder in ["one/lib", "two/lib", "three/out", "opt", "beside"] {
            fs::create_dir_all(at(folder)).expect("made");
        }
        fs::write(at("canary"), "alive").expect("written");
        symlink(at("canary"), at("one/lib/a")).expect("linked");
        symlink("../../canary", at("two/lib/link")).expect("linked");
        symlink(at("beside"), at("two/out")).expect("linked");
        for file in ["one/lib/link", "two/lib/a", "three/out/evil"] {
            fs::write(at(file), file).expect("written");
        }
        lay(&at("one"), &at("opt")).expect("laid");
        lay(&at("two"), &at("opt")).expect("laid");
        let text = fs::read_to_string(at("opt/lib/a")).expect("a file");
        assert_eq!(text, "two/lib/a");
        assert!(!at("opt/lib/a").is_symlink() && at("opt/lib/link").is_symlink());
        let error = lay(&at("three"), &at("opt"))
            .expect_err("two kinds")
            .to_string();
        assert!(
            error.starts_with("out is a directory in one layer"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(at("canary")).expect("a file"), "alive");
        assert!(!at("beside/evil").exists());
    }
}
