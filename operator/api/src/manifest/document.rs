//! Cuts a YAML stream into its documents, each with the line it starts at.
//!
//! Feeds `manifest`, which parses each document by itself, so that a broken one does not hide
//! the errors of the others. `---` and `...` at the start of a line end a document wherever they
//! stand, in quoted and block text as well (YAML 1.2, section 9.1.2), so lines are enough and nothing
//! is parsed here.

/// One document of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// Lines of the file before this document.
    pub(super) lines_before: u64,
}

/// The documents that hold anything.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let mut current = Current::default();
    let mut at = 0;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        if is_marker(line, "---") {
            // Directives and comments above a `---` belong to the document it starts.
            if current.has_marker || current.has_content {
                current.close(text, at, &mut documents);
                current = Current::starting(at, number);
            }
            current.has_marker = true;
        }
        current.has_content |= holds_content(line);
        at += line.len();
        if is_marker(line, "...") {
            current.close(text, at, &mut documents);
            current = Current::starting(at, number + 1);
        }
    }
    current.close(text, at, &mut documents);
    documents
}

#[derive(Default)]
struct Current {
    start: usize,
    lines_before: u64,
    has_marker: bool,
    has_content: bool,
}

impl Current {
    fn starting(start: usize, lines_before: u64) -> Self {
        Self {
            start,
            lines_before,
            ..Self::default()
        }
    }

    fn close<'a>(&self, text: &'a str, end: usize, documents: &mut Vec<Document<'a>>) {
        if self.has_content {
            let text = &text[self.start..end];
            documents.push(Document {
                text,
                lines_before: self.lines_before,
            });
        }
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn holds_content(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}');
    if line.starts_with('%') || is_marker(line, "...") {
        return false;
    }
    let rest = if is_marker(line, "---") {
        &line[3..]
    } else {
        line
    }
    .trim();
    !rest.is_empty() && !rest.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_at_their_markers_and_know_their_line() {
        let cases: [(&str, &[(u64, &str)]); 9] = [
            ("", &[]),
            ("# nothing\n\n---\n# nothing\n---\n...\n", &[]),
            ("a: 1", &[(0, "a: 1")]),
            (
                "---\na: 1\n---\nb: 2\n",
                &[(0, "---\na: 1\n"), (2, "---\nb: 2\n")],
            ),
            ("---\n---\na: 1\n", &[(1, "---\na: 1\n")]),
            (
                "# top\n%YAML 1.2\n---\na: 1\n",
                &[(0, "# top\n%YAML 1.2\n---\na: 1\n")],
            ),
            (
                "a: 1\n...\n# c\nb: 2\n",
                &[(0, "a: 1\n...\n"), (2, "# c\nb: 2\n")],
            ),
            (
                "a: 1\r\n---\r\nb: 2\r\n",
                &[(0, "a: 1\r\n"), (1, "---\r\nb: 2\r\n")],
            ),
            ("a: |\n  ---\n----\n", &[(0, "a: |\n  ---\n----\n")]),
        ];
        for (text, expected) in cases {
            let found = split(text);
            let found: Vec<_> = found.iter().map(|d| (d.lines_before, d.text)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
