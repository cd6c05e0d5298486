//! Keeps the function, which runs as the same user, out of this process.
//!
//! `main` enters here before everything else. Afterwards the kernel refuses other processes of the user access to
//! this process's memory, descriptors and environment (ptrace, `/proc/<pid>/mem`, `fd`, `environ`); a program that
//! this process starts inherits no descriptor by mistake; and its variables, which hold secrets, are in memory
//! that only it has. Signals stay possible: the gateway's deadline for each lease is the answer to SIGSTOP.

use std::ffi::{OsStr, OsString, c_char};
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Standard input, output and error.
const STANDARD: i32 = 3;

/// The variables that this process was started with. The process's own environment has none any more.
#[derive(Debug, Default)]
pub struct Variables(Vec<(OsString, OsString)>);

#[allow(unsafe_code)]
unsafe extern "C" {
    // Not in `libc` for every C library.
    static mut environ: *mut *mut c_char;
}

/// Hardens this process. Returns what its environment held.
///
/// # Safety
/// Only while the process has a single thread, which holds no reference into the environment.
///
/// # Errors
/// If the kernel refuses, or does not show the process's descriptors.
#[allow(unsafe_code)]
pub unsafe fn enter() -> anyhow::Result<Variables> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("the kernel does not protect this process's memory")?;
    keep_descriptors().context("cannot list this process's descriptors in /proc/self/fd")?;
    let variables = Variables(std::env::vars_os().collect());
    // SAFETY: there is one thread, and `vars_os` has copied everything.
    unsafe { wipe_environment() };
    Ok(variables)
}

/// Has the kernel close inherited descriptors whenever this process starts a program. All that it opens itself
/// are closed then in any case.
#[allow(unsafe_code)]
fn keep_descriptors() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name();
        let number = number.to_str().and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|number| *number >= STANDARD) else {
            continue;
        };
        // SAFETY: it is open: it was listed, and there is no other thread.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    Ok(())
}

/// Overwrites the variables where the kernel put them, which `/proc/<pid>/environ` shows, and removes them.
///
/// # Safety
/// As for [`enter`].
#[allow(unsafe_code)]
unsafe fn wipe_environment() {
    // SAFETY: a null-terminated array of C strings, which the kernel made for this process to write to. Nobody
    // has changed it, and nobody reads it now.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            let text = *next;
            std::ptr::write_bytes(text, 0, libc::strlen(text));
            next = next.add(1);
        }
        environ = std::ptr::null_mut();
    }
}

impl Variables {
    /// Takes a variable out.
    pub fn take(&mut self, name: &str) -> Option<OsString> {
        let place = self
            .0
            .iter()
            .position(|(known, _)| known == OsStr::new(name));
        place.map(|place| self.0.swap_remove(place).1)
    }

    /// Adds a variable, as if this process had been started with it.
    pub(crate) fn put(&mut self, name: &str, value: String) {
        self.take(name);
        self.0.push((name.into(), value.into()));
    }

    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (OsString, OsString)> {
        self.0.into_iter()
    }
}
