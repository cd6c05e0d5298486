//! Runs the tools that preparation needs: an interpreter, `venv`, `pip`.
//!
//! Each runs in a process group of its own, which is killed when the caller drops the future. So an interrupted
//! preparation leaves no process behind. The output of a tool is shown only if it fails.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

/// How many lines of a failed tool are shown. The cause is at the end, or at the beginning, before advice.
const SHOWN_LINES: usize = 15;
const SHOWN_FIRST: usize = 5;

/// Runs a tool to its end.
///
/// # Errors
/// If it cannot be started or does not succeed; the error has the last lines of its output.
pub(crate) async fn run(command: &mut Command) -> Result<()> {
    let Output {
        status,
        stdout,
        stderr,
    } = output(command).await?;
    if status.success() {
        return Ok(());
    }
    let printed = [stdout, stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let lines: Vec<_> = printed
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let left_out = lines.len().saturating_sub(SHOWN_LINES);
    let first = &lines[..left_out.min(SHOWN_FIRST)];
    let gap = (left_out > SHOWN_FIRST).then_some("...");
    let shown_lines = first
        .iter()
        .copied()
        .chain(gap)
        .chain(lines[left_out..].iter().copied());
    let indented: String = shown_lines.map(|line| format!("\n    {line}")).collect();
    bail!("`{}` failed ({status}):{indented}", shown(command))
}

/// Runs a tool and returns its output, whether it succeeds or not.
pub(crate) async fn output(command: &mut Command) -> Result<Output> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", shown(command)))?;
    let _group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    child
        .wait_with_output()
        .await
        .with_context(|| format!("`{}` was lost", shown(command)))
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    // Only the beginning of a script.
    let brief = words.map(|word| {
        let word = word.to_string_lossy();
        let mut lines = word.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().unwrap_or_default().to_owned();
        match lines.next() {
            Some(_) => first + " ...",
            None => first,
        }
    });
    brief.collect::<Vec<_>>().join(" ")
}

/// A tool's process group, which is killed when dropped: `pip` and `venv` start processes of their own.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // A tool that has ended leaves an empty group, which is no error.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_tool_shows_its_last_lines() {
        let script = "for i in $(seq 40); do echo line $i; done; echo cause >&2; exit 3";
        let error = run(Command::new("sh").args(["-c", script]))
            .await
            .expect_err("it fails");
        let text = error.to_string();
        assert!(
            text.contains("exit status: 3") && text.ends_with("line 40\n    cause"),
            "{text}"
        );
        assert!(text.contains("line 5\n    ...\n    line 27\n"), "{text}");
        assert!(
            !text.contains("line 26\n") && text.contains("line 27\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn the_beginning_of_a_script_is_shown() {
        let mut command = Command::new("sh");
        let failed = run(command.args(["-c", "\nexit 1\nmore", "x"])).await;
        let text = failed.expect_err("it fails").to_string();
        assert!(text.starts_with("`sh -c exit 1 ... x` failed"), "{text}");
    }

    #[tokio::test]
    async fn a_tool_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("/absent/tool"))
            .await
            .expect_err("absent");
        assert_eq!(error.to_string(), "`/absent/tool` cannot be started");
    }
}
