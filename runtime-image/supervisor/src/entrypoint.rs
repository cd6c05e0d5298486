//! The program of a runtime process: which file it is, and why one cannot be started.
//!
//! Finds the `bootstrap` of a custom runtime as the original platform does. Runs scripts for `sh` with bash,
//! because `sh` is bash there. Reports failures with that platform's texts, and adds advice to the log. Used by
//! `process`, which starts the program; decides nothing about invocations.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use pilotlight_core::instance::shebang::Shebang;
use rustix::fs::{Access, access};

const BOOTSTRAP: &str = "bootstrap";
/// Paths of bash, in order of preference.
const BASH: [&str; 3] = ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"];
/// Bytes read of a file: enough for its first line or the head of an ELF file.
const HEAD_SIZE: usize = 256;
/// `e_machine` of ELF files, by the name of the architecture.
const MACHINES: [(u16, &str); 4] = [(3, "x86"), (40, "arm"), (62, "x86_64"), (183, "aarch64")];

/// A program with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entrypoint {
    /// The path that is executed.
    pub(crate) program: String,
    /// `argv`, with the program's name first.
    pub(crate) arguments: Vec<String>,
    /// The program's name in error messages: the script rather than its interpreter.
    pub(crate) named: String,
}

/// Why a runtime process could not be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// None of these files exists.
    NoBootstrap(Vec<String>),
    Program {
        program: String,
        source: io::Error,
    },
}

impl Entrypoint {
    pub(crate) fn of(command: &[String]) -> Result<Self, StartError> {
        let bootstraps = bootstraps(command);
        let (program, arguments) = match (bootstraps.is_empty(), command.split_first()) {
            (false, _) => match bootstraps.iter().find(|path| exists(path)) {
                Some(found) => (found, &[][..]),
                None => return Err(StartError::NoBootstrap(bootstraps.to_vec())),
            },
            (true, Some((program, arguments))) => (program, arguments),
            (true, None) => return Err(StartError::NoBootstrap(Vec::new())),
        };
        let mut argv = vec![program.clone()];
        let mut executed = program.clone();
        if let Some((bash, as_sh)) = by_bash(program) {
            argv = [as_sh, argv].concat();
            executed = bash;
        }
        argv.extend_from_slice(arguments);
        Ok(Entrypoint {
            program: executed,
            arguments: argv,
            named: program.clone(),
        })
    }
}

/// The candidates for a custom runtime's program, in order. Descriptions list them as
/// `sh -c SCRIPT bootstrap FILE…`; a supervisor of an earlier release runs the script instead.
fn bootstraps(command: &[String]) -> &[String] {
    match command {
        [_, option, _, name, files @ ..] if option == "-c" && name == BOOTSTRAP => files,
        [file]
            if Path::new(file)
                .file_name()
                .is_some_and(|name| name == BOOTSTRAP) =>
        {
            command
        }
        _ => &[],
    }
}

/// Whether there is a file. A folder does not count, as on the original platform. A file that is not executable
/// does, because starting it reports the reason.
fn exists(path: &String) -> bool {
    match fs::metadata(path) {
        Ok(file) => !file.is_dir(),
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}

/// For a script whose first line names `sh`, where that is another shell than bash: the path of bash and the
/// arguments before the script's name. Under the name `sh`, bash behaves as on the original platform.
fn by_bash(program: &str) -> Option<(String, Vec<String>)> {
    let head = head(program)?;
    let Shebang {
        interpreter,
        argument,
    } = Shebang::read(&head)?;
    let as_sh = match (interpreter, argument) {
        ("/bin/sh" | "/usr/bin/sh", None) => vec![interpreter.to_owned()],
        ("/bin/sh" | "/usr/bin/sh", Some(argument)) => {
            vec![interpreter.to_owned(), argument.to_owned()]
        }
        ("/bin/env" | "/usr/bin/env", Some("sh")) => vec!["sh".to_owned()],
        _ => return None,
    };
    let is_bash = fs::canonicalize("/bin/sh").is_ok_and(|sh| sh.ends_with("bash"));
    if is_bash || access(program, Access::EXEC_OK).is_err() {
        return None;
    }
    let bash = BASH.into_iter().find(|bash| Path::new(bash).is_file())?;
    Some((bash.to_owned(), as_sh))
}

/// The first bytes of a program. `None` if it is looked up in PATH or cannot be read.
fn head(program: &str) -> Option<Vec<u8>> {
    if !program.contains('/') {
        return None;
    }
    let mut head = Vec::with_capacity(HEAD_SIZE);
    let file = File::open(program).ok()?;
    file.take(HEAD_SIZE as u64).read_to_end(&mut head).ok()?;
    Some(head)
}

impl StartError {
    pub(crate) fn program(program: &str) -> impl Fn(io::Error) -> Self {
        move |source| StartError::Program {
            program: program.to_owned(),
            source,
        }
    }

    /// The likely cause and its remedy, if the kernel's error does not say so.
    pub(crate) fn advice(&self) -> Option<String> {
        let StartError::Program { program, source } = self else {
            return Some("a custom runtime is an executable file of this name".to_owned());
        };
        let head = head(program)?;
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let is_executable = access(program.as_str(), Access::EXEC_OK).is_ok();
                (!is_executable).then(|| format!("run `chmod +x {program}`"))
            }
            io::ErrorKind::NotFound => Some(match Shebang::read(&head) {
                Some(line) if line.interpreter.ends_with('\r') => {
                    "its lines end as on Windows: save it with LF instead of CR LF".to_owned()
                }
                Some(line) => {
                    format!(
                        "its first line names {}, which does not exist",
                        line.interpreter
                    )
                }
                None => {
                    "the loader that it was linked for does not exist: link it statically, or for \
                         this system's C library"
                        .to_owned()
                }
            }),
            _ if source.raw_os_error() == Some(libc::ENOEXEC) => Some(foreign(&head)),
            _ => None,
        }
    }
}

