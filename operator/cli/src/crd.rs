//! `pilotlight crd`: the custom resource definitions, as `kubectl apply -f -` takes them.
//!
//! Prints what `pilotlight_api::resource` defines. `crds/` and the chart hold copies.

use std::io::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use pilotlight_api::resource;

use crate::exit::Exit;

/// Print the custom resource definitions as YAML.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the definition of this kind
    #[arg(value_enum)]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Function,
    Warmpool,
    Schedule,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let mut stdout = std::io::stdout().lock();
    match args.kind {
        Some(kind) => stdout.write_all(yaml(kind)?.as_bytes())?,
        None => {
            for kind in Kind::value_variants() {
                write!(stdout, "---\n{}", yaml(*kind)?)?;
            }
        }
    }
    Ok(Exit::Success)
}

fn yaml(kind: Kind) -> Result<String> {
    let definition = match kind {
        Kind::Function => resource::function_definition(),
        Kind::Warmpool => resource::warm_pool_definition(),
        Kind::Schedule => resource::schedule_definition(),
    };
    Ok(serde_saphyr::to_string(&definition)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_the_sources() {
        for (kind, committed) in [
            (Kind::Function, include_str!("../../../crds/function.yaml")),
            (Kind::Warmpool, include_str!("../../../crds/warmpool.yaml")),
            (Kind::Schedule, include_str!("../../../crds/schedule.yaml")),
        ] {
            let source = yaml(kind).expect("YAML");
            assert_eq!(
                committed, source,
                "run `make crds` and commit what it writes"
            );
        }
    }
}
