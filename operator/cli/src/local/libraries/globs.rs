//! The patterns by which a workspace names its members: `packages/*`, `libs/**`, `!libs/old`.
//!
//! Fed by `workspace`. `*` stands for a part of a name, `**` for any folders.

use std::path::Path;

/// Whether the patterns name this folder, given relative to the workspace's root.
pub(super) fn name(patterns: &[String], folder: &Path) -> bool {
    let parts: Vec<_> = folder.iter().map(|part| part.to_string_lossy()).collect();
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let mut is_named = false;
    for pattern in patterns {
        let (is_without, pattern) = match pattern.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, pattern.as_str()),
        };
        let wanted: Vec<&str> = pattern
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if matches(&wanted, &parts) {
            is_named = !is_without;
        }
    }
    is_named
}

fn matches(wanted: &[&str], parts: &[&str]) -> bool {
    match (wanted, parts) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=parts.len()).any(|at| matches(rest, &parts[at..])),
        ([first, wanted @ ..], [part, parts @ ..]) => {
            part_matches(first, part) && matches(wanted, parts)
        }
        _ => false,
    }
}

fn part_matches(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => {
            let rest = part
                .strip_prefix(before)
                .filter(|_| !part.starts_with('.') || !before.is_empty());
            rest.is_some_and(|rest| {
                let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
                ends.any(|at| part_matches(after, &rest[at..]))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_folders_as_package_managers_read_them() {
        for (patterns, folder, is_named) in [
            (&["packages/*"][..], "packages/shop", true),
            (&["packages/*"], "packages/shop/inner", false),
            (&["./packages/*/"], "packages/shop", true),
            (&["packages/**"], "packages/a/b", true),
            (&["apps/*", "libs/shared"], "libs/shared", true),
            (&["packages/*", "!packages/old"], "packages/old", false),
            (&["pack*/s*p"], "packages/shop", true),
            (&["*"], ".cache", false),
            (&[], "shop", false),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|&one| one.to_owned()).collect();
            assert_eq!(
                name(&patterns, Path::new(folder)),
                is_named,
                "{patterns:?} {folder}"
            );
        }
    }
}
