//! Tests of `Stock`: single scenarios, and seeded worlds with an API server whose watch lags.

use super::*;

const POOL: WarmPoolState<'static> = WarmPoolState {
    size: 2,
    max: 2,
    template: "t1",
    may_create: true,
    may_delete: true,
};

fn pod(name: &str) -> Pod {
    Pod {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        template: "t1".to_owned(),
        is_ready: true,
        is_over: false,
        is_being_deleted: false,
    }
}

fn claim(name: &str) -> ClaimedPod {
    ClaimedPod {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        revision: "r1".into(),
    }
}

fn create(name: &str) -> Step {
    Step::Create { name: name.into() }
}

fn delete(name: &str) -> Step {
    Step::Delete {
        pod: name.into(),
        uid: format!("uid-{name}").into(),
    }
}

/// A stock, its clock, and generated names: `1`, `2` and so on.
struct Scenario {
    stock: Stock,
    now: Instant,
    names: usize,
}

impl Scenario {
    fn new() -> Self {
        Scenario {
            stock: Stock::default(),
            now: Instant::now(),
            names: 0,
        }
    }

    fn plan(&mut self, known: WarmPoolState<'_>, claims: &[&str], pods: &[Pod]) -> Vec<Step> {
        let claims: Vec<ClaimedPod> = claims.iter().map(|name| claim(name)).collect();
        let name = || {
            self.names += 1;
            self.names.to_string().into()
        };
        self.stock.plan(self.now, known, claims.iter(), pods, name)
    }
}

#[test]
fn a_pool_is_filled_once_even_if_the_watch_lags() {
    let mut scenario = Scenario::new();
    assert_eq!(scenario.plan(POOL, &[], &[]), [create("1"), create("2")]);
    scenario.stock.created(&"1".into());
    scenario.stock.created(&"2".into());
    scenario.now += Duration::from_secs(3600);
    assert_eq!(scenario.plan(POOL, &[], &[]), []);
    assert_eq!(scenario.plan(POOL, &[], &[pod("1")]), []);
    assert_eq!(scenario.plan(POOL, &[], &[pod("1"), pod("2")]), []);
    assert_eq!(scenario.stock.count().ready, 2);
    assert_eq!(
        scenario.plan(POOL, &[], &[pod("1")]),
        [create("3")],
        "one was deleted"
    );
}

#[test]
fn a_claimed_pod_is_replaced_at_once_whether_the_watch_has_shown_it_or_not() {
    let mut scenario = Scenario::new();
    scenario.plan(POOL, &[], &[]);
    scenario.stock.created(&"1".into());
    scenario.stock.created(&"2".into());
    assert_eq!(scenario.plan(POOL, &["2"], &[pod("1")]), [create("3")]);
    assert_eq!(scenario.plan(POOL, &["1", "2"], &[pod("1")]), [create("4")]);
    assert_eq!(scenario.stock.claims(), 2);
    assert_eq!(
        scenario.plan(POOL, &["1", "2"], &[pod("1"), pod("2")]),
        [],
        "a claim counts once"
    );
    assert_eq!(scenario.stock.claims(), 2);
    assert_eq!(scenario.stock.count().claimed, 2);
}

#[test]
fn recent_claims_raise_the_target_up_to_the_maximum() {
    let mut scenario = Scenario::new();
    let known = WarmPoolState { max: 4, ..POOL };
    let pods: Vec<Pod> = ["a", "b", "c", "d", "e"].map(pod).into();
    scenario.plan(known, &["a", "b", "c", "d", "e"], &pods);
    assert_eq!(scenario.stock.count().wanted, 4);
    scenario.now += CLAIM_WINDOW;
    scenario.plan(known, &[], &[]);
    assert_eq!(scenario.stock.count().wanted, 2);
}

#[test]
fn a_claimed_pod_that_no_gateway_names_is_deleted_after_the_grace_period_and_never_offered_again() {
    let mut scenario = Scenario::new();
    let known = WarmPoolState {
        size: 1,
        max: 1,
        ..POOL
    };
    let pods = [pod("a"), pod("b")];
    scenario.plan(known, &["a"], &pods);
    assert_eq!(scenario.plan(known, &[], &pods), []);
    assert_eq!(
        scenario.stock.next_wakeup(),
        Some(scenario.now + ABANDONED_GRACE)
    );
    scenario.now += ABANDONED_GRACE;
    let unreported = WarmPoolState {
        may_delete: false,
        ..known
    };
    assert_eq!(scenario.plan(unreported, &[], &pods), []);
    assert_eq!(
        scenario.stock.next_wakeup(),
        None,
        "the next wake-up is the report of the gateways"
    );
    assert_eq!(scenario.plan(known, &[], &pods), [delete("a")]);
    assert_eq!(scenario.plan(known, &[], &pods), []);
}

