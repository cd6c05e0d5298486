//! Which file of a crate uses which, and where they use each other in a circle.
//!
//! Reads tokens, not types: a path that begins with `crate`, `self`, `super`, a child module or an imported
//! module leads to the file of the deepest module in it. `mod` declarations alone are no use. What is only
//! compiled for tests or fuzzing is left out. Fed by `tree` and cargo's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The names of a module and of those that it is in, the crate's root left out.
type Module = Vec<String>;

/// The files of one target, and what each uses.
#[derive(Debug, Default)]
pub struct Graph {
    /// Where each module's source is.
    files: BTreeMap<Module, PathBuf>,
    edges: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

/// A file, or an inline module in one.
struct Part {
    module: Module,
    file: PathBuf,
    tokens: Vec<TokenTree>,
}

impl Graph {
    /// Of the target whose root is this file.
    pub fn read(root: &Path) -> Self {
        let folder = root.parent().expect("a file has a folder");
        let mut parts = Vec::new();
        load(Vec::new(), root, folder, &mut parts);
        let files = parts
            .iter()
            .map(|part| (part.module.clone(), part.file.clone()));
        let mut graph = Graph {
            files: files.collect(),
            edges: BTreeMap::new(),
        };
        for part in &parts {
            let aliases = graph.aliases(part);
            for path in paths(&part.tokens, &graph.starts(part, &aliases)) {
                let used = &graph.files[&graph.resolved(&part.module, &path, &aliases).0];
                if *used != part.file {
                    let edges = graph.edges.entry(part.file.clone()).or_default();
                    edges.insert(used.clone());
                }
            }
        }
        graph
    }

    /// The modules that a part imports by name.
    fn aliases(&self, part: &Part) -> BTreeMap<String, Module> {
        let none = BTreeMap::new();
        let imports = paths(&part.tokens, &self.starts(part, &none));
        let modules = imports.into_iter().filter_map(|path| {
            let (module, is_whole) = self.resolved(&part.module, &path, &none);
            let name = module.last().filter(|_| is_whole)?.clone();
            Some((name, module))
        });
        modules.collect()
    }

    /// The names that a path within the crate begins with.
    fn starts(&self, part: &Part, aliases: &BTreeMap<String, Module>) -> BTreeSet<String> {
        let keywords = ["crate", "self", "super"].map(str::to_owned);
        let children = self.files.keys().filter_map(|module| {
            let (name, parent) = module.split_last()?;
            (parent == part.module).then(|| name.clone())
        });
        let names = keywords.into_iter().chain(children);
        names.chain(aliases.keys().cloned()).collect()
    }

    /// The deepest module on a path, and whether the path is that module itself.
    fn resolved(
        &self,
        from: &Module,
        path: &[String],
        aliases: &BTreeMap<String, Module>,
    ) -> (Module, bool) {
        let mut module = from.clone();
        let mut rest = path;
        while let Some((first, further)) = rest.split_first() {
            let mut child = module.clone();
            child.push(first.clone());
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => {
                    module.pop();
                }
                _ if self.files.contains_key(&child) => module = child,
                name if rest.len() == path.len() && aliases.contains_key(name) => {
                    module.clone_from(&aliases[name]);
                }
                _ => return (module, false),
            }
            rest = further;
        }
        (module, true)
    }

    /// Groups of files that use each other, each group in order, by their paths below `root`.
    pub fn circles(&self, root: &Path) -> Vec<Vec<String>> {
        let reach = |start: &PathBuf| {
            let mut seen = BTreeSet::new();
            let mut open = vec![start];
            while let Some(file) = open.pop() {
                for next in self.edges.get(file).into_iter().flatten() {
                    if seen.insert(next) {
                        open.push(next);
                    }
                }
            }
            seen
        };
        let reach: BTreeMap<_, _> = self.edges.keys().map(|file| (file, reach(file))).collect();
        let mut groups = BTreeSet::new();
        for (file, reached) in reach
            .iter()
            .filter(|(file, reached)| reached.contains(*file))
        {
            let back = |other: &&&PathBuf| reach.get(**other).is_some_and(|all| all.contains(file));
            let group = reached.iter().filter(back);
            let group: BTreeSet<_> = group.map(|file| shown(file, root)).collect();
            groups.insert(Vec::from_iter(group));
        }
        groups.into_iter().collect()
    }

