//! The deletion of a function's log: what waits for the store goes, and then what the store has.
//!
//! Without the order, records that are on their way would arrive after the store's deletion, and stay. Knows nothing of
//! other gateways: what they have of the last seconds is stored after a deletion here.

use std::time::Duration;

use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::store::StoreError;

use super::hub::Hub;

/// How long a deletion waits for the batches that are on their way to the store.
const ON_THEIR_WAY_LIMIT: Duration = Duration::from_secs(30);

impl Hub {
    /// Removes all records of a function that this gateway and the store have now. Instances do not send them again.
    ///
    /// # Errors
    /// Why the store has not deleted its part. What waited for it is gone nevertheless.
    pub async fn delete(&self, function: &FunctionKey) -> Result<(), StoreError> {
        let writing = self.records.forget(function);
        // A store that does not answer within the limit says so when it is asked to delete.
        let _ = tokio::time::timeout(ON_THEIR_WAY_LIMIT, self.records.have_ended(&writing)).await;
        self.store().delete(function).await
    }
}
