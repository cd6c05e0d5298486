//! The generator determines when calls are due, and how many of them at once.
//!
//! An open loop sends at random moments, in bursts or at a steady rate, and does not wait for earlier
//! calls. A closed loop sends the next call of a connection once the previous one is answered. `accounted`
//! and `timing` make the calls; this file never sends anything.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many due moments may wait for the client. If it falls further behind, it delays the generator, but
/// each call keeps the moment when it was due.
const BACKLOG: usize = 1024;

/// How calls arrive. Written as `RATE`, `SIZExSECONDS`, `steady:RATE` or `closed:CONNECTIONS`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Open loop: a Poisson process with `rate` calls a second.
    Poisson { rate: f64 },
    /// Open loop: `size` calls at once, with exponential gaps of `seconds` on average.
    Bursts { size: u32, seconds: f64 },
    /// Open loop: `rate` calls a second, with equal gaps.
    Steady { rate: f64 },
    /// Closed loop over `connections`.
    Closed { connections: usize },
}

impl FromStr for Load {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let load = match (text.split_once(':'), text.split_once('x')) {
            (Some(("steady", rate)), _) => rate.parse().ok().map(|rate| Load::Steady { rate }),
            (Some(("closed", connections)), _) => connections
                .parse()
                .ok()
                .map(|connections| Load::Closed { connections }),
            (Some(_), _) => None,
            (None, Some((size, seconds))) => size
                .parse()
                .ok()
                .zip(seconds.parse().ok())
                .map(|(size, seconds)| Load::Bursts { size, seconds }),
            (None, None) => text.parse().ok().map(|rate| Load::Poisson { rate }),
        };
        let load = load.filter(|load| load.is_possible()).with_context(|| {
            format!(
                "{text:?} is no load: expected RATE, SIZExSECONDS, steady:RATE or closed:CONNECTIONS, \
                 each above 0"
            )
        })?;
        Ok(load)
    }
}

impl Load {
    fn is_possible(self) -> bool {
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        match self {
            Load::Poisson { rate } | Load::Steady { rate } => is_positive(rate),
            Load::Bursts { size, seconds } => size > 0 && is_positive(seconds),
            Load::Closed { connections } => connections > 0,
        }
    }

    /// The time to the next arrival of an open loop.
    fn gap(self, random: &mut fastrand::Rng) -> Duration {
        let mut exponential = || -(1.0 - random.f64()).ln();
        Duration::from_secs_f64(match self {
            Load::Poisson { rate } => exponential() / rate,
            Load::Bursts { seconds, .. } => exponential() * seconds,
            Load::Steady { rate } => 1.0 / rate,
            Load::Closed { .. } => 0.0,
        })
    }
}

/// Runs `call` for each arrival until `stop`, with the moment when it is due. Returns when all calls have
/// ended, or after the first call that fails.
pub async fn drive<C, F>(load: Load, seed: u64, stop: CancellationToken, call: C) -> Result<()>
where
    C: Fn(Instant) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    match load {
        Load::Closed { connections } => closed_loop(connections, stop, call).await,
        Load::Bursts { size, .. } => open_loop(load, size, seed, stop, call).await,
        Load::Poisson { .. } | Load::Steady { .. } => open_loop(load, 1, seed, stop, call).await,
    }
}

