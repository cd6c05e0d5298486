//! Advice for runtime names without a description: names of the original platform, and misspelt ones.
//!
//! `lib` asks only when a name has no description, so a user's own description takes precedence.
//! Names are canonical (`core::function::Runtime`).

/// Runtimes of the original platform without a description here.
const ELSEWHERE: [&str; 7] = [
    "dotnet10",
    "dotnet6",
    "dotnet8",
    "java11",
    "java8.al2",
    "nodejs16",
    "nodejs18",
];

/// Runtimes that the original platform has withdrawn.
const RETIRED: [&str; 23] = [
    "dotnet5.0",
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "java8",
    "nodejs",
    "nodejs10",
    "nodejs12",
    "nodejs14",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "provided",
    "python2.7",
    "python3.6",
    "python3.7",
    "ruby2.5",
    "ruby2.7",
    "dotnet7",
    "nodejs19",
];

/// The original platform's spellings of names that have a description here.
const ALIASES: [&str; 5] = [
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "provided.al2",
    "provided.al2023",
];

/// A name at this edit distance or more is not suggested.
const TYPOS: usize = 3;

/// The kind of a name without a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    Elsewhere(String),
    Retired(String),
    Unknown { near: Option<String> },
}

/// `name`: as it was written; `canonical`: the same; `known`: names that have a description.
pub(crate) fn lacking(name: &str, canonical: &str, known: &[&str]) -> Lacking {
    if ELSEWHERE.contains(&canonical) {
        return Lacking::Elsewhere(advice(canonical, known));
    }
    if RETIRED.contains(&canonical) {
        return Lacking::Retired(advice(canonical, known));
    }
    let all = known.iter().chain(&ALIASES).chain(&ELSEWHERE);
    let distance = |other: &&&str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let near = all.min_by_key(distance);
    let near = near.filter(|near| distance(near) < TYPOS && distance(near) < near.len() / 2);
    Lacking::Unknown {
        near: near.map(|near| (*near).to_owned()),
    }
}

/// The alternatives to a runtime.
fn advice(name: &str, known: &[&str]) -> String {
    let family = &name[..name
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(name.len())];
    let program = "provided.al2023 with the program as `bootstrap`";
    match family {
        "dotnet" | "dotnetcore" => "publish the function as a self-contained `bootstrap` and use \
                                    provided.al2023, or use dotnet, which runs assemblies on Mono"
            .to_owned(),
        "go" => format!("use go, or {program}"),
        "provided" => format!("use {program}"),
        _ => {
            let like = known.iter().filter(|one| {
                one.strip_prefix(family)
                    .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            });
            format!("use {}", Vec::from_iter(like.copied()).join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = [
        "custom",
        "go",
        "java17",
        "nodejs22",
        "python3.11",
        "python3.12",
    ];

    #[test]
    fn a_retired_name_gets_its_alternatives() {
        for (name, canonical, instead) in [
            ("python2.7", "python2.7", "use python3.11 or python3.12"),
            ("nodejs14.x", "nodejs14", "use nodejs22"),
            ("java8", "java8", "use java17"),
            ("go1.x", "go1.x", "use go, or provided.al2023"),
            ("provided", "provided", "use provided.al2023"),
        ] {
            match lacking(name, canonical, &KNOWN) {
                Lacking::Retired(advice) => assert!(advice.starts_with(instead), "{advice}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_current_name_without_a_description_gets_advice() {
        let dotnet = lacking("dotnet8", "dotnet8", &KNOWN);
        let Lacking::Elsewhere(advice) = dotnet else {
            panic!("{dotnet:?}");
        };
        assert!(advice.contains("self-contained `bootstrap`"), "{advice}");
    }

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        for (name, near) in [
            ("pyhton3.11", Some("python3.11")),
            ("nodejs22x", Some("nodejs22")),
            ("provided.al2032", Some("provided.al2023")),
            ("python", None),
            ("java", Some("java17")),
            ("cobol", None),
            ("cstm", Some("custom")),
        ] {
            let near = near.map(str::to_owned);
            let found = lacking(name, name, &KNOWN);
            assert_eq!(found, Lacking::Unknown { near }, "{name}");
        }
    }
}
