//! Where local mode keeps logs and events on the disk: folders for each project, which is the directory that `pilotlight local`
//! was started in.
//!
//! Arguments that `local` and `logs` share, so that both mean the same folder. Never opens a file in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Digits of the hash in a folder's name: enough for the projects of one machine.
const DIGITS: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct LogFolder {
    /// The folder of this project's logs [default: one for the current directory, in pilotlight/logs of the user's state
    /// directory].
    #[arg(long, env = "PILOTLIGHT_LOGS", value_name = "DIR")]
    logs: Option<PathBuf>,
    #[arg(
        long = "state-of-logs",
        id = "state_of_logs",
        hide = true,
        env = "XDG_STATE_HOME",
        value_name = "DIR"
    )]
    state: Option<PathBuf>,
    #[arg(
        long = "home-of-logs",
        id = "home_of_logs",
        hide = true,
        env = "HOME",
        value_name = "DIR"
    )]
    home: Option<PathBuf>,
}

impl LogFolder {
    /// # Errors
    /// No folder is named, and there is no directory of the user either.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        match &self.logs {
            Some(logs) => Ok(logs.clone()),
            None => self.of_project("logs"),
        }
    }

    /// The folder for `what` of this project, in the user's state directory.
    ///
    /// # Errors
    /// There is no directory of the user.
    pub(crate) fn of_project(&self, what: &str) -> Result<PathBuf> {
        let state = self.state.clone().filter(|state| state.is_absolute());
        let state = state.or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        let state =
            state.with_context(|| format!("there is no HOME for the {what}: pass --{what}"))?;
        let project = std::env::current_dir().and_then(|here| here.canonicalize());
        let project =
            project.with_context(|| format!("the current directory is gone: pass --{what}"))?;
        Ok(state.join("pilotlight").join(what).join(name(&project)))
    }
}

/// The directory's own name, for people, and a hash of its whole path.
fn name(project: &Path) -> String {
    let own = project.file_name().unwrap_or(OsStr::new("root"));
    let hash = Sha256::digest(project.as_os_str().as_encoded_bytes());
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}", own.to_string_lossy(), &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(logs: Option<&str>, state: Option<&str>, home: Option<&str>) -> Result<PathBuf> {
        let path = |text: Option<&str>| text.map(PathBuf::from);
        let folder = LogFolder {
            logs: path(logs),
            state: path(state),
            home: path(home),
        };
        folder.path()
    }

    #[test]
    fn each_directory_has_a_folder_in_the_users_state() {
        let named = folder(Some("/mine"), Some("/state"), Some("/home/me")).expect("a path");
        assert_eq!(named, Path::new("/mine"));
        let of_user = folder(None, Some("/state"), Some("/home/me")).expect("a path");
        assert_eq!(of_user.parent(), Some(Path::new("/state/pilotlight/logs")));
        // A relative one is ignored, as its specification says.
        let of_home = folder(None, Some("state"), Some("/home/me")).expect("a path");
        assert!(of_home.starts_with("/home/me/.local/state/pilotlight/logs"));
        assert_eq!(of_home.file_name(), of_user.file_name());
        assert!(folder(None, None, None).is_err());
        let logs = LogFolder {
            logs: Some("/mine".into()),
            state: Some("/state".into()),
            home: None,
        };
        let events = logs.of_project("events").expect("a path");
        assert_eq!(events.parent(), Some(Path::new("/state/pilotlight/events")));
    }

    #[test]
    fn two_projects_of_the_same_name_have_two_folders() {
        let (one, other) = (name(Path::new("/a/shop")), name(Path::new("/b/shop")));
        assert!(one.starts_with("shop-") && other.starts_with("shop-"));
        assert_ne!(one, other);
        assert!(name(Path::new("/")).starts_with("root-"));
    }
}
