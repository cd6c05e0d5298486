//! Which file goes where in a function's archive: a description's `package` table.
//!
//! `pilotlight package` reads it. The `image` table says where an image looks for libraries.

use serde::Deserialize;

use crate::pattern;

/// What a function's archive holds besides its code, and which files it leaves out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackageLayout {
    /// The folder for the installed libraries; `.` is the top. Without one, the build has put the libraries there.
    pub libraries: Option<String>,
    /// File names or `*.end`: sources that are not needed once the code is built.
    #[serde(default)]
    pub leave_out: Vec<String>,
}

impl PackageLayout {
    /// Whether an archive of built code leaves out files with this name.
    pub fn leaves_out(&self, name: &str) -> bool {
        let mut patterns = self.leave_out.iter();
        patterns.any(|pattern| pattern::matches(pattern, name))
    }

    /// The folder for libraries, if it is not a folder within the archive.
    pub(crate) fn outside(&self) -> Option<&str> {
        let is_inside = |folder: &str| {
            folder == "."
                || folder
                    .split('/')
                    .all(|part| !matches!(part, "" | "." | ".."))
        };
        let folder = self.libraries.as_deref();
        folder.filter(|folder| !is_inside(folder))
    }
}
