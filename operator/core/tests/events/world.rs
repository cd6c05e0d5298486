//! The gateways, their functions and destinations, and everything that happens to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use pilotlight_core::events::delivery::{AfterDelivery, AfterEnd, DELIVERY_LIMIT, Delivery};
use pilotlight_core::events::dispatch::Dispatch;
use pilotlight_core::events::retry::{Attempt, EventEnd, EventPolicy, EventTime, Next, Progress};

use crate::faults::Fault;
use crate::oracle::{Last, Oracle, Summary};
use crate::queue::{Queue, Stored};

const START: EventTime = EventTime(1_800_000_000_000);
const ARRIVALS: u64 = 60;
/// Within this time events arrive and things break.
const TROUBLE: Duration = Duration::from_secs(7200);
/// By then every event has ended: the oldest age, and the longest delivery.
const END: Duration = Duration::from_secs(86_400);
const LOOK: Duration = Duration::from_secs(10);
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Gateway {
    is_up: bool,
    /// A number that no other process has had.
    life: u64,
    dispatch: Dispatch<usize>,
    /// The next time at which it looks by itself.
    wakes: Option<EventTime>,
}

#[derive(Debug)]
struct Function {
    policy: EventPolicy,
    most: usize,
    /// Percent of the attempts.
    fails: u64,
    refuses: u64,
    reserved: Option<u32>,
    on_success: bool,
    on_failure: bool,
    /// The destination answers nothing, or takes no record.
    is_down: bool,
    refuses_records: bool,
    owner: usize,
    /// Grows with each change of the owner.
    term: u64,
    /// How many events of this term run.
    running: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives,
    Wakes(usize),
    Looks(usize),
    Redelivers,
    /// With the term of the function in which it began, if it began.
    AttemptEnds(Who, Option<u64>, Tried),
    Ends(Who, Ended),
    DeliveryEnds(Who),
    DeliverySettles(Who, Sent),
    GatewayEnds,
    GatewayComes(usize),
    OwnerChanges,
    QueueChanges(bool),
    DestinationChanges(usize),
    Heals,
}

/// An event, and the process that has taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    event: u64,
    gateway: usize,
    life: u64,
}

/// As numbers, so that happenings have an order.
type Tried = u8;
type Ended = u8;
type Sent = u8;
const TRIED: [Attempt; 3] = [Attempt::Succeeded, Attempt::Failed, Attempt::NotBegun];
const SENT: [Delivery; 3] = [Delivery::Delivered, Delivery::Failed, Delivery::Refused];

