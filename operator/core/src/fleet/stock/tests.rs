//! One pool's pods, played by the tests; and many seeded worlds whose watch lags at will.

use super::*;

const OF: Known<'static> = Known {
    size: 2,
    max: 2,
    template: "t1",
    may_create: true,
    may_delete: true,
};

fn pod(name: &str) -> Pod {
    Pod {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        template: "t1".to_owned(),
        is_ready: true,
        is_over: false,
        is_being_deleted: false,
    }
}

fn claim(name: &str) -> ClaimedPod {
    ClaimedPod {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        revision: "r1".to_owned(),
    }
}

fn create(name: &str) -> Step {
    Step::Create {
        name: name.to_owned(),
    }
}

fn delete(name: &str) -> Step {
    let (pod, uid) = (name.to_owned(), format!("uid-{name}"));
    Step::Delete { pod, uid }
}

/// A stock, its clock, and names: `1`, `2` and so on.
struct Played {
    stock: Stock,
    now: Instant,
    names: usize,
}

impl Played {
    fn new() -> Self {
        Played {
            stock: Stock::default(),
            now: Instant::now(),
            names: 0,
        }
    }

    fn plan(&mut self, known: Known<'_>, claims: &[&str], pods: &[Pod]) -> Vec<Step> {
        let claims: Vec<ClaimedPod> = claims.iter().map(|name| claim(name)).collect();
        let name = || {
            self.names += 1;
            self.names.to_string()
        };
        self.stock.plan(self.now, known, claims.iter(), pods, name)
    }
}

#[test]
fn it_is_filled_once_however_far_the_watch_lags() {
    let mut played = Played::new();
    assert_eq!(played.plan(OF, &[], &[]), [create("1"), create("2")]);
    played.stock.created("1");
    played.stock.created("2");
    played.now += Duration::from_secs(3600);
    assert_eq!(played.plan(OF, &[], &[]), []);
    assert_eq!(played.plan(OF, &[], &[pod("1")]), []);
    assert_eq!(played.plan(OF, &[], &[pod("1"), pod("2")]), []);
    assert_eq!(played.stock.count().ready, 2);
    assert_eq!(
        played.plan(OF, &[], &[pod("1")]),
        [create("3")],
        "one was deleted"
    );
}

#[test]
fn a_claimed_pod_is_replaced_at_once_whether_it_was_shown_or_not() {
    let mut played = Played::new();
    played.plan(OF, &[], &[]);
    played.stock.created("1");
    played.stock.created("2");
    assert_eq!(played.plan(OF, &["2"], &[pod("1")]), [create("3")]);
    assert_eq!(played.plan(OF, &["1", "2"], &[pod("1")]), [create("4")]);
    assert_eq!(played.stock.claims(), 2);
    assert_eq!(
        played.plan(OF, &["1", "2"], &[pod("1"), pod("2")]),
        [],
        "a claim counts once"
    );
    assert_eq!(played.stock.claims(), 2);
    assert_eq!(played.stock.count().claimed, 2);
}

#[test]
fn claims_of_late_raise_what_is_kept_up_to_the_maximum() {
    let mut played = Played::new();
    let known = Known { max: 4, ..OF };
    let pods: Vec<Pod> = ["a", "b", "c", "d", "e"].map(pod).into();
    played.plan(known, &["a", "b", "c", "d", "e"], &pods);
    assert_eq!(played.stock.count().wanted, 4);
    played.now += WINDOW;
    played.plan(known, &[], &[]);
    assert_eq!(played.stock.count().wanted, 2);
}

#[test]
fn a_claimed_pod_that_nobody_names_is_deleted_after_a_while_and_never_offered_again() {
    let mut played = Played::new();
    let known = Known {
        size: 1,
        max: 1,
        ..OF
    };
    let pods = [pod("a"), pod("b")];
    played.plan(known, &["a"], &pods);
    assert_eq!(played.plan(known, &[], &pods), []);
    assert_eq!(played.stock.next_wakeup(), Some(played.now + GRACE));
    played.now += GRACE;
    let unheard = Known {
        may_delete: false,
        ..known
    };
    assert_eq!(played.plan(unheard, &[], &pods), []);
    assert_eq!(
        played.stock.next_wakeup(),
        None,
        "it waits for the gateways"
    );
    assert_eq!(played.plan(known, &[], &pods), [delete("a")]);
    assert_eq!(played.plan(known, &[], &pods), []);
}

