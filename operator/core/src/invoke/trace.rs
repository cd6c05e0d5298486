//! The trace of an invocation: the header `X-Amzn-Trace-Id`, `_X_AMZN_TRACE_ID` in a function.
//!
//! Continues the caller's trace with its root, its parent (Pilotlight adds no segment), its sampling
//! decision and further fields such as `Lineage`. Without a valid header a new trace begins, which is not
//! sampled. Fed by the gateway that a call reaches first; all further hops forward the result unchanged.
//!
//! Format: <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>

use std::fmt::Write as _;

/// The longest header, in bytes, that is read; longer ones are ignored, since runtimes accept only a few
/// KiB of headers in total.
pub const LIMIT: usize = 1024;

const ROOT: (usize, usize) = (8, 24);
const PARENT: usize = 16;

/// Random and time parts from which new ids are made.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Seconds since the Unix epoch.
    pub seconds: u32,
    pub random: [u64; 3],
}

#[derive(Debug, Default)]
struct CallerTrace<'a> {
    root: Option<&'a str>,
    parent: Option<&'a str>,
    is_sampled: bool,
    /// Further fields, unchanged.
    rest: Vec<&'a str>,
}

/// The trace header of an invocation. `caller`: the header that its caller has sent.
pub fn of_call(caller: Option<&str>, fresh: Fresh) -> String {
    let caller = caller.filter(|text| text.len() <= LIMIT);
    let caller = caller.map(CallerTrace::read);
    let CallerTrace {
        root,
        parent,
        is_sampled,
        rest,
    } = caller
        .filter(|trace| trace.root.is_some())
        .unwrap_or_default();
    let Fresh { seconds, random } = fresh;
    let mut header =
        String::with_capacity(80 + rest.iter().map(|field| field.len() + 1).sum::<usize>());
    let written = match root {
        Some(root) => write!(header, "Root={root}"),
        None => write!(
            header,
            "Root=1-{seconds:08x}-{:016x}{:08x}",
            random[0], random[1] as u32
        ),
    };
    let written = written.and_then(|()| match parent {
        Some(parent) => write!(header, ";Parent={parent}"),
        None => write!(header, ";Parent={:016x}", random[2]),
    });
    written.expect("a string takes any text");
    header.push_str(if is_sampled {
        ";Sampled=1"
    } else {
        ";Sampled=0"
    });
    for field in rest {
        header.push(';');
        header.push_str(field);
    }
    header
}

impl<'a> CallerTrace<'a> {
    fn read(text: &'a str) -> Self {
        let mut given = CallerTrace::default();
        for field in text.split(';').map(str::trim) {
            let Some((name, value)) = field.split_once('=') else {
                continue;
            };
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("Root") {
                given.root = given.root.or(Some(value).filter(|root| is_root(root)));
            } else if is("Parent") {
                given.parent = given.parent.or(Some(value).filter(|id| is_hex(id, PARENT)));
            } else if is("Sampled") {
                // `?` asks for a decision.
                given.is_sampled |= value == "1";
            } else if !name.is_empty()
                && !is("Self")
                && field.bytes().all(|byte| byte.is_ascii_graphic())
            {
                // `Self` names a load balancer's own request.
                given.rest.push(field);
            }
        }
        given
    }
}

fn is_root(text: &str) -> bool {
    let mut parts = text.split('-');
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    let [Some("1"), Some(time), Some(unique), None] = parts else {
        return false;
    };
    is_hex(time, ROOT.0) && is_hex(unique, ROOT.1)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";
    const FRESH: Fresh = Fresh {
        seconds: 0x0759_e988,
        random: [1, u64::MAX, 0x53995c3f42cd8ad8],
    };
    const NEW: &str = "Root=1-0759e988-0000000000000001ffffffff;Parent=53995c3f42cd8ad8;Sampled=0";

    fn header(caller: &str) -> String {
        of_call(Some(caller), FRESH)
    }

    #[test]
    fn a_call_without_a_trace_begins_one_that_is_not_sampled() {
        assert_eq!(of_call(None, FRESH), NEW);
    }

    #[test]
    fn a_callers_trace_is_continued() {
        let all = format!("Root={ROOT};Parent=0f1b758a73ce5eaa;Sampled=1;Lineage=1:38a5ab94:0;a=b");
        assert_eq!(header(&all), all);
        let odd = format!(" sampled=1 ; Self=1-67-12;parent=0f1b758a73ce5eaa;root={ROOT}; a=b");
        let written = format!("Root={ROOT};Parent=0f1b758a73ce5eaa;Sampled=1;a=b");
        assert_eq!(header(&odd), written);
    }

    #[test]
    fn missing_fields_of_a_callers_trace_are_added() {
        let added = format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0");
        for (given, expected) in [
            (format!("Root={ROOT}"), &added),
            (format!("Root={ROOT};Sampled=?"), &added),
            (
                format!("Root={ROOT};Parent=none;Sampled=0;;x;=;\u{7f}=1"),
                &added,
            ),
        ] {
            assert_eq!(header(&given), *expected, "{given}");
        }
    }

    #[test]
    fn a_header_that_is_not_a_valid_trace_begins_a_new_one() {
        for given in [
            "",
            "Root=1-5759e988",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a99427279g",
            "Root=1-5759e988-bd862e3fe1be46a994272793-0",
            "Parent=0f1b758a73ce5eaa;Sampled=1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &format!("Root={ROOT};a={}", "b".repeat(LIMIT)),
        ] {
            assert_eq!(header(given), NEW, "{given}");
        }
    }
}
