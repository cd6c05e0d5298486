//! A function's layers as one directory, which stands in for `/opt`.
//!
//! `code` fetches and unpacks each; here they are laid over each other, as the platform does.
//! The descriptions' search paths lead there. Never runs anything from a layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pilotlight_api::Layers;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::cache::Cache;
use super::code;
use super::tool;

/// The directory; `None` without layers.
///
/// # Errors
/// Name the field of the manifest.
pub(crate) async fn unpacked(layers: &Layers, cache: &Cache) -> Result<Option<PathBuf>> {
    if layers.is_empty() {
        return Ok(None);
    }
    let (mut hash, mut unpacked) = (Sha256::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        code::update(&mut hash, layer.sha256.as_str().as_bytes());
        let directory = code::unpacked(layer, cache).await;
        unpacked.push(directory.with_context(|| format!("spec.layers[{number}]"))?);
    }
    let merge = async |place: &Path| {
        for layer in &unpacked {
            let mut copy = Command::new("cp");
            tool::run(copy.arg("-R").arg(layer.join(".")).arg(place)).await?;
        }
        Ok(())
    };
    let merged = cache.entry("layers", &code::hex(hash), merge).await;
    merged.context("spec.layers").map(Some)
}
