//! Where functions are prepared: the cache, further runtimes, the machine's programs.
//!
//! Arguments that `local` and `package` share, so that both use the same cache. Only this module reads the
//! environment for them; `prepare` does the work.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pilotlight_runtimes::Runtimes;

use super::cache::Cache;
use super::prepare::Preparer;

#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// Where runtimes and libraries are kept [default: pilotlight in the user's cache directory].
    #[arg(long, env = "PILOTLIGHT_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A folder of further runtimes; see runtimes/README.md.
    #[arg(long, env = "PILOTLIGHT_RUNTIMES", value_name = "DIR")]
    runtimes: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

/// Variables of the machine's environment. They are arguments, so that nothing else reads them.
#[derive(Debug, clap::Args)]
struct Machine {
    #[arg(
        long,
        hide = true,
        env = "PATH",
        default_value = "/usr/local/bin:/usr/bin:/bin"
    )]
    search_path: OsString,
    #[arg(long, hide = true, env = "XDG_CACHE_HOME")]
    user_cache: Option<PathBuf>,
    #[arg(long, hide = true, env = "HOME")]
    home: Option<PathBuf>,
}

impl Places {
    /// # Errors
    /// If the folder of further ones cannot be read.
    pub(crate) fn runtimes(&self) -> Result<Runtimes> {
        Runtimes::with(self.runtimes.as_deref()).context("--runtimes")
    }

    /// # Errors
    /// If there is no cache.
    pub(crate) fn preparer(&self, runtimes: Runtimes) -> Result<Preparer> {
        let cache = Cache::open(&self.cache()?)?;
        Ok(Preparer::new(
            runtimes,
            cache,
            self.machine.search_path.clone(),
        ))
    }

    fn cache(&self) -> Result<PathBuf> {
        if let Some(cache) = &self.cache {
            return Ok(cache.clone());
        }
        let of_user = self
            .machine
            .user_cache
            .clone()
            .filter(|directory| directory.is_absolute());
        let of_user = of_user.or_else(|| Some(self.machine.home.as_ref()?.join(".cache")));
        Ok(of_user
            .context("there is no HOME for the cache: pass --cache")?
            .join("pilotlight"))
    }
}
