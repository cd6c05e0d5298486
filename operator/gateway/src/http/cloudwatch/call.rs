//! A request of the CloudWatch Logs API whose caller is known.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::error::LogsError;
use crate::access::Caller;
use crate::app::App;

/// See the module.
pub(super) struct Call<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) caller: Caller,
    pub(super) body: &'a [u8],
    pub(super) request_id: &'a str,
}

impl Call<'_> {
    pub(super) fn parameters<T: DeserializeOwned>(&self) -> Result<T, LogsError> {
        serde_json::from_slice(self.body).map_err(LogsError::serialization)
    }
}
