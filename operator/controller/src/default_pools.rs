//! The warm pools that an installation has by default: carries out what `core::fleet::defaults` plans.
//!
//! The first installation in a cluster brings the definition of WarmPool, so Helm cannot make WarmPools in it. The leading
//! controller makes these, and a new installation starts warm. `worker` asks for the steps when pools change. The pools go
//! with the release, because an object of the chart owns them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pilotlight_api::labels;
use pilotlight_core::fleet::defaults::{ExistingPool, Step, plan};
use pilotlight_core::function::{PoolSize, Runtime};
use tokio::task::{JoinError, JoinSet};

use crate::collection::Collection;
use crate::options::Options;
use crate::reconcile::apply::Writer;
use crate::warm_pool::WarmPool;

/// The pause before the next attempt after a failed write.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// The writes under way.
#[derive(Default)]
pub(crate) struct DefaultPools {
    /// One task at most, for all steps of one plan. It says whether all succeeded.
    pub(crate) under_way: JoinSet<bool>,
    /// Something has changed meanwhile.
    is_outdated: bool,
    retry_at: Option<Instant>,
}

impl DefaultPools {
    /// Begins the steps that follow from the pools that are there.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        pools: &Collection<WarmPool>,
        options: &Options,
        writer: &Writer,
    ) {
        self.is_outdated = !self.under_way.is_empty();
        if self.is_outdated || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let size = options.default_pool_size;
        let class = options.pods.runtime_class.as_ref();
        let class = class.map(|class| class.as_str());
        let steps = plan(size, &runtimes(options), class, &known(pools, options));
        if steps.is_empty() {
            return;
        }
        let writer = writer.clone();
        self.under_way.spawn(async move {
            let mut all = true;
            for step in steps {
                all &= carry_out(&writer, step, size).await;
            }
            all
        });
    }

    /// The steps are done. Returns whether to settle again.
    pub(crate) fn completed(&mut self, now: Instant, done: Result<bool, JoinError>) -> bool {
        match done {
            Ok(true) => {}
            Ok(false) => self.retry_at = Some(now + WRITE_PAUSE),
            Err(error) => tracing::error!(%error, "an operation for the default pools panicked"),
        }
        std::mem::take(&mut self.is_outdated)
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.retry_at
    }
}

async fn carry_out(writer: &Writer, step: Step, size: PoolSize) -> bool {
    let done = match &step {
        Step::Create { name, runtime } => writer.create_pool(name, runtime, size).await,
        Step::Resize { name, uid } => writer.resize_pool(name, uid.as_str(), size).await,
        Step::Delete { name, uid } => writer.delete_pool(name, uid.as_str()).await,
    };
    match &done {
        Ok(()) => tracing::info!(?step, "a default pool has changed"),
        Err(error) => tracing::warn!(?step, error, "a default pool was not changed"),
    }
    done.is_ok()
}

/// The runtimes that can have pods.
fn runtimes(options: &Options) -> BTreeSet<Runtime> {
    let names = options.images.keys();
    let runtimes = names.filter_map(|name| name.parse::<Runtime>().ok());
    runtimes
        .filter(|runtime| options.runtimes.get(runtime).is_some())
        .collect()
}

fn known(pools: &Collection<WarmPool>, options: &Options) -> BTreeMap<String, ExistingPool> {
    let class = options.pods.runtime_class.as_ref();
    let existing = pools.iter().filter_map(|(name, pool)| {
        let metadata = pool.metadata()?;
        let labels = metadata.labels.as_ref();
        let spec = pool.resource().map(|resource| &resource.spec);
        let known = ExistingPool {
            uid: metadata.uid.clone().unwrap_or_default().into(),
            size: spec.map(|spec| spec.size),
            class: spec.map(|spec| spec.class(class)),
            is_default: labels.is_some_and(|labels| labels.contains_key(labels::DEFAULT_POOL)),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
        };
        Some((name.clone(), known))
    });
    existing.collect()
}
