//! Which archives are unpacked, and which are refused.
//!
//! The tests make good and hostile archives and unpack them to a temporary directory. Nothing is fetched.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::limits::Limits;
use super::*;
use crate::unpack::NAME_LIMIT;

const LIMIT: u64 = 1000;
const WITHIN: Limits = Limits {
    bytes: LIMIT,
    entries: 10,
};

enum Entry<'a> {
    File(&'a str, u32, &'a str),
    Link(&'a str, &'a str),
}
use Entry::{File as Plain, Link};

fn zipped(entries: &[Entry]) -> File {
    let mut writer = zip::ZipWriter::new(tempfile::tempfile().expect("a file"));
    for entry in entries {
        match entry {
            Plain(name, mode, text) => {
                let options = SimpleFileOptions::default().unix_permissions(*mode);
                writer.start_file(*name, options).expect("an entry");
                writer.write_all(text.as_bytes()).expect("written");
            }
            Link(name, to) => {
                writer
                    .add_symlink(*name, *to, SimpleFileOptions::default())
                    .expect("an entry");
            }
        }
    }
    let mut file = writer.finish().expect("a zip file");
    file.rewind().expect("at its start");
    file
}

fn tarred(entries: &[Entry]) -> File {
    let file = tempfile::tempfile().expect("a file");
    let mut builder = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let (name, text) = match entry {
            Plain(name, mode, text) => {
                header.set_mode(*mode);
                (*name, *text)
            }
            Link(name, to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                // The safe setters refuse the names of a hostile archive.
                header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
                (*name, "")
            }
        };
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).expect("an entry");
    }
    let mut file = builder
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("a tar.gz file");
    file.rewind().expect("at its start");
    file
}

fn both(entries: &[Entry]) -> [(TempDir, Result<()>); 2] {
    [zipped(entries), tarred(entries)].map(unpacked)
}

fn unpacked(file: File) -> (TempDir, Result<()>) {
    let parent = tempfile::tempdir().expect("a directory");
    let root = parent.path().join("root");
    fs::create_dir(&root).expect("made");
    let unpacked = unpack_within(file, &root, WITHIN);
    (parent, unpacked)
}

#[test]
fn files_keep_their_place_content_and_executable_bit() {
    for (parent, unpacked) in both(&[
        Plain("bootstrap", 0o755, "#!/bin/sh"),
        Plain("./lib/deep/a.py", 0o600, "1"),
        Link("lib/again", "../bootstrap"),
    ]) {
        unpacked.expect("unpacked");
        let root = parent.path().join("root");
        let mode = |name: &str| {
            fs::metadata(root.join(name))
                .expect("a file")
                .permissions()
                .mode()
        };
        assert_eq!(mode("bootstrap") & 0o777, 0o755);
        assert_eq!(mode("lib/deep/a.py") & 0o777, 0o644);
        assert_eq!(
            fs::read_to_string(root.join("lib/again")).expect("a link"),
            "#!/bin/sh"
        );
    }
}

#[test]
fn a_link_is_kept_wherever_it_leads() {
    let links = [
        ("node_modules", "/opt/nodejs/node_modules"),
        ("lib/deep/up", "../../../../../etc/passwd"),
        ("here", "."),
        ("lib/out", "../here/../.."),
        ("lib/absent", "not/there"),
        ("loop", "loop"),
    ];
    for (parent, unpacked) in both(&links.map(|(name, to)| Link(name, to))) {
        unpacked.expect("unpacked");
        for (name, to) in links {
            let link = fs::read_link(parent.path().join("root").join(name));
            assert_eq!(link.expect("a link"), Path::new(to), "{name}");
        }
    }
}

#[test]
fn a_later_entry_replaces_a_file_or_link_of_the_same_name() {
    let entries = [Link("file", "../other"), Plain("file", 0o644, "x")];
    let (parent, over) = unpacked(tarred(&entries));
    over.expect("unpacked");
    let root = parent.path().join("root");
    assert!(!root.join("file").is_symlink() && !parent.path().join("other").exists());
    let entries = [
        Plain("file", 0o644, "x"),
        Link("file", "a"),
        Link("file", "b"),
    ];
    let (parent, over) = unpacked(tarred(&entries));
    over.expect("unpacked");
    let link = fs::read_link(parent.path().join("root/file")).expect("a link");
    assert_eq!(link, Path::new("b"));
}

