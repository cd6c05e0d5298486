use std::collections::BTreeMap;

use super::*;

/// As a kernel of version 6 writes them, without some of the lines that are not read.
const V2_STAT: &str = "anon 157286400\nfile 1073741824\nkernel 2199552\nkernel_stack 98304\n\
    pagetables 983040\nsec_pagetables 0\npercpu 720\nsock 0\nvmalloc 0\nshmem 8388608\nzswap 0\n\
    file_mapped 1073741824\nfile_dirty 0\ninactive_anon 165670912\nactive_anon 4096\n";
const V2_EVENTS: &str = "low 0\nhigh 0\nmax 94\noom 3\noom_kill 2\noom_group_kill 0\n";
const V1_STAT: &str = "cache 1958825984\nrss 1900544\nrss_huge 0\nshmem 0\nmapped_file 4096\n\
    hierarchical_memory_limit 167772160\ntotal_cache 1958825984\ntotal_rss 157286400\n\
    total_rss_huge 0\ntotal_shmem 8388608\ntotal_mapped_file 4096\n";
const V1_CONTROL: &str = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn memory(mib: i128) -> MemoryMiB {
    mib.try_into().expect("within bounds")
}

#[test]
fn both_versions_count_anonymous_and_shared_memory_but_not_the_page_cache() {
    let v2 = folder(&[
        ("memory.stat", V2_STAT),
        ("memory.events", V2_EVENTS),
        ("memory.max", "167772160\n"),
        ("memory.oom.group", "1\n"),
    ]);
    let v1 = folder(&[
        ("memory.stat", V1_STAT),
        ("memory.oom_control", V1_CONTROL),
        ("memory.limit_in_bytes", "167772160\n"),
    ]);
    for (version, folder, kills_all) in [(Version::V2, v2, true), (Version::V1, v1, false)] {
        let group = Group::open(version, folder.path().to_owned()).expect("complete");
        assert_eq!(group.usage(), 158 * MIB);
        assert_eq!(group.kills(), 2);
        let bytes = Some(160 * MIB);
        assert_eq!(group.limit(), GroupLimit { bytes, kills_all });
        assert!(group.contains(rustix::process::getpid()));
        assert!(group.share_of_this_process() > 0);
    }
}

#[test]
fn each_version_has_its_own_way_to_say_that_there_is_no_limit() {
    let unlimited = GroupLimit {
        bytes: None,
        kills_all: false,
    };
    assert_eq!(limit(Version::V2, "max\n", "0\n"), unlimited);
    assert_eq!(limit(Version::V1, "9223372036854771712\n", ""), unlimited);
    assert_eq!(limit(Version::V2, "", ""), unlimited, "hidden");
}

#[test]
fn a_folder_without_the_figures_is_not_a_group() {
    let missing = folder(&[("memory.stat", V2_STAT)]);
    let foreign = folder(&[
        ("memory.stat", "cache 0\n"),
        ("memory.events", V2_EVENTS),
        ("memory.oom_control", V1_CONTROL),
    ]);
    for folder in [&missing, &foreign] {
        for version in [Version::V1, Version::V2] {
            assert!(Group::open(version, folder.path().to_owned()).is_none());
        }
    }
}

/// A `mountinfo` with these lines and one that is irrelevant.
fn mounts(lines: &[&str]) -> String {
    format!(
        "23 28 0:21 / /proc rw,nosuid - proc proc rw\n{}\n",
        lines.join("\n")
    )
}

