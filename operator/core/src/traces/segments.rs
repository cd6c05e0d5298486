//! What a function says of its own work, in the form of X-Ray's subsegments, and the bounds of that.
//!
//! `wire::segments` reads them, and carries them with the answer. Nothing in them is trusted: a function may add spans below its
//! own invocation alone, so ids of other spans are not accepted, and whatever hangs elsewhere hangs at `run`.

use std::collections::BTreeSet;

use super::ids::SpanId;

/// The most segments that one invocation can bring.
pub const SEGMENTS_LIMIT: usize = 128;
/// The most bytes of them, as they are carried with the answer.
pub const SEGMENTS_BYTES: usize = 64 * 1024;
/// The longest name of a segment, in bytes.
pub const NAME_LIMIT: usize = 200;
/// The most annotations of a segment.
pub const ANNOTATIONS_LIMIT: usize = 16;
/// The longest value of an annotation, and the longest message of an error, in bytes.
pub const VALUE_LIMIT: usize = 256;

/// A piece of work inside a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub id: SpanId,
    pub parent: SpanId,
    pub name: String,
    /// Microseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    /// Whether it is a call of another service.
    pub is_remote: bool,
    /// `Some` if it failed: the message, which may be empty.
    pub error: Option<String>,
    pub annotations: Vec<(String, String)>,
}

/// The segments of one invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    pub list: Vec<Segment>,
    /// How many more there were.
    pub dropped: u32,
}

impl Segments {
    /// Leaves out segments with an id of another span, and has the others hang below `run`. `own`: the ids of the spans of
    /// the platform.
    pub fn below(mut self, run: SpanId, own: &[SpanId]) -> Segments {
        let mut known: BTreeSet<[u8; 8]> = own.iter().map(|id| id.bytes()).collect();
        known.insert(run.bytes());
        let before = self.list.len();
        self.list.truncate(SEGMENTS_LIMIT);
        self.list.retain(|segment| known.insert(segment.id.bytes()));
        let left = before - self.list.len();
        self.dropped = self.dropped.saturating_add(left as u32);
        let ids: BTreeSet<[u8; 8]> = self.list.iter().map(|segment| segment.id.bytes()).collect();
        for segment in &mut self.list {
            if segment.parent == segment.id || !ids.contains(&segment.parent.bytes()) {
                segment.parent = run;
            }
        }
        self
    }
}

/// The text, cut off between characters.
pub fn cut(text: &str, limit: usize) -> &str {
    match text.len() <= limit {
        true => text,
        false => &text[..text.floor_char_boundary(limit)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> SpanId {
        SpanId::of_random(number)
    }

    fn segment(number: u64, parent: u64) -> Segment {
        Segment {
            id: id(number),
            parent: id(parent),
            name: "work".to_owned(),
            start: 1,
            end: 2,
            is_remote: false,
            error: None,
            annotations: Vec::new(),
        }
    }

    #[test]
    fn a_function_writes_spans_below_its_own_invocation_alone() {
        let list = vec![
            segment(10, 2),
            segment(11, 10),
            segment(12, 77),
            segment(13, 1),
            segment(14, 14),
            // Ids of the platform, and one that is taken.
            segment(1, 10),
            segment(2, 10),
            segment(10, 2),
        ];
        let segments = Segments { list, dropped: 3 };
        let below = segments.below(id(2), &[id(1)]);
        let found = below
            .list
            .iter()
            .map(|segment| (segment.id, segment.parent));
        let expected = [(10, 2), (11, 10), (12, 2), (13, 2), (14, 2)];
        let expected = expected.map(|(number, parent)| (id(number), id(parent)));
        assert_eq!(Vec::from_iter(found), expected);
        assert_eq!(below.dropped, 6);
    }

    #[test]
    fn the_number_of_segments_is_bounded() {
        let list = (10..1010).map(|number| segment(number, 2)).collect();
        let below = Segments { list, dropped: 0 }.below(id(2), &[]);
        assert_eq!((below.list.len(), below.dropped), (SEGMENTS_LIMIT, 872));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("grün", 3), "gr");
        assert_eq!(cut("grün", 5), "grün");
    }
}
