//! How often one function was called in a chain of calls, in the field `Lineage` of X-Ray's header.
//!
//! A function that calls itself, directly or through others, would never end. Each call counts itself before it goes on, and
//! the clients of AWS inside of the function pass the header on, so a chain that turns in a circle is stopped, as the
//! platform documents: <https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html>.
//!
//! The field has the form of the platform, `CALLS:FUNCTION:LOOPS`, which propagators of OpenTelemetry pass on too. It has
//! room for one function, so that one is chosen anew after some calls: in a circle, it is one of the circle sooner or later.
//! Whoever calls from outside can write any lineage, and this protects nobody from a caller that wants to go round.

use std::fmt;

use crate::ids::FunctionKey;

/// So many calls of one function in a chain are let through.
pub const LOOPS: u8 = 16;
/// The largest number of calls that the form has room for.
const CALLS_MAX: u16 = 32_767;
/// After so many calls of the chain another function is watched. Most circles are entered after one or two calls, and
/// have one or two functions. One that is entered later, or has more than fifteen, is found after more calls.
const CHOSEN_AT: [u16; 6] = [1, 2, 4, 8, 256, 8_192];
/// The digits of a function's hash.
const DIGITS: usize = 8;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// All calls of the chain.
    calls: u16,
    /// The hash of the function that is watched.
    function: u32,
    /// How often it was called since it was chosen, after the first time.
    loops: u8,
}

impl Lineage {
    /// `None`: it has another form.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let [calls, function, loops] = [parts.next()?, parts.next()?, parts.next()?];
        let is_whole = parts.next().is_none() && function.len() == DIGITS;
        let is_hex = function.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_whole || !is_hex {
            return None;
        }
        Some(Lineage {
            calls: number(calls)?.min(CALLS_MAX),
            function: u32::from_str_radix(function, 16).ok()?,
            loops: u8::try_from(number(loops)?).ok()?,
        })
    }

    /// The lineage of a call of this function.
    #[must_use]
    pub fn pass(self, function: &FunctionKey) -> Self {
        let called = hash(function);
        let calls = self.calls.saturating_add(1).min(CALLS_MAX);
        if self.calls > 0 && called == self.function {
            let loops = self.loops.saturating_add(1);
            return Lineage {
                calls,
                loops,
                ..self
            };
        }
        match CHOSEN_AT.contains(&calls) {
            true => Lineage {
                calls,
                function: called,
                loops: 0,
            },
            false => Lineage { calls, ..self },
        }
    }

    /// Whether the call that it belongs to must not run. `function`: the one that is called.
    pub fn is_loop(&self, function: &FunctionKey) -> bool {
        self.loops >= LOOPS && self.function == hash(function)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lineage {
            calls,
            function,
            loops,
        } = self;
        write!(f, "{calls}:{function:08x}:{loops}")
    }
}

/// A number without a sign.
fn number(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

/// FNV-1a. All gateways and all versions have to agree on it.
fn hash(function: &FunctionKey) -> u32 {
    let FunctionKey { namespace, name } = function;
    let bytes = namespace
        .as_str()
        .bytes()
        .chain([b'/'])
        .chain(name.as_str().bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn function(name: &str) -> FunctionKey {
        format!("local/{name}").parse().expect("a key")
    }

    /// How often each function was called until the chain is stopped. `None`: it is not stopped within so many calls.
    fn run(names: impl Iterator<Item = String>) -> Option<HashMap<String, usize>> {
        let (mut lineage, mut calls) = (Lineage::default(), HashMap::new());
        for name in names {
            let called = function(&name);
            // As it comes back in the header of the next call.
            let passed = lineage.to_string();
            lineage = Lineage::read(&passed).expect("a lineage").pass(&called);
            if lineage.is_loop(&called) {
                return Some(calls);
            }
            *calls.entry(name).or_default() += 1;
        }
        None
    }

    /// Functions that are called once, then others in a circle.
    fn circle(before: usize, length: usize) -> impl Iterator<Item = String> {
        let once = (0..before).map(|number| format!("once-{number}"));
        let round = (0..length).map(|number| format!("round-{number}"));
        once.chain(round.collect::<Vec<_>>().into_iter().cycle())
    }

    #[test]
    fn a_function_that_calls_itself_runs_sixteen_times() {
        let calls = run(circle(0, 1)).expect("it is stopped");
        assert_eq!(calls, HashMap::from([("round-0".to_owned(), 16)]));
    }

    #[test]
    fn circles_are_stopped_whatever_comes_before_them() {
        for before in 0..8 {
            for length in 1..=15 {
                let calls = run(circle(before, length)).expect("it is stopped");
                let most = calls.values().max().copied().unwrap_or_default();
                assert!((16..=24).contains(&most), "{before} {length}: {most}");
            }
        }
        for (before, length) in [(0, 40), (20, 1), (100, 3), (300, 200), (0, 500)] {
            let calls = run(circle(before, length).take(40_000)).expect("it is stopped");
            let most = calls.values().max().copied().unwrap_or_default();
            assert!(most < 8_192 / length + 40, "{before} {length}: {most}");
        }
    }

    #[test]
    fn a_chain_of_different_functions_goes_on() {
        assert_eq!(run((0..40_000).map(|number| format!("f-{number}"))), None);
        // Fifteen times is no loop.
        assert_eq!(run(circle(0, 1).take(16)), None);
    }

    #[test]
    fn what_is_no_lineage_of_this_form_is_none() {
        for text in [
            "",
            "1",
            "1:38a5ab94",
            "1:38a5ab94:0:0",
            "1:38a5ab9:0",
            "1:38a5ab945:0",
            "1:38a5ab9g:0",
            "1:+8a5ab94:0",
            "-1:38a5ab94:0",
            "+1:38a5ab94:0",
            "65536:38a5ab94:0",
            "1:38a5ab94:256",
            "a87bd80c:1|68fd508a:5",
        ] {
            assert_eq!(Lineage::read(text), None, "{text}");
        }
        for text in ["1:38a5ab94:0", "32767:ffffffff:255"] {
            let read = Lineage::read(text).map(|lineage| lineage.to_string());
            assert_eq!(read.as_deref(), Some(text));
        }
        let more = Lineage::read("65535:38a5ab94:255").expect("it is read");
        let passed = more.pass(&function("a"));
        assert_eq!(passed.to_string(), "32767:38a5ab94:255");
    }

    #[test]
    fn all_versions_have_the_same_hash() {
        let passed = Lineage::default().pass(&function("hello"));
        assert_eq!(passed.to_string(), "1:b86b5ecb:0");
    }
}
