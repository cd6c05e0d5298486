//! What a call says of its trace, in the headers of X-Ray and of W3C, and the headers that its hops get.
//!
//! Both forms name the same ids: `Root=1-5759e988-bd86…` is the trace id `5759e988bd86…` of `traceparent`, and `Parent` its
//! parent id. Fed by the gateway that a call reaches first; all further hops get the result. A header that is malformed
//! never fails a call: without a valid one a new trace begins.
//!
//! Formats: <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>,
//! <https://www.w3.org/TR/trace-context/>

use std::fmt::Write as _;

use super::ids::{SpanId, TraceId};
use super::lineage::Lineage;
use crate::ids::FunctionKey;

/// The longest header, in bytes, that is read; longer ones are ignored, since runtimes accept only a few
/// KiB of headers in total.
pub const LIMIT: usize = 1024;
/// The longest `tracestate`, in bytes; W3C asks for at least this.
pub const STATE_LIMIT: usize = 512;
/// The longest field of a lineage, with its name, in bytes.
const LINEAGE_LENGTH: usize = 27;
/// The most entries of a `tracestate` (W3C).
const STATE_ENTRIES: usize = 32;

/// The headers of a call, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHeaders<'a> {
    /// `X-Amzn-Trace-Id`.
    pub xray: Option<&'a str>,
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
}

/// The parts from which a new trace is made.
#[expect(missing_debug_implementations, reason = "it holds a function")]
#[derive(Clone, Copy)]
pub struct Fresh<'a> {
    /// Seconds since the Unix epoch.
    pub seconds: u32,
    /// Random bits, others for each number. Asked for only if they are needed.
    pub random: &'a dyn Fn(u8) -> u64,
}

/// The trace of an invocation, as its caller has begun it or as it begins here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    /// The span of the caller. `None`: the caller has named none.
    pub parent: Option<SpanId>,
    /// Whether the caller wants the trace to be kept. `None`: it leaves that open.
    pub decision: Option<bool>,
    /// `None`: there is none, or one of another form.
    lineage: Option<Lineage>,
    /// Further fields of X-Ray's header, unchanged, each with a `;` before it.
    further: String,
    /// `tracestate`, unchanged.
    pub state: Option<String>,
}

impl TraceContext {
    /// `traceparent` comes first: AWS' SDKs add X-Ray's header to the calls of a function by themselves, and only who
    /// traces with OpenTelemetry adds the other one.
    pub fn of_call(headers: TraceHeaders<'_>, fresh: Fresh<'_>) -> Self {
        let xray = headers.xray.and_then(of_xray);
        match headers.traceparent.and_then(of_traceparent) {
            Some(mut context) => {
                context.state = headers
                    .tracestate
                    .filter(|text| is_state(text))
                    .map(str::to_owned);
                if let Some(xray) = xray.filter(|xray| xray.trace == context.trace) {
                    context.further = xray.further;
                    context.lineage = xray.lineage;
                }
                context
            }
            None => xray.unwrap_or_else(|| begin(fresh)),
        }
    }

    /// Counts a call of the function among those that led to it. Returns whether they go round in a circle, and the call
    /// must not run.
    pub fn calls(&mut self, function: &FunctionKey) -> bool {
        let lineage = self.lineage.unwrap_or_default().pass(function);
        self.lineage = Some(lineage);
        lineage.is_loop(function)
    }

    /// The call was made by a function whose own trace is this one. A client that writes the header anew leaves the lineage
    /// out. Returns whether that has changed anything.
    pub fn descends_from(&mut self, own: &TraceContext) -> bool {
        let is_missing = self.lineage.is_none() && own.lineage.is_some();
        if is_missing {
            self.lineage = own.lineage;
        }
        is_missing
    }