    /// The uses between two files of a group, as `a -> b`.
    pub fn edges_within(&self, group: &[String], root: &Path) -> Vec<String> {
        let edges = self.edges.iter().flat_map(|(file, used)| {
            let used = used
                .iter()
                .map(|used| (shown(file, root), shown(used, root)));
            Vec::from_iter(used)
        });
        let is_within = |(from, to): &(String, String)| group.contains(from) && group.contains(to);
        let edges = edges.filter(is_within);
        edges.map(|(from, to)| format!("{from} -> {to}")).collect()
    }
}

fn shown(file: &Path, root: &Path) -> String {
    let file = file.strip_prefix(root).unwrap_or(file);
    file.display().to_string()
}

/// Reads a file and the modules that it declares; `folder` has those that are files.
fn load(module: Module, file: &Path, folder: &Path, parts: &mut Vec<Part>) {
    let text = fs::read_to_string(file);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let tokens: TokenStream = text.parse().expect("a file that compiles has tokens");
    add(module, file, folder, tokens, parts);
}

fn add(module: Module, file: &Path, folder: &Path, tokens: TokenStream, parts: &mut Vec<Part>) {
    let mut kept = Vec::new();
    let mut tokens = shipped(tokens).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let name = match tokens.peek() {
            Some(TokenTree::Ident(name)) if is_word(&token, "mod") => name.to_string(),
            _ => {
                kept.push(token);
                continue;
            }
        };
        tokens.next();
        let mut child = module.clone();
        child.push(name.clone());
        let folder = folder.join(&name);
        match tokens.next() {
            Some(TokenTree::Group(inline)) => add(child, file, &folder, inline.stream(), parts),
            _ => {
                let beside = folder.with_extension("rs");
                let within = folder.join("mod.rs");
                let file = if beside.exists() { beside } else { within };
                load(child, &file, &folder, parts);
            }
        }
    }
    let file = file.to_owned();
    parts.push(Part {
        module,
        file,
        tokens: kept,
    });
}

/// The tokens without items that are compiled for tests or fuzzing alone.
fn shipped(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_attribute = is_mark(&token, '#');
        kept.push(token);
        let attribute = match tokens.peek() {
            Some(TokenTree::Group(group)) if is_attribute => group.stream(),
            _ => continue,
        };
        tokens.next();
        kept.pop();
        if is_for_tests(attribute) {
            // The item ends with a semicolon or a block.
            for token in tokens.by_ref() {
                let is_block = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_block || is_mark(&token, ';') {
                    break;
                }
            }
        }
    }
    kept
}

fn is_for_tests(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    let is_cfg = tokens.next().is_some_and(|token| is_word(&token, "cfg"));
    let condition = tokens.next().map(|token| token.to_string());
    let condition = condition.unwrap_or_default();
    let has = |word: &str| {
        let mut words = condition.split(|c: char| !c.is_alphanumeric());
        words.any(|found| found == word)
    };
    is_cfg && (has("test") || has("fuzzing")) && !has("not")
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// All paths that begin with one of these names.
fn paths(tokens: &[TokenTree], starts: &BTreeSet<String>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let goes_on = place > 0 && is_mark(&tokens[place - 1], ':') && {
            place > 1 && is_mark(&tokens[place - 2], ':')
        };
        let is_field = place > 0 && is_mark(&tokens[place - 1], '.');
        match &tokens[place] {
            TokenTree::Ident(ident) if starts.contains(&ident.to_string()) => {
                let is_path = !goes_on && !is_field && is_separator(&tokens[place + 1..]);
                if is_path {
                    place += path(&tokens[place..], Vec::new(), &mut found);
                    continue;
                }
            }
            TokenTree::Group(group) => {
                let inner = shipped(group.stream());
                found.extend(paths(&inner, starts));
            }
            _ => {}
        }
        place += 1;
    }
    found
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [first, second, ..] if is_mark(first, ':') && is_mark(second, ':'))
}