#[test]
fn pods_of_an_old_template_are_replaced_as_new_ones_become_ready() {
    let mut scenario = Scenario::new();
    let newer = WarmPoolState {
        template: "t2",
        ..POOL
    };
    let of_newer = |name: &str, is_ready| Pod {
        template: "t2".to_owned(),
        is_ready,
        ..pod(name)
    };
    let (a, b) = (pod("a"), pod("b"));
    let starting = Pod {
        is_ready: false,
        ..pod("c")
    };
    let pods = [a.clone(), b.clone()];
    assert_eq!(scenario.plan(newer, &[], &pods), [create("1")]);
    scenario.stock.created(&"1".into());
    let pods = [a.clone(), b.clone(), of_newer("1", false)];
    assert_eq!(scenario.plan(newer, &[], &pods), []);
    let pods = [a, b.clone(), of_newer("1", true)];
    assert_eq!(scenario.plan(newer, &[], &pods), [delete("a")]);
    scenario.stock.deleted(&"uid-a".into());
    assert_eq!(scenario.plan(newer, &[], &pods), [create("2")]);
    let pods = [b, starting, of_newer("1", true), of_newer("2", true)];
    assert_eq!(scenario.plan(newer, &[], &pods), [delete("b"), delete("c")]);
}

#[test]
fn surplus_pods_are_deleted_unready_ones_first_but_not_before_all_gateways_have_reported() {
    let mut scenario = Scenario::new();
    let starting = Pod {
        is_ready: false,
        ..pod("b")
    };
    let pods = [pod("a"), starting, pod("c")];
    let unreported = WarmPoolState {
        may_delete: false,
        ..POOL
    };
    assert_eq!(scenario.plan(unreported, &[], &pods), []);
    assert_eq!(scenario.plan(POOL, &[], &pods), [delete("b")]);
    scenario.stock.not_deleted(scenario.now, &"uid-b".into());
    assert_eq!(
        scenario.plan(POOL, &[], &pods),
        [],
        "it is retried after a pause"
    );
    scenario.now += RETRY_PAUSE;
    assert_eq!(scenario.plan(POOL, &[], &pods), [delete("b")]);
}

#[test]
fn a_creation_without_an_answer_is_repeated_under_its_name() {
    let mut scenario = Scenario::new();
    let one = WarmPoolState {
        size: 1,
        max: 1,
        ..POOL
    };
    assert_eq!(scenario.plan(one, &[], &[]), [create("1")]);
    scenario.stock.unanswered(scenario.now, &"1".into());
    assert_eq!(scenario.plan(one, &[], &[]), []);
    scenario.now += Duration::from_secs(1);
    assert_eq!(scenario.plan(one, &[], &[]), [create("1")]);
    scenario.stock.refused(scenario.now, &"1".into());
    scenario.now += Duration::from_secs(2);
    assert_eq!(
        scenario.plan(one, &[], &[]),
        [create("1")],
        "the first attempt may have made it"
    );
}

#[test]
fn a_refused_creation_is_retried_at_a_bounded_pace_one_at_a_time() {
    let mut scenario = Scenario::new();
    scenario.plan(POOL, &[], &[]);
    scenario.stock.refused(scenario.now, &"1".into());
    scenario.stock.refused(scenario.now, &"2".into());
    assert_eq!(scenario.plan(POOL, &[], &[]), []);
    scenario.now = scenario.stock.next_wakeup().expect("a pause");
    assert_eq!(scenario.plan(POOL, &[], &[]), [create("3")]);
    scenario.stock.created(&"3".into());
    assert_eq!(scenario.plan(POOL, &[], &[]), [create("4")]);
}

#[test]
fn an_accepted_pod_that_is_missing_from_a_later_list_is_gone() {
    let mut scenario = Scenario::new();
    scenario.plan(POOL, &[], &[]);
    scenario.stock.created(&"1".into());
    scenario.stock.list_begins();
    scenario.stock.created(&"2".into());
    scenario.stock.list_ends(|_| false);
    assert_eq!(scenario.plan(POOL, &[], &[]), [create("3")]);
}

#[test]
fn creations_stop_when_too_many_pods_end_unclaimed() {
    let mut scenario = Scenario::new();
    let over = |name: &PodName| Pod {
        is_over: true,
        ..pod(name.as_str())
    };
    for _ in 0..ENDED_LIMIT {
        let steps = scenario.plan(
            WarmPoolState {
                size: 1,
                max: 1,
                ..POOL
            },
            &[],
            &[],
        );
        let [Step::Create { name }] = &steps[..] else {
            panic!("{steps:?}");
        };
        scenario.stock.created(name);
        let known = WarmPoolState {
            size: 1,
            max: 1,
            may_create: false,
            ..POOL
        };
        scenario.plan(known, &[], &[over(name)]);
    }
    assert!(scenario.stock.is_halted());
    assert_eq!(scenario.plan(POOL, &[], &[]), []);
    scenario.now = scenario.stock.next_wakeup().expect("an end of it");
    assert_eq!(scenario.plan(POOL, &[], &[]).len(), 2);
}