#[test]
fn a_group_is_found_in_both_versions_with_namespaces_and_without() {
    let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
              35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    let v2 = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
    let pod = "/kubepods/burstable/pod7/c8";
    let in_pod_v1 =
        format!("95 90 0:32 {pod} /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory");
    let in_pod_v2 = "95 90 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw";
    let bound = format!("95 90 0:26 {pod} /sys/fs/cgroup ro - cgroup2 cgroup rw");
    let cases = [
        // A machine with systemd, version 2.
        (
            "0::/user.slice/a.scope\n".to_owned(),
            mounts(&[v2]),
            Version::V2,
            "/sys/fs/cgroup/user.slice/a.scope",
        ),
        // Both versions, with the memory controller in version 1.
        (
            "4:memory:/x/y\n3:cpu,cpuacct:/\n0::/z\n".to_owned(),
            mounts(&[v1, unified]),
            Version::V1,
            "/sys/fs/cgroup/memory/x/y",
        ),
        // Both versions, with version 1 lacking the memory controller.
        (
            "1:name=systemd:/\n0::/z\n".to_owned(),
            mounts(&[unified]),
            Version::V2,
            "/sys/fs/cgroup/unified/z",
        ),
        // A pod, whose mount or namespace begins at its own group.
        (
            format!("4:memory:{pod}\n"),
            mounts(&[&in_pod_v1]),
            Version::V1,
            "/sys/fs/cgroup/memory",
        ),
        (
            "0::/\n".to_owned(),
            mounts(&[in_pod_v2]),
            Version::V2,
            "/sys/fs/cgroup",
        ),
        (
            format!("0::{pod}/inner\n"),
            mounts(&[&bound]),
            Version::V2,
            "/sys/fs/cgroup/inner",
        ),
        // A group and a mount whose names do not match.
        (
            "0::/\n".to_owned(),
            mounts(&[&bound]),
            Version::V2,
            "/sys/fs/cgroup",
        ),
    ];
    for (groups, mounts, version, folder) in cases {
        let found = locate(&groups, &mounts);
        assert_eq!(found, Some((version, PathBuf::from(folder))), "{groups}");
    }
    assert_eq!(locate("0::/\n", &mounts(&[])), None);
    assert_eq!(locate("", &mounts(&[v2])), None);
}

/// A delegated group, as the kernel shows it.
fn delegated() -> (tempfile::TempDir, PathBuf) {
    let top = folder(&[("cgroup.subtree_control", "cpu memory pids\n")]);
    let own = top.path().join("shell.scope");
    fs::create_dir(&own).expect("made");
    fs::write(own.join("cgroup.subtree_control"), "").expect("written");
    (top, own)
}

#[test]
fn a_group_is_created_next_to_ones_own_if_the_controller_is_delegated() {
    let (top, own) = delegated();
    let name = format!("{PREFIX}{}", std::process::id());
    let dead = top.path().join(format!("{PREFIX}4999999"));
    fs::create_dir(&dead).expect("made");
    // It fails, because no kernel puts its files into the new group.
    assert!(Group::create_above(&own, memory(128)).is_none());
    assert!(!dead.exists(), "the process that created it has ended");

    let made = top.path().join(name);
    fs::create_dir_all(&made).expect("made");
    for (file, text) in [
        ("memory.stat", V2_STAT),
        ("memory.events", V2_EVENTS),
        ("cgroup.procs", "7\n"),
    ] {
        fs::write(made.join(file), text).expect("written");
    }
    let group = Group::limited(&made, memory(128)).expect("complete");
    assert_eq!(group.limit().bytes, Some(128 * MIB));
    let written: BTreeMap<_, _> = ["memory.max", "memory.swap.max"]
        .map(|file| (file, fs::read_to_string(made.join(file)).expect("written")))
        .into();
    assert_eq!(written["memory.max"], "134217728");
    assert_eq!(written["memory.swap.max"], "0");
    assert!(
        !group.contains(rustix::process::getpid()),
        "no process has entered it"
    );
    assert_eq!(group.share_of_this_process(), 0);
}

#[test]
fn no_group_is_created_if_the_controller_is_not_delegated() {
    let (top, own) = delegated();
    fs::write(top.path().join("cgroup.subtree_control"), "cpu pids\n").expect("written");
    assert!(Group::create_above(&own, memory(128)).is_none());
}
