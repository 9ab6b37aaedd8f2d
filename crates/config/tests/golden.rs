//! Golden files: for every directive what it becomes, for every kind of mistake what is said about it.
//! `UPDATE_GOLDEN=1 cargo test -p portunus-config golden` writes them anew; read the difference before committing it.
#![allow(clippy::unwrap_used)]

use portunus_config::{Environment, Mistakes, adapt, format, load, load_text};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn environment(name: &str) -> Option<String> {
    match name {
        "ADMIN_TOKEN" => Some("a-token-of-some-length".to_owned()),
        "STICKY_KEYS" => Some("the-first-of-two-keys the-second-of-two-keys".to_owned()),
        "API_KEY" => Some("k3y".to_owned()),
        _ => None,
    }
}

const GOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/config/good");
const BAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/config/bad");

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Compares `text` with the file, or writes the file.
fn compare(path: &Path, text: &str, differing: &mut Vec<String>) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
    } else if std::fs::read_to_string(path).ok().as_deref() != Some(text) {
        differing.push(format!("{} should be:\n{text}", path.display()));
    }
}

fn conf_files(directory: &Path) -> Vec<PathBuf> {
    let is_conf = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
    files(directory).into_iter().filter(is_conf).collect()
}

/// What is said about a file, with its name as it stands in its directory.
fn said(mistakes: Mistakes, directory: &Path) -> String {
    mistakes.to_string().replace(&format!("{}/", directory.display()), "")
}

fn finish(directory: &Path, read: BTreeSet<PathBuf>, differing: Vec<String>) {
    let unread: Vec<_> = files(directory).difference(&read).cloned().collect();
    assert!(unread.is_empty(), "no test reads {unread:?}");
    assert!(differing.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", differing.join("\n"));
}

#[test]
fn golden_configurations_become_what_they_should() {
    let directory = PathBuf::from(GOOD);
    let environment = Environment { variable: &environment, has_providers: true };
    let mut read = BTreeSet::new();
    let mut differing = Vec::new();
    for path in conf_files(&directory) {
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = match load(&path, &environment) {
            Ok(loaded) => loaded,
            Err(mistakes) => panic!("{}", said(mistakes, &directory)),
        };
        let json = adapt(&loaded.plan);
        let name = path.display().to_string();
        compare(&path.with_extension("json"), &json, &mut differing);
        read.extend([path.clone(), path.with_extension("json")]);
        if !loaded.warnings.is_empty() {
            compare(
                &path.with_extension("txt"),
                &said(Mistakes(loaded.warnings), &directory),
                &mut differing,
            );
            read.insert(path.with_extension("txt"));
        }
        read.extend(loaded.files);
        // What is printed means the same, and so does what is formatted.
        assert_eq!(load_text(&name, &json, &environment).unwrap().plan, loaded.plan, "{name}");
        let formatted = format(&name, &text).unwrap();
        assert_eq!(load_text(&name, &formatted, &environment).unwrap().plan, loaded.plan, "{name}");
        assert_eq!(format(&name, &formatted).unwrap(), formatted, "{name}");
    }
    finish(&directory, read, differing);
}

#[test]
fn golden_mistakes_are_told_as_they_should() {
    let directory = PathBuf::from(BAD);
    let environment = Environment { variable: &environment, has_providers: true };
    let mut read = BTreeSet::new();
    let mut differing = Vec::new();
    for path in conf_files(&directory) {
        let Err(mistakes) = load(&path, &environment) else { panic!("{} loads", path.display()) };
        compare(&path.with_extension("txt"), &said(mistakes, &directory), &mut differing);
        read.extend([path.clone(), path.with_extension("txt")]);
        // A configuration with mistakes does not say what it included; so look at what it names.
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        read.extend(
            text.split_whitespace().filter(|word| word.ends_with(".inc")).map(|word| directory.join(word)),
        );
    }
    read.retain(|path| path.exists());
    finish(&directory, read, differing);
}

#[test]
fn every_certificate_is_named_by_a_golden_file() {
    let named = [GOOD, BAD].map(|directory| {
        let read = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        conf_files(Path::new(directory)).iter().map(read).collect::<String>()
    });
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/certificates");
    for file in files(Path::new(own)) {
        let name = format!("certificates/{}", file.file_name().unwrap().to_string_lossy());
        assert!(named.iter().any(|text| text.contains(&name)), "no file names {name}");
    }
}

#[test]
fn every_directive_has_a_golden_file() {
    let texts = conf_files(Path::new(GOOD))
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect::<String>();
    let words: BTreeSet<&str> = texts.split_whitespace().collect();
    let registry = portunus_config::Registry::default();
    let forms = portunus_config::directives::FORMS.iter().map(|form| form.name);
    let filters = registry.filters.iter().map(|entry| entry.name);
    let policies = registry.policies.iter().map(|entry| entry.name);
    let limits = serde_json::to_value(portunus_message::Limits::default()).unwrap();
    let limits = limits.as_object().unwrap();
    let names = forms.chain(filters).chain(policies).chain(limits.keys().map(String::as_str));
    let missing: Vec<&str> = names.filter(|name| !words.contains(name)).collect();
    assert!(missing.is_empty(), "no file in tests/golden/config/good has {missing:?}");
}