async fn closed_loop<C, F>(connections: usize, stop: CancellationToken, call: C) -> Result<()>
where
    C: Fn(Instant) -> F + Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        let (stop, call) = (stop.clone(), call.clone());
        workers.spawn(async move {
            while !stop.is_cancelled() {
                call(Instant::now()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn open_loop<C, F>(
    load: Load,
    size: u32,
    seed: u64,
    stop: CancellationToken,
    call: C,
) -> Result<()>
where
    C: Fn(Instant) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (mut arrivals, mut calls) = (arrivals(load, seed), JoinSet::new());
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            Some(ended) = calls.join_next() => ended??,
            Some(due) = arrivals.recv() => for _ in 0..size {
                calls.spawn(call(due));
            },
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(())
}

/// Sends each moment of an open loop when it comes. A thread sends them, because tokio's timers have a
/// resolution of a millisecond. The thread ends once the receiver is dropped.
fn arrivals(load: Load, seed: u64) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let mut random = fastrand::Rng::with_seed(seed);
    std::thread::spawn(move || {
        let mut due = Instant::now();
        loop {
            due += load.gap(&mut random);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.blocking_send(due).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A function and how its calls arrive, written as `NAME=LOAD`.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionLoad {
    pub function: String,
    pub load: Load,
}

impl FromStr for FunctionLoad {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (function, load) = text.split_once('=').context("expected NAME=LOAD")?;
        ensure!(!function.is_empty(), "{text:?} names no function");
        Ok(FunctionLoad {
            function: function.to_owned(),
            load: load.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn gaps(load: &str) -> Vec<f64> {
        let load: Load = load.parse().expect("a load");
        let mut random = fastrand::Rng::with_seed(1);
        (0..10_000)
            .map(|_| load.gap(&mut random).as_secs_f64())
            .collect()
    }

    fn mean(gaps: &[f64]) -> f64 {
        gaps.iter().sum::<f64>() / gaps.len() as f64
    }

    #[test]
    fn each_load_is_read_as_it_is_written() {
        let read = |text: &str| text.parse::<Load>().expect(text);
        assert_eq!(read("2.5"), Load::Poisson { rate: 2.5 });
        assert_eq!(
            read("4x0.5"),
            Load::Bursts {
                size: 4,
                seconds: 0.5
            }
        );
        assert_eq!(read("steady:40"), Load::Steady { rate: 40.0 });
        assert_eq!(read("closed:32"), Load::Closed { connections: 32 });
        for wrong in [
            "", "0", "-1", "inf", "NaN", "0x1", "1x0", "steady:0", "closed:0", "open:3", "1:2",
        ] {
            assert!(wrong.parse::<Load>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn random_arrivals_keep_their_mean_and_spread() {
        for (load, expected) in [("50", 0.02), ("4x3", 3.0)] {
            let gaps = gaps(load);
            let mean = mean(&gaps);
            assert!((mean / expected - 1.0).abs() < 0.05, "{load}: {mean}");
            // The share of an exponential distribution that lies below its mean is 1 - 1/e.
            let below = gaps.iter().filter(|gap| **gap < expected).count() as f64;
            assert!((below / 10_000.0 - 0.632).abs() < 0.02, "{load}: {below}");
        }
    }

    #[test]
    fn steady_arrivals_have_equal_gaps() {
        assert!(gaps("steady:40").iter().all(|gap| *gap == 0.025));
    }

    #[tokio::test]
    async fn a_closed_loop_has_at_most_one_call_per_connection() {
        let (open, most, made) =
            <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let stop = CancellationToken::new();
        let call = {
            let (most, made, stop) = (most.clone(), made.clone(), stop.clone());
            move |_| {
                let (open, most, made, stop) =
                    (open.clone(), most.clone(), made.clone(), stop.clone());
                async move {
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    if made.fetch_add(1, Ordering::SeqCst) == 100 {
                        stop.cancel();
                    }
                    Ok(())
                }
            }
        };
        let load = Load::Closed { connections: 3 };
        drive(load, 1, stop, call).await.expect("no call fails");
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn an_open_loop_does_not_wait_for_answers_and_ends_with_the_first_error() {
        let made = Arc::new(AtomicUsize::new(0));
        let call = {
            let made = made.clone();
            move |_| {
                let number = made.fetch_add(1, Ordering::SeqCst);
                async move {
                    ensure!(number < 10, "the tenth fails");
                    std::future::pending().await
                }
            }
        };
        let load = Load::Bursts {
            size: 2,
            seconds: 0.001,
        };
        let ended = drive(load, 1, CancellationToken::new(), call).await;
        assert_eq!(ended.expect_err("an error").to_string(), "the tenth fails");
        assert!(made.load(Ordering::SeqCst) > 10);
    }
}