    /// X-Ray's header of a hop. `parent`: the span that the hop belongs to.
    pub fn to_xray(&self, parent: SpanId, is_sampled: bool) -> String {
        let mut header = String::with_capacity(74 + LINEAGE_LENGTH + self.further.len());
        let trace = u128::from_be_bytes(self.trace.bytes());
        let (time, unique) = (trace >> 96, trace & ((1 << 96) - 1));
        let sampled = u8::from(is_sampled);
        write!(
            header,
            "Root=1-{time:08x}-{unique:024x};Parent={parent};Sampled={sampled}"
        )
        .expect("a string takes any text");
        if let Some(lineage) = self.lineage {
            write!(header, ";Lineage={lineage}").expect("a string takes any text");
        }
        header.push_str(&self.further);
        header
    }

    /// The value of `traceparent`, or of `traceresponse`.
    pub fn to_traceparent(&self, parent: SpanId, is_sampled: bool) -> String {
        format!("00-{}-{parent}-{:02x}", self.trace, u8::from(is_sampled))
    }
}

/// Reads X-Ray's header. `None` without a valid root.
pub fn of_xray(text: &str) -> Option<TraceContext> {
    if text.len() > LIMIT {
        return None;
    }
    let (mut root, mut parent, mut decision) = (None, None, None);
    let (mut lineage, mut further) = (None, String::new());
    for field in text.split(';').map(str::trim) {
        let Some((name, value)) = field.split_once('=') else {
            continue;
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("Root") {
            root = root.or_else(|| of_root(value));
        } else if is("Parent") {
            parent = parent.or_else(|| SpanId::read(value));
        } else if is("Sampled") {
            // `?` asks for a decision.
            decision = decision.or(match value {
                "1" => Some(true),
                "0" => Some(false),
                _ => None,
            });
        } else if is("Lineage") {
            lineage = lineage.or_else(|| Lineage::read(value));
        } else if !name.is_empty()
            && !is("Self")
            && field.bytes().all(|byte| byte.is_ascii_graphic())
        {
            // `Self` names a load balancer's own request.
            further.push(';');
            further.push_str(field);
        }
    }
    Some(TraceContext {
        trace: root?,
        parent,
        decision,
        lineage,
        further,
        state: None,
    })
}

fn of_root(text: &str) -> Option<TraceId> {
    let (time, unique) = text.strip_prefix("1-")?.split_once('-')?;
    if time.len() != 8 || unique.len() != 24 {
        return None;
    }
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(time.as_bytes());
    digits[8..].copy_from_slice(unique.as_bytes());
    TraceId::read(std::str::from_utf8(&digits).ok()?)
}

/// Reads `traceparent` of this version, and what W3C fixes for later ones.
fn of_traceparent(text: &str) -> Option<TraceContext> {
    if text.len() > LIMIT || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut parts = text.splitn(5, '-');
    let [version, trace, parent, flags] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let [version, flags] = [byte(version)?, byte(flags)?];
    let is_known = version != 0xff && (version > 0 || parts.next().is_none());
    is_known.then_some(())?;
    Some(TraceContext {
        trace: TraceId::read(trace)?,
        parent: Some(SpanId::read(parent)?),
        decision: Some(flags & 1 == 1),
        lineage: None,
        further: String::new(),
        state: None,
    })
}

fn byte(text: &str) -> Option<u8> {
    let is_hex = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(text, 16).ok())?
}

/// Whether a text can be a `tracestate` that is passed on. A longer one is left out as a whole.
fn is_state(text: &str) -> bool {
    let is_entry = |entry: &str| entry.trim().is_empty() || entry.contains('=');
    (1..=STATE_LIMIT).contains(&text.len())
        && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && text.split(',').count() <= STATE_ENTRIES
        && text.split(',').all(is_entry)
}