#[test]
fn an_old_template_is_replaced_as_new_ones_are_ready() {
    let mut played = Played::new();
    let newer = Known {
        template: "t2",
        ..OF
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
    assert_eq!(played.plan(newer, &[], &pods), [create("1")]);
    played.stock.created("1");
    let pods = [a.clone(), b.clone(), of_newer("1", false)];
    assert_eq!(played.plan(newer, &[], &pods), []);
    let pods = [a, b.clone(), of_newer("1", true)];
    assert_eq!(played.plan(newer, &[], &pods), [delete("a")]);
    played.stock.deleted("uid-a");
    assert_eq!(played.plan(newer, &[], &pods), [create("2")]);
    let pods = [b, starting, of_newer("1", true), of_newer("2", true)];
    assert_eq!(played.plan(newer, &[], &pods), [delete("b"), delete("c")]);
}

#[test]
fn what_is_too_much_goes_the_unready_first_but_not_before_all_gateways_were_heard() {
    let mut played = Played::new();
    let starting = Pod {
        is_ready: false,
        ..pod("b")
    };
    let pods = [pod("a"), starting, pod("c")];
    let unheard = Known {
        may_delete: false,
        ..OF
    };
    assert_eq!(played.plan(unheard, &[], &pods), []);
    assert_eq!(played.plan(OF, &[], &pods), [delete("b")]);
    played.stock.not_deleted(played.now, "uid-b");
    assert_eq!(played.plan(OF, &[], &pods), [], "not at once");
    played.now += PAUSE;
    assert_eq!(played.plan(OF, &[], &pods), [delete("b")]);
}

#[test]
fn a_creation_without_an_answer_is_made_again_under_its_name() {
    let mut played = Played::new();
    let one = Known {
        size: 1,
        max: 1,
        ..OF
    };
    assert_eq!(played.plan(one, &[], &[]), [create("1")]);
    played.stock.unanswered(played.now, "1");
    assert_eq!(played.plan(one, &[], &[]), []);
    played.now += Duration::from_secs(1);
    assert_eq!(played.plan(one, &[], &[]), [create("1")]);
    played.stock.refused(played.now, "1");
    played.now += Duration::from_secs(2);
    assert_eq!(
        played.plan(one, &[], &[]),
        [create("1")],
        "the first attempt may have made it"
    );
}

#[test]
fn a_refused_creation_is_tried_again_at_a_bounded_pace_one_at_a_time() {
    let mut played = Played::new();
    played.plan(OF, &[], &[]);
    played.stock.refused(played.now, "1");
    played.stock.refused(played.now, "2");
    assert_eq!(played.plan(OF, &[], &[]), []);
    played.now = played.stock.next_wakeup().expect("a pause");
    assert_eq!(played.plan(OF, &[], &[]), [create("3")]);
    played.stock.created("3");
    assert_eq!(played.plan(OF, &[], &[]), [create("4")]);
}

#[test]
fn what_was_made_and_is_on_no_list_that_began_later_is_gone() {
    let mut played = Played::new();
    played.plan(OF, &[], &[]);
    played.stock.created("1");
    played.stock.list_begins();
    played.stock.created("2");
    played.stock.list_ends(|_| false);
    assert_eq!(played.plan(OF, &[], &[]), [create("3")]);
}

#[test]
fn pods_that_end_at_once_are_not_made_without_end() {
    let mut played = Played::new();
    let over = |name: String| Pod {
        is_over: true,
        ..pod(&name)
    };
    for _ in 0..ENDED_LIMIT {
        let steps = played.plan(
            Known {
                size: 1,
                max: 1,
                ..OF
            },
            &[],
            &[],
        );
        let [Step::Create { name }] = &steps[..] else {
            panic!("{steps:?}");
        };
        played.stock.created(name);
        let known = Known {
            size: 1,
            max: 1,
            may_create: false,
            ..OF
        };
        played.plan(known, &[], &[over(name.clone())]);
    }
    assert!(played.stock.is_halted());
    assert_eq!(played.plan(OF, &[], &[]), []);
    played.now = played.stock.next_wakeup().expect("an end of it");
    assert_eq!(played.plan(OF, &[], &[]).len(), 2);
}

#[test]
fn few_creations_are_under_way_at_a_time() {
    let mut played = Played::new();
    let many = Known {
        size: 100,
        max: 100,
        ..OF
    };
    assert_eq!(played.plan(many, &[], &[]).len(), IN_FLIGHT);
    assert_eq!(played.plan(many, &[], &[]).len(), 0);
    played.stock.created("1");
    assert_eq!(played.plan(many, &[], &[]).len(), 1);
}

/// A pod at the API server.
#[derive(Clone)]
struct Real {
    pod: Pod,
    is_claimed: bool,
    /// It is a function's by now.
    is_taken: bool,
}

enum Request {
    Create { name: String, template: String },
    Delete { name: String, uid: String },
}

/// An API server, a watch of it that lags, gateways that claim, and a controller.
struct World {
    /// Shown with what is wrong: `SEED` plays it again.
    seed: u64,
    random: fastrand::Rng,
    now: Instant,
    stock: Stock,
    server: BTreeMap<String, Real>,
    names_made: BTreeSet<String>,
    shown: BTreeMap<String, Pod>,
    /// Not shown yet; `None`: it is gone, or a function's.
    events: VecDeque<(String, Option<Pod>)>,
    requests: Vec<Request>,
    demand: BTreeMap<String, ClaimedPod>,
    size: usize,
    max: usize,
    template: usize,
    names: usize,
    is_calm: bool,
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
            is_calm: false,
            random,
        }
    }

    fn settle(&mut self) {
        let template = format!("t{}", self.template);
        let known = Known {
            size: self.size,
            max: self.max,
            template: &template,
            may_create: true,
            may_delete: true,
        };
        let pods: Vec<Pod> = self.shown.values().cloned().collect();
        let name = || {
            self.names += 1;
            self.names.to_string()
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
        let luck = if self.is_calm {
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

    fn make(&mut self, name: &str, template: String) {
        if self.server.contains_key(name) {
            return;
        }
        let seed = self.seed;
        assert!(
            self.names_made.insert(name.to_owned()),
            "SEED={seed}: {name} twice"
        );
        let new = Pod {
            template,
            is_ready: false,
            ..pod(name)
        };
        self.events.push_back((name.to_owned(), Some(new.clone())));
        let real = Real {
            pod: new,
            is_claimed: false,
            is_taken: false,
        };
        self.server.insert(name.to_owned(), real);
        let surge = if self.template > 0 {
            surge(self.max)
        } else {
            0
        };
        let bound = self.max + surge;
        let there = self.unclaimed();
        assert!(there <= bound, "SEED={seed}: {there} > {bound}");
    }

    /// One that fits, if there is one.
    fn some(&mut self, fits: impl Fn(&Real) -> bool) -> Option<&mut Real> {
        let fitting: Vec<_> = self.server.values_mut().filter(|real| fits(real)).collect();
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
            let pod = claim(&real.pod.name);
            self.demand.insert(pod.uid.clone(), pod);
            self.settle();
        }
    }

    /// A claimed pod gets its function's labels, or its gateway wants it no more before.
    fn end_claim(&mut self, is_taken: bool) {
        let uids: Vec<String> = self.demand.keys().cloned().collect();
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

    /// Nothing happens any more but what the controller does.
    fn calm_down(&mut self) {
        self.is_calm = true;
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
fn in_every_world_there_are_never_too_many_and_at_last_exactly_as_many_as_there_shall_be() {
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
        world.calm_down();
        let left: Vec<&Real> = world
            .server
            .values()
            .filter(|real| !real.is_taken)
            .collect();
        assert_eq!(left.len(), world.size, "SEED={seed}: all others are gone");
        let template = format!("t{}", world.template);
        let is_good = |real: &&Real| real.pod.is_ready && real.pod.template == template;
        assert!(
            left.iter().all(is_good),
            "SEED={seed}: each is new and ready"
        );
        assert_eq!(world.stock.count().ready, world.size, "SEED={seed}");
    }
}