#[test]
fn the_number_of_creations_in_flight_is_bounded() {
    let mut scenario = Scenario::new();
    let many = WarmPoolState {
        size: 100,
        max: 100,
        ..POOL
    };
    assert_eq!(scenario.plan(many, &[], &[]).len(), CREATIONS_IN_FLIGHT_MAX);
    assert_eq!(scenario.plan(many, &[], &[]).len(), 0);
    scenario.stock.created(&"1".into());
    assert_eq!(scenario.plan(many, &[], &[]).len(), 1);
}

/// A pod at the API server.
#[derive(Clone)]
struct Real {
    pod: Pod,
    is_claimed: bool,
    /// The controller has given it the labels of a function.
    is_taken: bool,
}

enum Request {
    Create { name: PodName, template: String },
    Delete { name: PodName, uid: Uid },
}

/// An API server, a watch of it that lags, gateways that claim, and a controller.
struct World {
    /// Shown with a failure; `SEED` replays it.
    seed: u64,
    random: fastrand::Rng,
    now: Instant,
    stock: Stock,
    server: BTreeMap<PodName, Real>,
    names_made: BTreeSet<PodName>,
    shown: BTreeMap<PodName, Pod>,
    /// Changes that the watch has not shown; `None`: the pod is gone, or adopted.
    events: VecDeque<(PodName, Option<Pod>)>,
    requests: Vec<Request>,
    demand: BTreeMap<Uid, ClaimedPod>,
    size: usize,
    max: usize,
    template: usize,
    names: usize,
    is_quiet: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let size = random.usize(0..8);
        World {
            seed,
            now: Instant::now(),
            stock: Stock::default(),
            server: BTreeMap::new(),
            names_made: BTreeSet::new(),
            shown: BTreeMap::new(),
            events: VecDeque::new(),
            requests: Vec::new(),
            demand: BTreeMap::new(),
            size,
            max: size + if random.bool() { random.usize(0..8) } else { 0 },
            template: 0,
            names: 0,
            is_quiet: false,
            random,
        }
    }

    fn settle(&mut self) {
        let template = format!("t{}", self.template);
        let known = WarmPoolState {
            size: self.size,
            max: self.max,
            template: &template,
            may_create: true,
            may_delete: true,
        };
        let pods: Vec<Pod> = self.shown.values().cloned().collect();
        let name = || {
            self.names += 1;
            self.names.to_string().into()
        };
        let claims = self.demand.values();
        for step in self.stock.plan(self.now, known, claims, &pods, name) {
            self.requests.push(match step {
                Step::Create { name } => Request::Create {
                    name,
                    template: template.clone(),
                },
                Step::Delete { pod: name, uid } => Request::Delete { name, uid },
            });
        }
    }

    fn unclaimed(&self) -> usize {
        let all = self.server.values();
        all.filter(|real| !real.is_claimed && !real.pod.is_over)
            .count()
    }

    fn serve(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let request = self
            .requests
            .remove(self.random.usize(..self.requests.len()));
        let luck = if self.is_quiet {
            9
        } else {
            self.random.u8(..10)
        };
        match request {
            Request::Create { name, .. } if luck == 0 => self.stock.refused(self.now, &name),
            Request::Create { name, .. } if luck == 1 => self.stock.unanswered(self.now, &name),
            Request::Create { name, template } => {
                self.make(&name, template);
                match luck {
                    2 => self.stock.unanswered(self.now, &name),
                    _ => self.stock.created(&name),
                }
            }
            Request::Delete { uid, .. } if luck == 0 => self.stock.not_deleted(self.now, &uid),
            Request::Delete { name, uid } => {
                if self
                    .server
                    .get(&name)
                    .is_some_and(|real| real.pod.uid == uid)
                {
                    self.server.remove(&name);
                    self.events.push_back((name, None));
                }
                match luck {
                    1 => self.stock.not_deleted(self.now, &uid),
                    _ => self.stock.deleted(&uid),
                }
            }
        }
        self.settle();
    }

    fn make(&mut self, name: &PodName, template: String) {
        if self.server.contains_key(name) {
            return;
        }
        let seed = self.seed;
        assert!(
            self.names_made.insert(name.clone()),
            "SEED={seed}: {name} twice"
        );
        let new = Pod {
            template,
            is_ready: false,
            ..pod(name.as_str())
        };
        self.events.push_back((name.clone(), Some(new.clone())));
        let real = Real {
            pod: new,
            is_claimed: false,
            is_taken: false,
        };
        self.server.insert(name.clone(), real);
        let surge = if self.template > 0 {
            surge(self.max)
        } else {
            0
        };
        let bound = self.max + surge;
        let there = self.unclaimed();
        assert!(there <= bound, "SEED={seed}: {there} > {bound}");
    }

    /// A random pod that matches, if there is one.
    fn some(&mut self, is_match: impl Fn(&Real) -> bool) -> Option<&mut Real> {
        let fitting: Vec<_> = self
            .server
            .values_mut()
            .filter(|real| is_match(real))
            .collect();
        let at = self.random.usize(..fitting.len().max(1));
        fitting.into_iter().nth(at)
    }

    fn come_up(&mut self, is_over: bool) {
        let changed = self.some(|real| !real.pod.is_ready && !real.pod.is_over && !real.is_taken);
        if let Some(real) = changed {
            real.pod.is_ready = !is_over;
            real.pod.is_over = is_over;
            let event = (real.pod.name.clone(), Some(real.pod.clone()));
            self.events.push_back(event);
        }
    }

    fn claim(&mut self) {
        let claimed = self.some(|real| real.pod.is_ready && !real.is_claimed && !real.pod.is_over);
        if let Some(real) = claimed {
            real.is_claimed = true;
            let pod = claim(real.pod.name.as_str());
            self.demand.insert(pod.uid.clone(), pod);
            self.settle();
        }
    }

    /// A claimed pod is adopted, or its gateway gives it up before that.
    fn end_claim(&mut self, is_taken: bool) {
        let uids: Vec<Uid> = self.demand.keys().cloned().collect();
        if uids.is_empty() {
            return;
        }
        let uid = &uids[self.random.usize(..uids.len())];
        let pod = self.demand.remove(uid).expect("it is one of them");
        if is_taken && let Some(real) = self.server.get_mut(&pod.name) {
            real.is_taken = true;
            self.events.push_back((pod.name, None));
        }
        self.settle();
    }

    fn show(&mut self) {
        match self.events.pop_front() {
            Some((name, Some(pod))) => drop(self.shown.insert(name, pod)),
            Some((name, None)) => drop(self.shown.remove(&name)),
            None => return,
        }
        self.settle();
    }

    fn list(&mut self) {
        self.stock.list_begins();
        self.events.clear();
        let all = self.server.iter().filter(|(_, real)| !real.is_taken);
        self.shown = all
            .map(|(name, real)| (name.clone(), real.pod.clone()))
            .collect();
        self.stock.list_ends(|name| self.shown.contains_key(name));
        self.settle();
    }

    fn restart(&mut self) {
        self.requests.clear();
        self.stock = Stock::default();
        self.list();
    }

    fn step(&mut self) {
        match self.random.u8(..100) {
            0..40 => self.serve(),
            40..60 => self.show(),
            60..75 => self.come_up(false),
            75 => self.come_up(true),
            76..84 => self.claim(),
            84..88 => self.end_claim(true),
            88 => self.end_claim(false),
            89 => self.list(),
            90 if self.random.bool() => self.restart(),
            91 if self.random.bool() => {
                self.template += 1;
                self.settle();
            }
            _ => {
                self.now += Duration::from_millis(self.random.u64(0..3000));
                self.settle();
            }
        }
    }

    /// From now on only the controller acts.
    fn settle_down(&mut self) {
        self.is_quiet = true;
        while !self.demand.is_empty() {
            self.end_claim(true);
        }
        for _ in 0..400 {
            while !self.requests.is_empty() || !self.events.is_empty() {
                self.serve();
                self.show();
            }
            while self
                .some(|real| !real.pod.is_ready && !real.pod.is_over)
                .is_some()
            {
                self.come_up(false);
            }
            self.now += Duration::from_secs(1);
            self.settle();
        }
    }
}

#[test]
fn in_every_world_pods_never_exceed_the_bound_and_finally_match_the_target() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..500).collect(),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        world.settle();
        for _ in 0..1000 {
            world.step();
        }
        world.settle_down();
        let left: Vec<&Real> = world
            .server
            .values()
            .filter(|real| !real.is_taken)
            .collect();
        assert_eq!(
            left.len(),
            world.size,
            "SEED={seed}: all other pods are gone"
        );
        let template = format!("t{}", world.template);
        let is_good = |real: &&Real| real.pod.is_ready && real.pod.template == template;
        assert!(
            left.iter().all(is_good),
            "SEED={seed}: each pod is of the newest template and ready"
        );
        assert_eq!(world.stock.count().ready, world.size, "SEED={seed}");
    }
}