/// Reads one path, or the several that a group ends it with; returns how many tokens it is.
fn path(tokens: &[TokenTree], mut names: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let mut place = 0;
    loop {
        match tokens.get(place) {
            Some(TokenTree::Ident(name)) => {
                names.push(name.to_string());
                place += 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for one in inner.split(|token| is_mark(token, ',')) {
                    if !one.is_empty() {
                        path(one, names.clone(), found);
                    }
                }
                return place + 1;
            }
            _ => break,
        }
        if !is_separator(&tokens[place..]) {
            break;
        }
        place += 2;
    }
    // `self` at the end of a group is the module before it.
    if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
        names.pop();
    }
    found.push(names);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> (tempfile::TempDir, Graph) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let graph = Graph::read(&folder.path().join("lib.rs"));
        (folder, graph)
    }

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let (folder, graph) = graph(files);
        graph.circles(folder.path())
    }

    #[test]
    fn files_that_use_each_other_are_a_circle() {
        for b in [
            "use crate::a::X;",
            "use super::a::X;",
            "use crate::{c, a::X};",
            "fn f() { let x = crate::a::X; }",
            "fn f() { println!(\"{}\", super::a::X); }",
            "use crate::a; fn f() { a::f() }",
            "mod inner { use crate::a::X; }",
            "use crate::c; fn f() {} use crate::a::{self, X};",
        ] {
            let found = circles(&[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::b::Y;"),
                ("b.rs", b),
                ("c.rs", ""),
            ]);
            assert_eq!(found, [["a.rs", "b.rs"]], "{b}");
        }
    }

    #[test]
    fn a_parent_and_a_child_that_use_each_other_are_a_circle() {
        for (parent, child) in [
            ("mod child; use child::X;", "use super::Y;"),
            ("mod child; fn f() { child::f() }", "use crate::a::Y;"),
            ("mod child; pub use self::child::X;", "use super::*;"),
        ] {
            let found = circles(&[
                ("lib.rs", "mod a;"),
                ("a.rs", parent),
                ("a/child.rs", child),
            ]);
            assert_eq!(found, [["a.rs", "a/child.rs"]], "{parent}");
        }
    }

    #[test]
    fn a_use_in_one_direction_is_no_circle_nor_are_tests() {
        for b in [
            "",
            "#[cfg(test)] use crate::a::X;",
            "#[cfg(test)] mod tests { use crate::a::X; }",
            "#[cfg(any(test, fuzzing))] pub fn f() { crate::a::f() }",
            "/// Feeds [`crate::a::X`].\nfn f() {}",
            "use other::a::X; fn f(a: A) { a.a::<X>() }",
            "pub(crate) struct Crate;",
        ] {
            let found = circles(&[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::Y;"),
                ("b.rs", b),
            ]);
            assert_eq!(found, Vec::<Vec<String>>::new(), "{b}");
        }
    }

    #[test]
    fn an_imported_module_leads_to_the_files_below_it() {
        let (folder, graph) = graph(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "pub mod deep;"),
            ("a/deep.rs", "use crate::b::Y;"),
            ("b.rs", "use crate::a; fn f() { a::deep::f() }"),
        ]);
        let group = ["a/deep.rs".to_owned(), "b.rs".to_owned()];
        assert_eq!(graph.circles(folder.path()), std::slice::from_ref(&group));
        let edges = graph.edges_within(&group, folder.path());
        assert_eq!(edges, ["a/deep.rs -> b.rs", "b.rs -> a/deep.rs"]);
    }
}