#[test]
fn a_hard_link_is_a_copy_of_a_file_before_it() {
    let hard = |name: &str, of: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + of.len()].copy_from_slice(of.as_bytes());
        header.set_size(0);
        header.set_cksum();
        header
    };
    let with = |name: &str, of: &str, before: &[Entry]| {
        let mut tar = Vec::new();
        let mut gz = flate2::read::GzDecoder::new(tarred(before));
        gz.read_to_end(&mut tar).expect("a tar");
        tar.truncate(tar.len() - 1024);
        tar.extend(hard(name, of).as_bytes());
        let mut packer = GzEncoder::new(tempfile::tempfile().expect("a file"), Compression::fast());
        packer.write_all(&tar).expect("written");
        let mut file = packer.finish().expect("a tar.gz file");
        file.rewind().expect("at its start");
        unpacked(file)
    };
    let before = [Plain("a/run", 0o755, "#!"), Link("etc", "/etc")];
    let (parent, copied) = with("b/again", "./a/run", &before);
    copied.expect("unpacked");
    let again = parent.path().join("root/b/again");
    assert_eq!(fs::read_to_string(&again).expect("a file"), "#!");
    let mode = again.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let (_, same) = with("a/run", "a/run", &before);
    same.expect("unpacked");
    for of in [
        "/etc/passwd",
        "../beside",
        "etc/passwd",
        "etc",
        "absent",
        "a",
    ] {
        let (_, refused) = with("b", of, &before);
        let error = format!("{:#}", refused.expect_err(of));
        assert!(
            error.contains("outside") || error.contains("no file of the archive"),
            "{error}"
        );
    }
}

#[test]
fn a_later_file_replaces_an_earlier_one_of_the_same_name() {
    let tar = tarred(&[Plain("a", 0o644, "longer"), Plain("a", 0o755, "x")]);
    let mut zip = Vec::new();
    let packed = zipped(&[Plain("a", 0o644, "longer"), Plain("b", 0o755, "x")]);
    { packed }.read_to_end(&mut zip).expect("read");
    for at in 0..zip.len() {
        // Both in the file's own header and in the central directory: no writer makes such an archive.
        if zip[at] == b'b' && zip[..at].ends_with(b"\0\0") {
            zip[at] = b'a';
        }
    }
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&zip).expect("written");
    file.rewind().expect("at its start");
    for (parent, unpacked) in [tar, file].map(unpacked) {
        unpacked.expect("unpacked");
        let text = fs::read_to_string(parent.path().join("root/a"));
        assert_eq!(text.expect("a file"), "x");
    }
}

#[test]
fn a_file_is_no_directory() {
    for (_, unpacked) in both(&[Plain("a", 0o644, "x"), Plain("a/b", 0o644, "x")]) {
        let error = format!("{:#}", unpacked.expect_err("refused"));
        assert_eq!(error, "url: a/b lies below a file");
    }
}

#[test]
fn directories_count_as_files_do() {
    let deep = "d/".repeat(WITHIN.entries) + "f";
    for (_, unpacked) in both(&[Plain(&deep, 0o644, "x")]) {
        let error = format!("{:#}", unpacked.expect_err("too many"));
        assert!(error.contains("files and directories"), "{error}");
    }
}

#[test]
fn a_tars_names_and_attributes_are_bounded() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 * NAME_LIMIT);
    header.set_cksum();
    let file = tempfile::tempfile().expect("a file");
    let mut builder = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    let name = io::repeat(b'a').take(2 * NAME_LIMIT);
    builder.append(&header, name).expect("an entry");
    let packed = builder.into_inner().and_then(GzEncoder::finish);
    let mut file = packed.expect("a tar.gz file");
    file.rewind().expect("at its start");
    let (_, unpacked) = unpacked(file);
    let error = format!("{:#}", unpacked.expect_err("too long"));
    assert!(error.ends_with("too long names or attributes"), "{error}");
}

#[test]
fn a_tar_gz_of_several_members_is_read_to_its_end() {
    let mut file = tempfile::tempfile().expect("a file");
    for entry in [Plain("a", 0o644, "1"), Plain("b", 0o644, "2")] {
        let mut tar = Vec::new();
        let mut gz = flate2::read::GzDecoder::new(tarred(&[entry]));
        gz.read_to_end(&mut tar).expect("a tar");
        // Without the zeros that end it.
        let mut member = GzEncoder::new(&file, Compression::fast());
        member.write_all(&tar[..1024]).expect("written");
        member.finish().expect("written");
    }
    file.rewind().expect("at its start");
    let (parent, unpacked) = unpacked(file);
    unpacked.expect("unpacked");
    assert!(parent.path().join("root/b").exists());
}