/// A new trace, about which nobody has decided.
fn begin(Fresh { seconds, random }: Fresh<'_>) -> TraceContext {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..12].copy_from_slice(&random(0).to_be_bytes());
    bytes[12..].copy_from_slice(&(random(1) as u32).max(1).to_be_bytes());
    TraceContext {
        trace: TraceId::of_bytes(bytes).expect("not all bytes are zero"),
        parent: None,
        decision: None,
        lineage: None,
        further: String::new(),
        state: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";
    const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
    const PARENT: &str = "0f1b758a73ce5eaa";
    const NEW: &str = "0759e9880000000000000007ffffffff";

    fn of(headers: TraceHeaders<'_>) -> TraceContext {
        let random = |place| [7, u64::MAX][usize::from(place)];
        let seconds = 0x0759_e988;
        TraceContext::of_call(
            headers,
            Fresh {
                seconds,
                random: &random,
            },
        )
    }

    fn of_header(xray: &str) -> TraceContext {
        of(TraceHeaders {
            xray: Some(xray),
            ..TraceHeaders::default()
        })
    }

    fn of_w3c(traceparent: &str, tracestate: Option<&str>) -> TraceContext {
        of(TraceHeaders {
            xray: None,
            traceparent: Some(traceparent),
            tracestate,
        })
    }

    /// X-Ray's header of a hop that belongs to the caller's span.
    fn continued(context: &TraceContext) -> String {
        let parent = context.parent.unwrap_or(SpanId::of_random(9));
        context.to_xray(parent, context.decision == Some(true))
    }

    #[test]
    fn a_call_without_a_trace_begins_one_about_which_nobody_has_decided() {
        let context = of(TraceHeaders::default());
        assert_eq!(context.trace.to_string(), NEW);
        assert_eq!((context.parent, context.decision), (None, None));
        let header = "Root=1-0759e988-0000000000000007ffffffff;Parent=0000000000000009;Sampled=0";
        assert_eq!(continued(&context), header);
    }

    #[test]
    fn a_callers_trace_of_x_ray_is_continued() {
        let all = format!("Root={ROOT};Parent={PARENT};Sampled=1;Lineage=1:38a5ab94:0;a=b");
        let context = of_header(&all);
        assert_eq!(continued(&context), all);
        assert_eq!(context.trace.to_string(), TRACE);
        let odd = format!(" sampled=1 ; Self=1-67-12;parent={PARENT};root={ROOT}; a=b");
        let written = format!("Root={ROOT};Parent={PARENT};Sampled=1;a=b");
        assert_eq!(continued(&of_header(&odd)), written);
    }

    #[test]
    fn a_call_is_counted_in_the_lineage() {
        let mut context = of_header(&format!("Root={ROOT};a=b;lineage=1:38a5ab94:0"));
        assert!(!context.calls(&"local/hello".parse().expect("a key")));
        let header = continued(&context);
        let lineage = header
            .split(';')
            .find(|field| field.starts_with("Lineage="));
        assert_eq!(lineage, Some("Lineage=2:b86b5ecb:0"), "{header}");
        let looping = of_header(&format!("Root={ROOT};Lineage=20:b86b5ecb:15"));
        assert!(
            looping
                .clone()
                .calls(&"local/hello".parse().expect("a key"))
        );
        assert!(
            !looping
                .clone()
                .calls(&"local/other".parse().expect("a key"))
        );
        // One of another form is not passed on, and the chain begins here.
        let mut other = of_header(&format!("Root={ROOT};Lineage=a87bd80c:1|68fd508a:5"));
        assert!(!continued(&other).contains("Lineage"));
        other.calls(&"local/hello".parse().expect("a key"));
        assert!(continued(&other).ends_with(";Lineage=1:b86b5ecb:0"));
    }

    #[test]
    fn a_decision_is_the_callers_if_it_has_made_one() {
        for (sampled, decision) in [
            ("Sampled=1", Some(true)),
            ("Sampled=0", Some(false)),
            ("Sampled=?", None),
            ("Sampled=?;Sampled=1", Some(true)),
            ("x=1", None),
        ] {
            let context = of_header(&format!("Root={ROOT};{sampled}"));
            assert_eq!(context.decision, decision, "{sampled}");
            assert_eq!(context.parent, None);
        }
        for (flags, decision) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let context = of_w3c(&format!("00-{TRACE}-{PARENT}-{flags}"), None);
            assert_eq!(context.decision, Some(decision), "{flags}");
        }
    }

    #[test]
    fn a_trace_of_w3c_is_the_same_trace_of_x_ray() {
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let context = of_w3c(&traceparent, Some("vendor=1,other=a b"));
        assert_eq!(
            continued(&context),
            format!("Root={ROOT};Parent={PARENT};Sampled=1")
        );
        assert_eq!(context.state.as_deref(), Some("vendor=1,other=a b"));
        let parent = context.parent.expect("the caller's");
        assert_eq!(context.to_traceparent(parent, true), traceparent);
        let back = of_header(&continued(&context));
        assert_eq!(
            back.to_traceparent(parent, false),
            format!("00-{TRACE}-{PARENT}-00")
        );
    }

    #[test]
    fn a_later_version_of_traceparent_is_read_as_far_as_it_is_fixed() {
        for (text, is_read) in [
            (format!("01-{TRACE}-{PARENT}-01-more"), true),
            (format!("01-{TRACE}-{PARENT}-01"), true),
            (format!("00-{TRACE}-{PARENT}-01-more"), false),
            (format!("00-{TRACE}-{PARENT}-01-"), false),
            (format!("ff-{TRACE}-{PARENT}-01"), false),
            (format!("00-{}-{PARENT}-01", TRACE.to_uppercase()), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{PARENT}-1"), false),
            (format!("00-{TRACE}-{PARENT}-+1"), false),
            (format!("00-{TRACE}-{PARENT}"), false),
        ] {
            let trace = of_w3c(&text, Some("a=1")).trace.to_string();
            assert_eq!(trace, if is_read { TRACE } else { NEW }, "{text}");
        }
    }

    #[test]
    fn traceparent_comes_before_the_header_that_sdks_add_by_themselves() {
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let both = |root: &str| {
            let xray =
                format!("Root={root};Parent=0000000000000001;Sampled=0;Lineage=1:38a5ab94:0");
            of(TraceHeaders {
                xray: Some(&xray),
                traceparent: Some(&traceparent),
                tracestate: None,
            })
        };
        let same = format!("Root={ROOT};Parent={PARENT};Sampled=1;Lineage=1:38a5ab94:0");
        assert_eq!(continued(&both(ROOT)), same);
        let other = continued(&both("1-5759e988-bd862e3fe1be46a994272794"));
        assert_eq!(other, format!("Root={ROOT};Parent={PARENT};Sampled=1"));
    }

    #[test]
    fn a_state_that_cannot_be_passed_on_is_left_out_as_a_whole() {
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let many = vec!["a=1"; 33].join(",");
        for bad in [
            "",
            "a",
            "a=1,b",
            "a=\u{e9}",
            "a=\n",
            &many,
            &format!("a={}", "b".repeat(511)),
        ] {
            assert_eq!(of_w3c(&traceparent, Some(bad)).state, None, "{bad:?}");
        }
        // Without a trace of W3C its state has no meaning.
        let alone = of(TraceHeaders {
            tracestate: Some("a=1"),
            ..TraceHeaders::default()
        });
        assert_eq!(alone.state, None);
    }

    #[test]
    fn a_header_that_is_not_a_valid_trace_begins_a_new_one() {
        for given in [
            "",
            "Root=1-5759e988",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e988-bd862e3fe1be46a99427279g",
            "Root=1-5759e988-bd862e3fe1be46a994272793-0",
            "Root=1-00000000-000000000000000000000000",
            "Parent=0f1b758a73ce5eaa;Sampled=1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &format!("Root={ROOT};a={}", "b".repeat(LIMIT)),
        ] {
            assert_eq!(of_header(given).trace.to_string(), NEW, "{given}");
        }
    }

    #[test]
    fn fields_that_are_no_header_text_are_left_out() {
        let given = format!("Root={ROOT};Parent=none;Sampled=0;;x;=;\u{7f}=1");
        let written = format!("Root={ROOT};Parent=0000000000000009;Sampled=0");
        assert_eq!(continued(&of_header(&given)), written);
    }
}
