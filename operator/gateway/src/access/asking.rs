//! Questions to the cluster, each asked by one task at a time.
//!
//! `core::access::reviews` decides who asks and how long an answer holds. A question goes on when its caller goes away,
//! since others may wait for it.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pilotlight_core::access::Refusal;
use pilotlight_core::access::reviews::{Look, ReviewLimits, Reviews, Unanswered};
use tokio::sync::watch;
use tokio::time::timeout;

use super::judge::Later;
use crate::clock;

/// One question to the API server. Its caller waits for it.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// How often a caller looks. Each time but the first it has waited for an answer.
const LOOKS: usize = 4;

/// See the module. Clones are one.
pub(super) struct Asking<K, V>(Arc<Mutex<Inner<K, V>>>);

struct Inner<K, V> {
    reviews: Reviews<K, V>,
    /// A receiver for each question that is being asked. Its sender is dropped when the answer is there.
    asked: HashMap<K, watch::Receiver<()>>,
}

impl<K, V> Clone for Asking<K, V> {
    fn clone(&self) -> Self {
        Asking(self.0.clone())
    }
}

impl<K, V> Debug for Asking<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

impl<K, V> Asking<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new(limits: ReviewLimits) -> Self {
        Asking(Arc::new(Mutex::new(Inner {
            reviews: Reviews::new(limits),
            asked: HashMap::new(),
        })))
    }

    /// The answer, `None` for `no`. `ask`: begins to ask the cluster.
    ///
    /// # Errors
    /// If the cluster cannot be asked, or is asked too much.
    pub(super) async fn answer(
        &self,
        question: K,
        ask: impl Fn() -> Later<V>,
    ) -> Result<Option<V>, Refusal> {
        for _ in 0..LOOKS {
            let mut answered = {
                let mut inner = self.lock();
                match inner.reviews.look(clock::now(), &question) {
                    Look::Known { answer, renews } => {
                        if renews {
                            self.begin(&mut inner, question, ask());
                        }
                        return Ok(answer);
                    }
                    Look::Refused(refusal) => return Err(refusal),
                    Look::Ask => self.begin(&mut inner, question.clone(), ask()),
                    Look::Wait => match inner.asked.get(&question) {
                        Some(asked) => asked.clone(),
                        None => break,
                    },
                }
            };
            // The sender is dropped when the answer is there, which ends this wait.
            let _ = answered.changed().await;
        }
        Err(Refusal::Unavailable)
    }

    fn begin(&self, inner: &mut Inner<K, V>, question: K, answer: Later<V>) -> watch::Receiver<()> {
        let (sender, answered) = watch::channel(());
        inner.asked.insert(question.clone(), answered.clone());
        let asking = self.clone();
        // It ends by its own time limit.
        tokio::spawn(async move {
            // A task of its own: a question that panics has no answer, and can be asked again.
            let answer = tokio::spawn(timeout(QUESTION_LIMIT, answer)).await;
            let answer = answer.map_or(Err(Unanswered), |answer| answer.unwrap_or(Err(Unanswered)));
            let mut inner = asking.lock();
            inner.asked.remove(&question);
            inner.reviews.answered(clock::now(), question, answer);
            // Before the lock is free: who looks next finds the answer, and who waits is woken for it.
            drop(sender);
        });
        answered
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// A cluster that answers when it is let.
    #[derive(Clone, Default)]
    struct Cluster {
        asked: Arc<AtomicUsize>,
        lets: Option<Arc<Semaphore>>,
        answer: Option<u32>,
    }

    impl Cluster {
        fn ask(&self) -> Later<u32> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let (lets, answer) = (self.lets.clone(), self.answer);
            Box::pin(async move {
                match lets {
                    Some(lets) => {
                        let permit = lets.acquire().await;
                        permit.map_err(|_| Unanswered)?.forget();
                        Ok(answer)
                    }
                    None => std::future::pending().await,
                }
            })
        }
    }

    #[tokio::test]
    async fn callers_with_one_question_wait_for_one_answer() {
        let asking = Asking::new(ReviewLimits::DEFAULT);
        let lets = Arc::new(Semaphore::new(0));
        let cluster = Cluster {
            lets: Some(lets.clone()),
            answer: Some(7),
            ..Cluster::default()
        };
        let callers = join_all((0..20).map(|_| asking.answer("a", || cluster.ask())));
        let lets_one = async { lets.add_permits(1) };
        let (answers, ()) = tokio::join!(callers, lets_one);
        assert!(answers.into_iter().all(|answer| answer == Ok(Some(7))));
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_takes_no_answer_from_the_others() {
        let asking = Asking::new(ReviewLimits::DEFAULT);
        let lets = Arc::new(Semaphore::new(0));
        let cluster = Cluster {
            lets: Some(lets.clone()),
            answer: Some(7),
            ..Cluster::default()
        };
        let first = timeout(
            Duration::from_millis(1),
            asking.answer("a", || cluster.ask()),
        );
        assert!(first.await.is_err());
        lets.add_permits(1);
        assert_eq!(asking.answer("a", || cluster.ask()).await, Ok(Some(7)));
        assert_eq!(cluster.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_does_not_answer_refuses_a_stranger_after_the_limit() {
        let asking = Asking::new(ReviewLimits::DEFAULT);
        let cluster = Cluster::default();
        let begun = tokio::time::Instant::now();
        let answer = asking.answer("a", || cluster.ask()).await;
        assert_eq!(answer, Err(Refusal::Unavailable));
        assert_eq!(begun.elapsed().as_secs(), QUESTION_LIMIT.as_secs());
        // Another stranger does not wait at all.
        let begun = tokio::time::Instant::now();
        let answer = asking.answer("b", || cluster.ask()).await;
        assert_eq!(answer, Err(Refusal::Unavailable));
        assert!(begun.elapsed().is_zero());
    }
}