#[derive(Debug)]
pub(crate) struct World {
    now: EventTime,
    random: fastrand::Rng,
    fault: Option<Fault>,
    queue: Queue,
    gateways: Vec<Gateway>,
    functions: Vec<Function>,
    plan: BinaryHeap<Reverse<(EventTime, u64, Happening)>>,
    planned: u64,
    events: u64,
    lives: u64,
    oracle: Oracle,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let gateways = random.usize(2..4);
        let functions = (0..3).map(|_| Function {
            policy: EventPolicy {
                max_age: Duration::from_secs(random.u64(60..3600)),
                retries: random.u8(0..3),
            },
            most: random.usize(1..5),
            fails: random.u64(0..90),
            refuses: random.u64(0..50),
            reserved: None,
            on_success: random.bool(),
            on_failure: random.bool(),
            is_down: false,
            refuses_records: false,
            owner: random.usize(0..gateways),
            term: 0,
            running: 0,
        });
        let functions = functions.collect();
        let mut world = World {
            now: START,
            random,
            fault,
            queue: Queue::default(),
            gateways: Vec::new(),
            functions,
            plan: BinaryHeap::new(),
            planned: 0,
            events: 0,
            lives: 0,
            oracle: Oracle::default(),
        };
        for number in 0..gateways {
            let gateway = world.started();
            world.gateways.push(gateway);
            world.after(LOOK, Happening::Looks(number));
        }
        world.after(LOOK, Happening::Redelivers);
        world.after(TROUBLE, Happening::Heals);
        for _ in 0..ARRIVALS {
            world.sometime(Happening::Arrives);
        }
        for _ in 0..6 {
            world.sometime(Happening::GatewayEnds);
            world.sometime(Happening::OwnerChanges);
            world.sometime(Happening::QueueChanges(true));
            let function = world.random.usize(0..3);
            world.sometime(Happening::DestinationChanges(function));
        }
        world
    }

    fn started(&mut self) -> Gateway {
        self.lives += 1;
        Gateway {
            is_up: true,
            life: self.lives,
            dispatch: Dispatch::new(8),
            wakes: None,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn after(&mut self, pause: Duration, happening: Happening) {
        self.planned += 1;
        let at = self.now.after(pause);
        self.plan.push(Reverse((at, self.planned, happening)));
    }

    fn sometime(&mut self, happening: Happening) {
        let pause = Duration::from_millis(self.random.u64(0..TROUBLE.as_millis() as u64));
        self.after(pause, happening);
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.random.u64(0..100) < percent
    }

    pub(crate) fn run(mut self) -> (Summary, Vec<String>) {
        let (healed, end) = (START.after(TROUBLE), START.after(END));
        while let Some(Reverse((at, _, happening))) = self.plan.pop() {
            let is_over = self.queue.events.is_empty() && self.now > healed;
            if is_over || at > end || !self.oracle.findings.is_empty() {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        self.oracle.at_the_end();
        (self.oracle.summary, self.oracle.findings)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives => self.arrives(),
            Happening::Wakes(gateway) => self.pump(gateway),
            Happening::Looks(gateway) => {
                self.look(gateway);
                self.after(LOOK, happening);
            }
            Happening::Redelivers => {
                for (_, event) in self.queue.redeliver(self.now) {
                    self.oracle.redelivered(event);
                }
                self.after(LOOK / 2, happening);
            }
            Happening::AttemptEnds(who, term, tried) => self.attempt_ends(who, term, tried),
            Happening::Ends(who, end) => self.ends(who, EventEnd::ALL[usize::from(end)], None),
            Happening::DeliveryEnds(who) => self.delivery_ends(who),
            Happening::DeliverySettles(who, sent) => self.delivery_settles(who, sent),
            Happening::GatewayEnds => self.gateway_ends(),
            Happening::GatewayComes(number) => {
                self.gateways[number] = self.started();
                self.look(number);
            }
            Happening::OwnerChanges => {
                let function = self.random.usize(0..self.functions.len());
                self.hand_over(function);
            }
            Happening::QueueChanges(is_away) => {
                self.queue.is_away = is_away;
                if is_away {
                    self.oracle.summary.count("queue away");
                    let pause = Duration::from_secs(self.random.u64(1..120));
                    self.after(pause, Happening::QueueChanges(false));
                }
            }
            Happening::DestinationChanges(function) => {
                let is_refusing = self.percent(30);
                let known = &mut self.functions[function];
                (known.is_down, known.refuses_records) = (!known.is_down, is_refusing);
                known.reserved = (known.reserved.is_none() && is_refusing).then_some(0);
            }
            Happening::Heals => self.heals(),
        }
    }

    fn heals(&mut self) {
        self.queue.is_away = false;
        let never_again = self.random.usize(0..self.functions.len());
        for (number, function) in self.functions.iter_mut().enumerate() {
            // One destination stays down, so that its records are given up.
            function.is_down &= number == never_again;
            (function.refuses_records, function.reserved) = (false, None);
        }
    }

    fn arrives(&mut self) {
        if self.queue.is_away {
            self.oracle.summary.count("refused");
            return;
        }
        self.events += 1;
        let (event, now) = (self.events, self.now);
        let function = self.random.usize(0..self.functions.len());
        let EventPolicy { max_age, retries } = self.functions[function].policy;
        self.oracle.accepted(event, now, max_age, retries);
        if self.has(Fault::AcceptedUnstored) && self.percent(5) {
            return;
        }
        let stored = Stored {
            function,
            progress: Progress::new(now),
            outcome: None,
            due: now,
            taken: None,
        };
        self.queue.events.insert(event, stored);
        for gateway in 0..self.gateways.len() {
            // A ring may be missed.
            if self.takes(gateway, function) && !self.percent(20) {
                self.waits(gateway, function, now);
                self.pump(gateway);
            }
        }
    }

    /// Whether this gateway takes the function's events.
    fn takes(&self, gateway: usize, function: usize) -> bool {
        let owns = self.functions[function].owner == gateway;
        self.gateways[gateway].is_up && (owns || self.has(Fault::OwnerIgnored))
    }

    fn waits(&mut self, gateway: usize, function: usize, due: EventTime) {
        let most = self.functions[function].most;
        self.gateways[gateway].dispatch.waits(&function, due, most);
    }

    fn look(&mut self, gateway: usize) {
        if self.queue.is_away || self.has(Fault::NeverLooks) {
            return;
        }
        for function in 0..self.functions.len() {
            if let Some(due) = self.queue.due(function)
                && self.takes(gateway, function)
            {
                self.waits(gateway, function, due);
            }
        }
        self.pump(gateway);
    }

    /// Begins what can begin.
    fn pump(&mut self, number: usize) {
        if !self.gateways[number].is_up {
            return;
        }
        let now = self.now;
        while let Some((function, count)) = self.gateways[number].dispatch.next(now) {
            let (taken, due) = if !self.takes(number, function) {
                (Vec::new(), None)
            } else if self.queue.is_away {
                (Vec::new(), Some(now.after(QUEUE_PAUSE)))
            } else {
                let life = self.gateways[number].life;
                self.queue.take(function, now, count, life)
            };
            let dispatch = &mut self.gateways[number].dispatch;
            dispatch.taken(&function, taken.len(), due);
            for event in taken {
                self.begins(Who {
                    event,
                    gateway: number,
                    life: self.gateways[number].life,
                });
            }
        }
        let gateway = &mut self.gateways[number];
        if let Some(due) = gateway.dispatch.next_wakeup() {
            let due = due.max(now.after(Duration::from_millis(1)));
            if gateway
                .wakes
                .is_none_or(|known| due < known || known <= now)
            {
                gateway.wakes = Some(due);
                self.after(due.since(now), Happening::Wakes(number));
            }
        }
    }

    fn begins(&mut self, who: Who) {
        let stored = self.queue.events[&who.event].clone();
        let function = &self.functions[stored.function];
        let (most, fails, refuses) = (function.most, function.fails, function.refuses);
        if stored.outcome.is_some() {
            self.slot_is_free(who, stored.function, true, None);
            self.sends(who);
            return;
        }
        let end = stored
            .progress
            .before(self.now, &function.policy, function.reserved);
        let is_ignored = end == Some(EventEnd::EventAgeExceeded) && self.has(Fault::AgeIgnored);
        if let Some(end) = end.filter(|_| !is_ignored) {
            self.ends(who, end, Some(false));
            return;
        }
        if self.percent(refuses) {
            let pause = Duration::from_millis(10);
            self.after(pause, Happening::AttemptEnds(who, None, 2));
            return;
        }
        let function = &mut self.functions[stored.function];
        function.running += 1;
        let (term, running) = (function.term, function.running);
        self.oracle.begins(who.event, self.now, (running, most));
        let tried = u8::from(self.percent(fails));
        let longest = if self.percent(10) { 300_000 } else { 5000 };
        let pause = Duration::from_millis(self.random.u64(1..longest));
        self.after(pause, Happening::AttemptEnds(who, Some(term), tried));
    }

    /// Whether the process is there that has taken the event.
    fn is_there(&self, who: Who) -> bool {
        let gateway = &self.gateways[who.gateway];
        gateway.is_up && gateway.life == who.life
    }

    fn attempt_ends(&mut self, who: Who, term: Option<u64>, tried: Tried) {
        let Some(stored) = self.queue.events.get(&who.event).cloned() else {
            return;
        };
        let function = &mut self.functions[stored.function];
        let policy = function.policy;
        if term == Some(function.term) {
            function.running -= 1;
        }
        if !self.is_there(who) {
            return;
        }
        if self.queue.is_away {
            // What is to be recorded stays the same.
            self.after(QUEUE_PAUSE, Happening::AttemptEnds(who, None, tried));
            return;
        }
        let attempt = TRIED[usize::from(tried)];
        let random = self.random.u32(..);
        let mut progress = stored.progress;
        match progress.after(attempt, self.now, &policy, random) {
            Next::Again(due) => {
                match attempt {
                    Attempt::Failed => self.oracle.failed(who.event, self.now),
                    _ => self.oracle.summary.count("not begun"),
                }
                if self.has(Fault::FailuresForgotten) {
                    progress.failures = stored.progress.failures;
                }
                let is_hasty = self.has(Fault::NoPause) && attempt == Attempt::Failed;
                let due = if is_hasty { self.now } else { due };
                self.again(who, progress, due);
                let has_begun = attempt != Attempt::NotBegun;
                self.slot_is_free(who, stored.function, has_begun, Some(due));
            }
            Next::End(end) => self.ends(who, end, Some(true)),
        }
    }

    fn again(&mut self, who: Who, progress: Progress, due: EventTime) {
        if let Some(event) = self.queue.events.get_mut(&who.event) {
            (event.progress, event.due, event.taken) = (progress, due, None);
        }
    }

    fn slot_is_free(&mut self, who: Who, function: usize, has_begun: bool, due: Option<EventTime>) {
        if let Some(due) = due {
            self.waits(who.gateway, function, due);
        }
        let dispatch = &mut self.gateways[who.gateway].dispatch;
        dispatch.ended(&function, has_begun);
        self.after(Duration::ZERO, Happening::Wakes(who.gateway));
    }

    /// `has_begun`: whether the function ran. `None`: this was asked before, when the queue was away.
    fn ends(&mut self, who: Who, end: EventEnd, has_begun: Option<bool>) {
        let Some(stored) = self.queue.events.get(&who.event).cloned() else {
            return;
        };
        if !self.is_there(who) {
            return;
        }
        if let Some(has_begun) = has_begun {
            self.slot_is_free(who, stored.function, has_begun, None);
        }
        if self.queue.is_away {
            let place = EventEnd::ALL.iter().position(|one| *one == end);
            let place = place.expect("it is one of all") as u8;
            self.after(QUEUE_PAUSE, Happening::Ends(who, place));
            return;
        }
        self.oracle.ended(who.event, end);
        match end.then(self.has_destination(stored.function, end)) {
            AfterEnd::Gone => self.is_gone(who.event, Last::Answered, false),
            AfterEnd::Dead if self.has(Fault::NoDeadLetter) => {
                self.is_gone(who.event, Last::Answered, false);
            }
            AfterEnd::Dead => self.is_gone(who.event, Last::Dead, false),
            AfterEnd::Deliver => {
                let is_stored = !self.has(Fault::EndNotStored);
                let now = self.now;
                if let Some(event) = self.queue.events.get_mut(&who.event)
                    && is_stored
                {
                    event.progress = event.progress.to_deliver();
                    event.outcome = Some((end, now));
                }
                self.sends(who);
                if self.has(Fault::GoneBeforeDelivery) {
                    self.is_gone(who.event, Last::Delivered, false);
                }
            }
        }
    }

    fn has_destination(&self, function: usize, end: EventEnd) -> bool {
        let function = &self.functions[function];
        match end {
            EventEnd::Success => function.on_success,
            _ => function.on_failure,
        }
    }

    fn is_gone(&mut self, event: u64, last: Last, may_give_up: bool) {
        self.queue.events.remove(&event);
        self.oracle.last(event, last, may_give_up);
    }

    fn sends(&mut self, who: Who) {
        let pause = Duration::from_millis(self.random.u64(1..10_000));
        self.after(pause, Happening::DeliveryEnds(who));
    }

    fn delivery_ends(&mut self, who: Who) {
        let Some(stored) = self.queue.events.get(&who.event) else {
            return;
        };
        if !self.is_there(who) {
            return;
        }
        let function = &self.functions[stored.function];
        let sent = match (function.is_down, function.refuses_records) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        };
        match sent {
            0 => self.oracle.arrived(who.event),
            1 => self.oracle.summary.count("delivery failed"),
            _ => self.oracle.summary.count("delivery refused"),
        }
        self.delivery_settles(who, sent);
    }

    fn delivery_settles(&mut self, who: Who, sent: Sent) {
        let Some(stored) = self.queue.events.get(&who.event).cloned() else {
            return;
        };
        if !self.is_there(who) {
            return;
        }
        if self.queue.is_away {
            self.after(QUEUE_PAUSE, Happening::DeliverySettles(who, sent));
            return;
        }
        let (end, ended) = stored.outcome.unwrap_or((EventEnd::Success, self.now));
        let (delivery, random) = (SENT[usize::from(sent)], self.random.u32(..));
        let mut progress = stored.progress;
        let after = progress.after_delivery(delivery, (end, ended), self.now, random);
        match after {
            AfterDelivery::Delivered => self.is_gone(who.event, Last::Delivered, false),
            AfterDelivery::Again(due) if !self.has(Fault::DeliveryNotRepeated) => {
                self.again(who, progress, due);
                self.waits(who.gateway, stored.function, due);
                self.after(Duration::ZERO, Happening::Wakes(who.gateway));
            }
            AfterDelivery::Again(_) | AfterDelivery::GivenUp { .. } => {
                let is_late = self.now >= ended.after(DELIVERY_LIMIT);
                let may_give_up = is_late || delivery == Delivery::Refused;
                let last = match end {
                    EventEnd::Success => Last::GivenUp,
                    _ => Last::Dead,
                };
                self.is_gone(who.event, last, may_give_up);
            }
        }
    }

    fn gateway_ends(&mut self) {
        let up = self.gateways.iter().enumerate();
        let up: Vec<usize> = up
            .filter(|(_, gateway)| gateway.is_up)
            .map(|(number, _)| number)
            .collect();
        let number = up[self.random.usize(0..up.len())];
        if up.len() == 1 {
            return;
        }
        self.oracle.summary.count("gateway ended");
        self.gateways[number].is_up = false;
        if !self.has(Fault::NotRedelivered) {
            self.queue.is_silent(self.gateways[number].life, self.now);
        }
        for function in 0..self.functions.len() {
            if self.functions[function].owner == number {
                self.hand_over(function);
            }
        }
        let pause = Duration::from_secs(self.random.u64(1..60));
        self.after(pause, Happening::GatewayComes(number));
    }

    /// Another gateway owns the function now, and looks for what waits.
    fn hand_over(&mut self, function: usize) {
        let before = self.functions[function].owner;
        let up = self.gateways.iter().enumerate();
        let others: Vec<usize> = up
            .filter(|(number, gateway)| gateway.is_up && *number != before)
            .map(|(number, _)| number)
            .collect();
        if others.is_empty() {
            return;
        }
        self.oracle.summary.count("owner changed");
        let known = &mut self.functions[function];
        known.owner = others[self.random.usize(0..others.len())];
        known.term += 1;
        known.running = 0;
        let owner = known.owner;
        self.look(owner);
    }
}
