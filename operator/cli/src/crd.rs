//! `pilotlight crd`: the custom resource definitions, as `kubectl apply -f -` takes them.
//!
//! Prints what `pilotlight_api::resource` defines. `crds/` and the chart hold copies.

use std::io::Write as _;

use anyhow::Result;
use pilotlight_api::resource;

use crate::Exit;

/// Print the custom resource definitions as YAML.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<Exit> {
    let yaml = serde_saphyr::to_string(&resource::definition())?;
    std::io::stdout().lock().write_all(yaml.as_bytes())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definition_is_the_sources() {
        let committed = include_str!("../../../crds/function.yaml");
        let source = serde_saphyr::to_string(&resource::definition()).expect("YAML");
        assert_eq!(
            committed, source,
            "run `make crds` and commit what it writes"
        );
    }
}
