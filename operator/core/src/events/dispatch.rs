//! Whose waiting events are tried next, and how many at once.
//!
//! Each function has its turn after every other one that has events due, so one with a hundred thousand of them takes
//! nothing from another. It has at most as many under way as it has instances at most, and fewer after a throttle: the
//! number halves, and grows by one with each attempt that begins. So an event never waits in the gateway's queue before
//! calls for longer than it takes to start an instance, and a synchronous call is placed when the next event has ended.
//! Reads no event; the durable queue orders those of one function.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::retry::EventTime;

/// How many events one turn takes at most.
const TURN: usize = 16;

/// See the module. `K` names a function.
#[derive(Debug)]
pub struct Dispatch<K> {
    /// How many events may be under way together.
    limit: usize,
    under_way: usize,
    functions: HashMap<K, Function>,
    /// The functions with events, each once, in the order of their turns.
    turns: VecDeque<K>,
}

#[derive(Debug)]
struct Function {
    /// The earliest time at which an event of the queue can be tried. `None`: no event waits.
    due: Option<EventTime>,
    under_way: usize,
    /// How many may be under way now, and how many at most.
    window: usize,
    most: usize,
}

impl Function {
    fn room(&self) -> usize {
        self.window.min(self.most).saturating_sub(self.under_way)
    }

    fn is_idle(&self) -> bool {
        self.due.is_none() && self.under_way == 0
    }
}

