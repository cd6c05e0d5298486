//! Archives from the web: a zip, a tar.gz, or a tar whose checksums are corrected here and that is then compressed.
//!
//! Whatever an archive holds, nothing is written outside the folder, and its content stays within the limits. The
//! unpacked files are packed for an instance, and arrive there unchanged, links included.

#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use pilotlight_archive::{fuzzing, pack};
use pilotlight_fuzz::sandbox::Sandbox;
use pilotlight_fuzz::tar::repaired;

const BYTES: u64 = 64 * 1024;
const ENTRIES: usize = 64;

thread_local! {
    static SANDBOX: RefCell<Sandbox> = RefCell::new(Sandbox::new());
}

fuzz_target!(|data: &[u8]| {
    SANDBOX.with_borrow_mut(|sandbox| unpack(sandbox, data));
});

fn unpack(sandbox: &mut Sandbox, data: &[u8]) {
    let root = sandbox.root();
    let archive = match data {
        [b'P', b'K', ..] | [0x1f, 0x8b, ..] => stored(data),
        tar => stored(&packed(&repaired(tar))),
    };
    let unpacked = fuzzing::unpack_within(archive, &root, BYTES, ENTRIES);
    let found = sandbox.check();
    // An archive that exceeds a limit is refused at the first byte or entry above it, which stays on the disk.
    assert!(
        found.bytes <= BYTES + 1 && found.entries <= ENTRIES,
        "{found:?}"
    );
    match unpacked {
        Err(error) => assert!(format!("{error:#}").starts_with("url: "), "{error:#}"),
        Ok(()) => {
            assert!(found.bytes <= BYTES, "{found:?}");
            let tar = pack(&root, "var/task", stored(b"")).expect("packed");
            let mut tar = tar;
            tar.rewind().expect("at its start");
            let root = sandbox.root();
            tar::Archive::new(tar)
                .unpack(&root)
                .expect("what is packed is unpacked");
            let arrived = sandbox.check();
            assert_eq!(arrived.bytes, found.bytes);
            let links = found.links.into_iter();
            let links = links.map(|(place, to)| (Path::new("var/task").join(place), to));
            assert!(
                arrived.links.into_iter().eq(links),
                "links are what they were"
            );
            // And the two directories of the prefix.
            let above = usize::from(found.entries > 0) * 2;
            assert_eq!(arrived.entries, found.entries + above);
        }
    }
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(tar).expect("written");
    packer.finish().expect("written")
}

fn stored(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("at its start");
    file
}