/// Describes a file that this kernel cannot execute.
fn foreign(head: &[u8]) -> String {
    let here = std::env::consts::ARCH;
    match head {
        [0x7f, b'E', b'L', b'F', ..] => {
            let machine = head
                .get(18..20)
                .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
            let known = MACHINES.iter().find(|(number, _)| Some(*number) == machine);
            match known {
                Some((_, name)) if *name != here => {
                    format!("it was built for {name}, and this machine is {here}")
                }
                _ => format!("it was not built for Linux on {here}"),
            }
        }
        [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            format!("it was built for macOS, and has to be built for Linux on {here}")
        }
        [b'M', b'Z', ..] => {
            format!("it was built for Windows, and has to be built for Linux on {here}")
        }
        _ => "it is no program, and its first line names no interpreter (such as #!/bin/sh)"
            .to_owned(),
    }
}

/// The original platform's texts.
impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NoBootstrap(files) => {
                write!(f, "Couldn't find valid bootstrap(s): [{}]", files.join(" "))
            }
            StartError::Program { program, source } => {
                write!(f, "fork/exec {program}: {}", error_text(source))
            }
        }
    }
}

/// The C library's text of an error, in lower case and without the number that the standard library adds.
fn error_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn strings(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    fn script(folder: &Path, text: &str, mode: u32) -> String {
        let path = folder.join(BOOTSTRAP);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        path.to_str().expect("a text").to_owned()
    }

    #[test]
    fn the_first_bootstrap_that_is_a_file_is_used_executable_or_not() {
        let (first, second) = (tempfile::tempdir(), tempfile::tempdir());
        let (first, second) = (first.expect("a directory"), second.expect("a directory"));
        let in_first = first.path().join(BOOTSTRAP);
        let in_second = script(second.path(), "#!/bin/true", 0o644);
        let in_first = in_first.to_str().expect("a text");
        let command = strings(&["/bin/sh", "-c", "exit 1", BOOTSTRAP, in_first, &in_second]);
        let found = || Entrypoint::of(&command).expect("one is there").program;
        assert_eq!(found(), in_second, "the first is missing");
        fs::create_dir(in_first).expect("made");
        assert_eq!(found(), in_second, "the first is a folder");
        let only = strings(&[in_first]);
        let none = Entrypoint::of(&only).expect_err("a folder").to_string();
        assert_eq!(
            none,
            format!("Couldn't find valid bootstrap(s): [{in_first}]")
        );
    }

    #[test]
    fn bash_runs_a_script_for_sh_unless_sh_is_bash() {
        let folder = tempfile::tempdir().expect("a directory");
        let is_bash = fs::canonicalize("/bin/sh").is_ok_and(|sh| sh.ends_with("bash"));
        for (line, before) in [
            ("#!/bin/sh", &["/bin/sh"][..]),
            ("#! /bin/sh -eu ", &["/bin/sh", "-eu"][..]),
            ("#!/usr/bin/env sh", &["sh"][..]),
        ] {
            let path = script(folder.path(), &format!("{line}\nsource x\n"), 0o755);
            let found = Entrypoint::of(&strings(&[&path])).expect("it is there");
            if !is_bash {
                assert!(found.program.ends_with("bash"), "{line}");
                assert_eq!(
                    found.arguments,
                    [&strings(before)[..], &strings(&[&path])].concat()
                );
            }
        }
        for line in [
            "#!/bin/sh\r",
            "#!/usr/bin/python3",
            "#!/usr/bin/env -S sh",
            "echo",
        ] {
            let path = script(folder.path(), &format!("{line}\n"), 0o755);
            let found = Entrypoint::of(&strings(&[&path])).expect("it is there");
            assert_eq!(
                (&found.program, found.arguments.len()),
                (&path, 1),
                "{line}"
            );
        }
        let path = script(folder.path(), "#!/bin/sh\n", 0o644);
        let found = Entrypoint::of(&strings(&[&path])).expect("it is there");
        assert_eq!(
            found.program, path,
            "the kernel has to report that it is not executable"
        );
    }

    #[test]
    fn errors_have_the_original_platforms_texts_and_advice_names_the_remedy() {
        let folder = tempfile::tempdir().expect("a directory");
        let arm = "\u{7f}ELF\u{2}\u{1}\u{1}\0\0\0\0\0\0\0\0\0\u{2}\0\u{28}\0";
        let cases = [
            (arm, libc::ENOEXEC, "exec format error", "built for arm"),
            ("MZ..", libc::ENOEXEC, "exec format error", "Windows"),
            (
                "echo\n",
                libc::ENOEXEC,
                "exec format error",
                "names no interpreter",
            ),
            (
                "#!/nonexistent\n",
                libc::ENOENT,
                "no such file or directory",
                "names /nonexistent",
            ),
            (
                "#!/bin/sh\r\n",
                libc::ENOENT,
                "no such file or directory",
                "LF",
            ),
            (arm, libc::ENOENT, "no such file or directory", "loader"),
            ("#!/bin/sh\n", libc::EACCES, "permission denied", "chmod +x"),
        ];
        for (text, code, words, advice) in cases {
            let program = script(folder.path(), text, 0o644);
            let source = io::Error::from_raw_os_error(code);
            let failed = StartError::program(&program)(source);
            assert_eq!(failed.to_string(), format!("fork/exec {program}: {words}"));
            let given = failed.advice().expect("advice");
            assert!(given.contains(advice), "{given}");
        }
    }
}
