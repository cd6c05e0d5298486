//! What an archive may hold, and what it may not do.
//!
//! Archives are made here, good ones and hostile ones; `archive` unpacks them to a temporary
//! directory. Nothing is fetched.

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::*;

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
                // The safe setters refuse what a hostile archive holds.
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
fn a_file_does_not_follow_a_link_of_its_name() {
    let entries = [Link("file", "other"), Plain("file", 0o644, "x")];
    let (parent, unpacked) = unpacked(tarred(&entries));
    let error = format!("{:#}", unpacked.expect_err("refused"));
    assert!(error.contains("cannot be unpacked"), "{error}");
    assert!(!parent.path().join("root/other").exists());
}

#[test]
fn of_two_files_of_a_name_the_later_one_is_there() {
    let tar = tarred(&[Plain("a", 0o644, "longer"), Plain("a", 0o755, "x")]);
    let mut zip = Vec::new();
    let packed = zipped(&[Plain("a", 0o644, "longer"), Plain("b", 0o755, "x")]);
    { packed }.read_to_end(&mut zip).expect("read");
    for at in 0..zip.len() {
        // In the file's own header and in the list: a writer makes no such archive.
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
        (&[Link("up", "..")], "leads out"),
        (&[Link("a/up", "../../evil")], "leads out"),
        (&[Link("root", "/etc")], "leads out"),
        // Each is inside; the way through the other is not.
        (
            &[Link("here", "."), Link("out", "here/here/../..")],
            "goes up again",
        ),
        (
            &[Link("x/y/up", "../.."), Link("out", "x/y/up/../beside")],
            "goes up again",
        ),
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
fn what_it_unpacks_to_is_bounded() {
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
fn other_files_are_told_apart() {
    for content in ["", "PK", "<html>not found</html>"] {
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
fn what_is_packed_unpacks_below_the_prefix_as_it_was() {
    let from = tempfile::tempdir().expect("a directory");
    let files = [Plain("bin/run", 0o755, "#!"), Link("lib/run", "../bin/run")];
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
}
