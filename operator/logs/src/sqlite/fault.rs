//! Why a file of logs could not be used, as far as the store treats the reasons differently.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file is no file of logs, or not any more. It will never be read again.
    Damaged(String),
    /// Anything else, such as a full disk, or another program that has locked the file. It may work later.
    Failed(String),
}

impl Fault {
    /// The file has the tables of another version.
    pub(super) fn format(found: i64) -> Self {
        Fault::Damaged(format!(
            "it has format {found}, which this version does not know"
        ))
    }

    pub(super) fn of(self, path: &Path) -> StoreError {
        let (Fault::Damaged(why) | Fault::Failed(why)) = self;
        StoreError::Unavailable(format!("{}: {why}", path.display()))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;

        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Fault::Damaged(error.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Fault::Failed("another program has locked it".to_owned())
            }
            Some(_) => Fault::Failed(error.to_string()),
            // A column does not have what this store writes there.
            None => match &error {
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..)
                | Error::Utf8Error(..) => Fault::Damaged(error.to_string()),
                _ => Fault::Failed(error.to_string()),
            },
        }
    }
}