#[test]
fn nothing_lands_outside_the_directory() {
    for (entries, said) in [
        (&[Plain("../evil", 0o644, "x")][..], "outside"),
        (&[Plain("a/../../evil", 0o644, "x")], "outside"),
        (&[Plain("/tmp/evil", 0o644, "x")], "outside"),
        (
            &[Link("up", ".."), Plain("up/evil", 0o644, "x")],
            "below a link",
        ),
        (
            &[Link("a/up", "../.."), Plain("a/up/b/evil", 0o644, "x")],
            "below a link",
        ),
        (&[Link("up", ".."), Link("up/evil", "x")], "below a link"),
        (&[Link(".", "..")], "no name"),
        (&[Plain(".", 0o644, "x")], "no name"),
        (
            &[Link("here", "."), Plain("here/evil", 0o644, "x")],
            "below a link",
        ),
    ] {
        for (parent, unpacked) in both(entries) {
            let error = format!("{:#}", unpacked.expect_err(said));
            assert!(
                error.starts_with("url: ") && error.contains(said),
                "{error}"
            );
            assert_eq!(fs::read_dir(parent.path()).expect("a directory").count(), 1);
        }
    }
}

#[test]
fn the_unpacked_size_is_bounded() {
    let half = "x".repeat(LIMIT as usize / 2);
    for (_, unpacked) in both(&[Plain("a", 0o644, &half), Plain("b", 0o644, &half)]) {
        unpacked.expect("it just fits");
    }
    let more = format!("{half}x");
    for (_, unpacked) in both(&[Plain("a", 0o644, &half), Plain("b", 0o644, &more)]) {
        assert!(
            unpacked
                .expect_err("too large")
                .to_string()
                .contains("more than its limit")
        );
    }
}

#[test]
fn a_zip_after_a_shebang_line_is_a_zip() {
    let mut zip = Vec::new();
    let mut plain = zipped(&[Plain("a.txt", 0o644, "a"), Plain("b/c.txt", 0o644, "c")]);
    plain.rewind().expect("at its start");
    std::io::Read::read_to_end(&mut plain, &mut zip).expect("read");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"#!/usr/bin/env python3\n")
        .expect("written");
    file.write_all(&zip).expect("written");
    file.rewind().expect("at its start");
    let root = tempfile::tempdir().expect("a directory");
    unpack_within(file, root.path(), WITHIN).expect("unpacked");
    let text = |name| std::fs::read_to_string(root.path().join(name)).expect("a file");
    assert_eq!((text("a.txt"), text("b/c.txt")), ("a".into(), "c".into()));
}

#[test]
fn other_files_are_refused() {
    for content in ["", "PK", "<html>not found</html>", "#!/bin/sh\nno zip\n"] {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content.as_bytes()).expect("written");
        file.rewind().expect("at its start");
        let root = tempfile::tempdir().expect("a directory");
        let error = unpack_within(file, root.path(), WITHIN).expect_err("no archive");
        assert!(
            error.to_string().contains("neither a zip nor a tar.gz"),
            "{error}"
        );
    }
}

#[test]
fn packed_code_unpacks_below_the_prefix_unchanged() {
    let from = tempfile::tempdir().expect("a directory");
    let files = [
        Plain("bin/run", 0o755, "#!"),
        Link("lib/run", "../bin/run"),
        Link("modules", "/opt/nodejs/node_modules"),
    ];
    unpack_within(zipped(&files), from.path(), WITHIN).expect("unpacked");
    let packed = pack(
        from.path(),
        "var/task",
        tempfile::tempfile().expect("a file"),
    );
    let mut packed = packed.expect("packed");
    packed.rewind().expect("at its start");
    let to = tempfile::tempdir().expect("a directory");
    tar::Archive::new(packed)
        .unpack(to.path())
        .expect("unpacked");
    let run = to.path().join("var/task/bin/run");
    let mode = run.metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let link = fs::read_link(to.path().join("var/task/lib/run")).expect("a link");
    assert_eq!(link, Path::new("../bin/run"));
    let link = fs::read_link(to.path().join("var/task/modules")).expect("a link");
    assert_eq!(link, Path::new("/opt/nodejs/node_modules"));
}

/// A zip as another system writes it: names and attributes as they are given.
fn foreign(system: u8, entries: &[(&str, u32, &str)]) -> File {
    let names: Vec<String> = (0..entries.len()).map(|n| format!("entry-{n}")).collect();
    let plain: Vec<Entry> = names
        .iter()
        .zip(entries)
        .map(|(name, (_, _, text))| Plain(name, 0o644, text))
        .collect();
    let mut zip = Vec::new();
    zipped(&plain).read_to_end(&mut zip).expect("read");
    // Only the central directory counts. Its names get other lengths, so its end moves by the difference.
    let end = zip.len() - 22;
    let start = u32::from_le_bytes(zip[end + 16..end + 20].try_into().expect("four")) as usize;
    let (mut list, mut at) = (Vec::new(), start);
    for (name, attributes, _) in entries {
        let length = |field: usize| u16::from_le_bytes([zip[at + field], zip[at + field + 1]]);
        let rest = usize::from(length(30)) + usize::from(length(32));
        let name_end = at + 46 + usize::from(length(28));
        let mut header = zip[at..at + 46].to_vec();
        header[5] = system;
        header[28..30].copy_from_slice(&u16::try_from(name.len()).expect("short").to_le_bytes());
        header[38..42].copy_from_slice(&attributes.to_le_bytes());
        list.extend(header);
        list.extend(name.as_bytes());
        list.extend(&zip[name_end..name_end + rest]);
        at = name_end + rest;
    }
    let mut trailer = zip[end..].to_vec();
    trailer[12..16].copy_from_slice(&u32::try_from(list.len()).expect("short").to_le_bytes());
    stored(&[&zip[..start], &list[..], &trailer[..]].concat())
}