impl<K: Clone + Eq + Hash> Dispatch<K> {
    /// `limit`: how many events of all functions are under way at most.
    pub fn new(limit: usize) -> Self {
        Dispatch {
            limit,
            under_way: 0,
            functions: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// An event of the function waits in the queue until this time. `most`: how many may be under way.
    pub fn waits(&mut self, function: &K, due: EventTime, most: usize) {
        let known = match self.functions.get_mut(function) {
            Some(known) => known,
            None => {
                self.turns.push_back(function.clone());
                let most = most.max(1);
                self.functions.entry(function.clone()).or_insert(Function {
                    due: None,
                    under_way: 0,
                    window: most,
                    most,
                })
            }
        };
        known.most = most.max(1);
        known.due = Some(known.due.map_or(due, |known| known.min(due)));
    }

    /// The function whose turn it is, and how many events to take from the queue. The answer of the queue is passed to
    /// [`Dispatch::taken`] before the next question.
    pub fn next(&mut self, now: EventTime) -> Option<(K, usize)> {
        let free = self.limit.saturating_sub(self.under_way);
        if free == 0 {
            return None;
        }
        let is_ready =
            |function: &Function| function.due.is_some_and(|due| due <= now) && function.room() > 0;
        let at = self
            .turns
            .iter()
            .position(|key| self.functions.get(key).is_some_and(is_ready))?;
        let key = self.turns.remove(at)?;
        self.turns.push_back(key.clone());
        let room = self.functions.get(&key)?.room();
        Some((key, room.min(free).min(TURN)))
    }

    /// The queue gave so many events, which are under way now. `due`: when the next of its events can be tried.
    pub fn taken(&mut self, function: &K, count: usize, due: Option<EventTime>) {
        let Some(known) = self.functions.get_mut(function) else {
            return;
        };
        known.due = due;
        known.under_way += count;
        self.under_way += count;
        self.forget_idle(function);
    }

    /// An attempt has ended. `has_begun`: whether the function ran.
    pub fn ended(&mut self, function: &K, has_begun: bool) {
        let Some(known) = self.functions.get_mut(function) else {
            return;
        };
        known.under_way -= 1;
        self.under_way -= 1;
        known.window = match has_begun {
            true => known.window.saturating_add(1).min(known.most),
            false => (known.window / 2).max(1),
        };
        self.forget_idle(function);
    }

    /// When [`Dispatch::next`] may have an answer again without anything else happening. Not before `now`, unless it has one
    /// now.
    pub fn next_wakeup(&self) -> Option<EventTime> {
        if self.under_way >= self.limit {
            return None;
        }
        let waiting = self
            .functions
            .values()
            .filter(|function| function.room() > 0);
        waiting.filter_map(|function| function.due).min()
    }

    pub fn under_way(&self) -> usize {
        self.under_way
    }

    fn forget_idle(&mut self, function: &K) {
        if self.functions.get(function).is_some_and(Function::is_idle) {
            self.functions.remove(function);
            self.turns.retain(|key| key != function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: EventTime = EventTime(1000);

    /// A queue with so many events of each function, all due.
    fn backlog(dispatch: &mut Dispatch<&'static str>, functions: &[(&'static str, usize)]) {
        for (function, most) in functions {
            dispatch.waits(function, NOW, *most);
        }
    }

    #[test]
    fn functions_take_turns_however_many_events_wait() {
        let mut dispatch = Dispatch::new(1000);
        backlog(&mut dispatch, &[("loud", 100), ("quiet", 100)]);
        let mut order = Vec::new();
        while let Some((function, count)) = dispatch.next(NOW) {
            order.push(function);
            // The quiet one has one event, the other never runs out.
            let (count, due) = match function {
                "quiet" => (1, None),
                _ => (count, Some(NOW)),
            };
            dispatch.taken(&function, count, due);
        }
        assert_eq!(order[..3], ["loud", "quiet", "loud"]);
        assert_eq!(dispatch.under_way(), 101);
        assert_eq!(dispatch.next_wakeup(), None, "nothing has room");
        dispatch.ended(&"loud", true);
        assert_eq!(dispatch.next(NOW), Some(("loud", 1)));
    }

    #[test]
    fn no_more_than_all_together_may_be_are_under_way() {
        let mut dispatch = Dispatch::new(20);
        backlog(&mut dispatch, &[("a", 100), ("b", 100)]);
        let mut taken = HashMap::new();
        while let Some((function, count)) = dispatch.next(NOW) {
            dispatch.taken(&function, count, Some(NOW));
            *taken.entry(function).or_insert(0) += count;
        }
        assert_eq!(taken, HashMap::from([("a", 16), ("b", 4)]));
        // Whose turn it is gets the place that is free, also if the other one's event has ended.
        dispatch.ended(&"b", true);
        assert_eq!(dispatch.next(NOW), Some(("a", 1)));
    }

    #[test]
    fn throttles_halve_what_is_under_way_and_attempts_that_begin_restore_it() {
        let mut dispatch = Dispatch::new(1000);
        backlog(&mut dispatch, &[("a", 10)]);
        dispatch.taken(&"a", 10, Some(NOW));
        for _ in 0..10 {
            dispatch.ended(&"a", false);
        }
        assert_eq!(dispatch.next(NOW), Some(("a", 1)));
        dispatch.taken(&"a", 1, Some(NOW));
        dispatch.ended(&"a", true);
        assert_eq!(dispatch.next(NOW), Some(("a", 2)));
    }

    #[test]
    fn events_of_later_wait_until_then() {
        let mut dispatch = Dispatch::new(10);
        dispatch.waits(&"a", EventTime(5000), 1);
        dispatch.waits(&"a", EventTime(3000), 1);
        dispatch.waits(&"a", EventTime(4000), 1);
        assert_eq!(dispatch.next(EventTime(2999)), None);
        assert_eq!(dispatch.next_wakeup(), Some(EventTime(3000)));
        assert_eq!(dispatch.next(EventTime(3000)), Some(("a", 1)));
        dispatch.taken(&"a", 1, Some(EventTime(4000)));
        assert_eq!(dispatch.next(EventTime(9000)), None, "one at a time");
        dispatch.ended(&"a", true);
        assert_eq!(dispatch.next(EventTime(9000)), Some(("a", 1)));
    }

    #[test]
    fn a_function_without_events_is_forgotten() {
        let mut dispatch = Dispatch::new(10);
        dispatch.waits(&"a", NOW, 5);
        dispatch.next(NOW);
        dispatch.taken(&"a", 1, None);
        dispatch.ended(&"a", true);
        assert!(dispatch.functions.is_empty() && dispatch.turns.is_empty());
    }
}
