//! The first line of a script, which names the interpreter that the kernel starts for it.
//!
//! The supervisor's `entrypoint` reads it to choose a shell and to explain why a program cannot be started;
//! local mode reads it to warn of line ends that the kernel takes as a part of a name. Pure.

/// An interpreter and its only argument, as the kernel splits the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shebang<'a> {
    pub interpreter: &'a str,
    pub argument: Option<&'a str>,
}

impl<'a> Shebang<'a> {
    /// `head`: the first bytes of a file. `None` if it does not begin with `#!`, or its first line is not UTF-8.
    pub fn read(head: &'a [u8]) -> Option<Self> {
        let line = head.strip_prefix(b"#!")?;
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
        let (interpreter, argument) = match line.split_once([' ', '\t']) {
            Some((interpreter, rest)) => (interpreter, Some(rest.trim_matches([' ', '\t']))),
            None => (line, None),
        };
        Some(Shebang {
            interpreter,
            argument,
        })
    }

    /// The whole line without `#!` if it ends in CRLF: the kernel takes the carriage return as a part of the last
    /// word.
    pub fn without_carriage_return(&self) -> Option<String> {
        let line = match self.argument {
            Some(argument) => format!("{} {argument}", self.interpreter),
            None => self.interpreter.to_owned(),
        };
        line.strip_suffix('\r').map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_split_as_the_kernel_splits_it() {
        for (head, interpreter, argument) in [
            ("#!/bin/sh", "/bin/sh", None),
            ("#! /bin/sh -eu \nexit\n", "/bin/sh", Some("-eu")),
            (
                "#!/usr/bin/env\t-S sh -e\n",
                "/usr/bin/env",
                Some("-S sh -e"),
            ),
            ("#!/bin/sh\r\n", "/bin/sh\r", None),
        ] {
            let expected = Shebang {
                interpreter,
                argument,
            };
            assert_eq!(Shebang::read(head.as_bytes()), Some(expected), "{head:?}");
        }
        for head in [&b"echo\n"[..], b"\x7fELF", b"", b"#!/\xff\n"] {
            assert_eq!(Shebang::read(head), None, "{head:?}");
        }
    }

    #[test]
    fn a_carriage_return_at_the_end_of_the_line_is_found_behind_either_word() {
        let line = |head| Shebang::read(head).and_then(|line| line.without_carriage_return());
        assert_eq!(line(b"#!/bin/sh\r\n").as_deref(), Some("/bin/sh"));
        assert_eq!(line(b"#!/bin/sh -e\r\n").as_deref(), Some("/bin/sh -e"));
        assert_eq!(line(b"#!/bin/sh\necho\r\n"), None);
    }
}