fn stored(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file.rewind().expect("at its start");
    file
}

const DOS: u8 = 0;
const UNIX: u8 = 3;

#[test]
fn a_zip_from_windows_has_its_folders_and_may_have_programs() {
    for (name, attributes, system) in [
        ("bin\\run", 0x20, DOS),
        ("bin/run", 0, UNIX),
        (".\\bin/run", 0, 10),
        ("\\bin\\run", 0x21, DOS),
        ("bin\\run", 0o100_666 << 16, DOS),
    ] {
        let entries = [
            ("bin\\", 0x10, ""),
            (name, attributes, "#!"),
            ("lib", 0x10, ""),
        ];
        let entries = if system == DOS {
            &entries[..]
        } else {
            &entries[1..2]
        };
        let (parent, unpacked) = unpacked(foreign(system, entries));
        unpacked.expect(name);
        let run = parent.path().join("root/bin/run");
        let mode = run.metadata().expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{name}");
        let lib = parent.path().join("root/lib");
        assert_eq!(lib.is_dir(), system == DOS);
    }
    let (parent, kept) = unpacked(foreign(UNIX, &[("a", 0o100_644 << 16, "x")]));
    kept.expect("unpacked");
    let mode = parent
        .path()
        .join("root/a")
        .metadata()
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn names_of_windows_that_lead_outside_are_refused_with_advice() {
    for (name, said) in [
        ("C:\\work\\app.py", "from inside of the code's folder"),
        ("d:/work/app.py", "from inside of the code's folder"),
        (
            "\\\\server\\share\\app.py",
            "from inside of the code's folder",
        ),
        ("..\\evil", "outside"),
        ("a\\..\\..\\evil", "outside"),
        ("\\..\\evil", "outside"),
    ] {
        let (parent, unpacked) = unpacked(foreign(DOS, &[(name, 0x20, "x")]));
        let error = format!("{:#}", unpacked.expect_err(name));
        assert!(
            error.starts_with("url: ") && error.contains(said),
            "{error}"
        );
        assert_eq!(fs::read_dir(parent.path()).expect("a directory").count(), 1);
    }
}

#[test]
fn an_entry_of_a_zip_that_cannot_be_read_is_named_with_advice() {
    let changed = |at: usize, value: u16| {
        let mut zip = Vec::new();
        zipped(&[Plain("app.py", 0o644, "x")])
            .read_to_end(&mut zip)
            .expect("read");
        let list = zip.len() - 22 - 46 - "app.py".len();
        for (start, at) in [(0, at - 2), (list, at)] {
            let place = start + at..start + at + 2;
            zip[place].copy_from_slice(&value.to_le_bytes());
        }
        let (_, unpacked) = unpacked(stored(&zip));
        format!("{:#}", unpacked.expect_err("refused"))
    };
    let error = changed(8, 1);
    assert_eq!(
        error,
        "url: app.py is encrypted: make the zip file again without a password"
    );
    for (method, name) in [
        (9, "deflate64"),
        (12, "bzip2"),
        (14, "LZMA"),
        (93, "zstd"),
        (6, "method 6"),
    ] {
        let error = changed(10, method);
        let expected = format!("url: app.py is compressed by {name}");
        assert!(
            error.starts_with(&expected) && error.contains("with deflate"),
            "{error}"
        );
    }
}

#[test]
fn the_format_of_large_zips_is_read() {
    let mut writer = zip::ZipWriter::new(tempfile::tempfile().expect("a file"));
    let options = SimpleFileOptions::default().large_file(true);
    writer.start_file("lib/a.py", options).expect("an entry");
    writer.write_all(b"1").expect("written");
    let mut file = writer.finish().expect("a zip file");
    file.rewind().expect("at its start");
    let (parent, unpacked) = unpacked(file);
    unpacked.expect("unpacked");
    assert!(parent.path().join("root/lib/a.py").exists());
}
