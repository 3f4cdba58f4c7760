//! Rings of files: those that import each other, by one step or by many.
//!
//! A file imports another when it names something of it, in a `use` or in a path.
//! That it declares a module is no import. Code of `#[cfg(test)]` modules does not
//! count.

use std::collections::{BTreeMap, BTreeSet};

/// A module, by the names that lead to it from the crate's root.
type Module = Vec<String>;

/// Which modules each module imports.
pub type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// What the files at these paths below `src/`, of these texts, import of each
/// other.
pub fn imports<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Imports {
    // What drives the library is no part of it.
    let files = files.into_iter().filter(|(path, _)| *path != "main.rs");
    let texts: BTreeMap<Module, &str> = files.map(|(path, text)| (module(path), text)).collect();
    let import = |(module, text): (&Module, &&str)| {
        let found = paths(text);
        let found = found.iter().filter_map(|path| target(&texts, module, path));
        let found = found.filter(|found| found != module && !found.is_empty());
        (module.clone(), found.collect())
    };
    texts.iter().map(import).collect()
}

/// The modules that lead back to themselves, in groups that lead to each other.
pub fn rings(imports: &Imports) -> Vec<Vec<String>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = imports
        .keys()
        .map(|module| (module, reachable(imports, module)))
        .collect();
    let mut rings: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, from) in &reached {
        let ring = from.iter().filter(|other| {
            reached
                .get(*other)
                .is_some_and(|back| back.contains(module))
        });
        let names: Vec<_> = ring.map(|module| module.join("::")).collect();
        if from.contains(module) {
            rings.insert(names);
        }
    }
    rings.into_iter().collect()
}

fn reachable<'a>(imports: &'a Imports, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(imports.get(module).into_iter().flatten());
        }
    }
    found
}

fn module(path: &str) -> Module {
    let path = path.strip_suffix(".rs").expect("a source file");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => vec![],
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// The file that `path`, written in `module`, names something of; none if that is
/// another crate's.
fn target(files: &BTreeMap<Module, &str>, module: &Module, path: &[String]) -> Option<Module> {
    let child = |name: &String| files.contains_key(&[module, std::slice::from_ref(name)].concat());
    let supers = path.iter().take_while(|name| *name == "super").count();
    let whole = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [module, &path[1..]].concat(),
        "super" => [
            &module[..module.len().checked_sub(supers)?],
            &path[supers..],
        ]
        .concat(),
        _ if child(&path[0]) => [module, path].concat(),
        _ => return None,
    };
    let mut files_of_it = (0..=whole.len()).rev().map(|length| &whole[..length]);
    files_of_it
        .find(|module| files.contains_key(*module))
        .map(<[String]>::to_vec)
}

/// Every path in a source text, those of a `use` written out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens(without_tests(text));
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = at == 0 || tokens[at - 1] != "::";
        if tokens[at] == "use" {
            at = tree(&tokens, at + 1, &[], &mut found);
        } else if begins && is_name(&tokens[at]) && tokens.get(at + 1).is_some_and(|t| t == "::") {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while tokens.get(at).is_some_and(|token| token == "::")
                && tokens.get(at + 1).is_some_and(|token| is_name(token))
            {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            found.push(path);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one tree of a `use` that stands at `at` and begins with `prefix`; where it
/// ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "::" => at += 1,
            "as" => at += 2,
            name if is_name(name) || name == "*" => {
                // `a::{self}` is `a`.
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                at += 1;
            }
            _ => break,
        }
    }
    found.push(path);
    at
}

/// `text` without the module of tests that ends it. One in a file of its own is
/// only declared, and what follows counts.
fn without_tests(text: &str) -> &str {
    let tests = text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        let line = text[*at..].lines().nth(1);
        line.is_some_and(|line| line.ends_with('{'))
    });
    tests.map_or(text, |(at, _)| &text[..at])
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The names, `::` and other signs of a text, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let length = end.unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the literal is that `text` begins with, if it does.
fn literal(text: &str) -> Option<usize> {
    let prefix = text
        .bytes()
        .take(3)
        .position(|b| matches!(b, b'"' | b'\''))?;
    if !["", "b", "c", "r", "br"].contains(&&text[..prefix]) {
        return raw(text);
    }
    let quote = text[prefix..].chars().next()?;
    if text[..prefix].ends_with('r') {
        return raw(text);
    }
    let mut escaped = false;
    let inside = text[prefix + 1..].char_indices();
    for (at, c) in inside {
        if !escaped && c == quote {
            return Some(prefix + 1 + at + 1);
        }
        // A lifetime: 'a, 'static.
        if quote == '\'' && at > 0 && !escaped && !text[prefix + 1..].starts_with('\\') {
            return None;
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// How long the raw string is that `text` begins with, if it does: `r#"…"#`.
fn raw(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.find(|c| c != '#')?;
    let begins = text.len() - after.len() + hashes;
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(begins + 1 + inside.find(&end)? + end.len())
}
