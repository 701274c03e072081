//! What is wrong between files, put into words: references that lead nowhere, objects defined
//! twice, Services that select nothing. `catalog` decides which; the wording, with its "did you
//! mean", is done only when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::diagnostic::{Diagnostic, Place, Severity};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{Reference, ReferenceKind, Resource, Spec};
use crate::manifest::catalog::Catalog;
use crate::manifest::findings::{Findings, MAX_PER_FILE, did_you_mean};
use crate::manifest::tree::Span;

/// As many as are kept of one file.
const MAX_CROSSING: usize = MAX_PER_FILE;

pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let dangling = catalog.dangling.iter().flat_map(|key| dangling(catalog, key));
    let doubled = catalog.doubled.iter().flat_map(|key| doubled(catalog, key));
    let idle = catalog.idle_services.iter().filter_map(|key| idle(catalog, key));
    let all = dangling.chain(doubled).chain(settings(catalog)).chain(idle);
    let mut all: Vec<_> = all.take(MAX_CROSSING).collect();
    add_lines(catalog, &mut all);
    if let Some(last) = all.last().filter(|_| all.len() == MAX_CROSSING) {
        let message = format!("only {MAX_CROSSING} findings between files are listed");
        all.push(Diagnostic::new(Severity::Error, last.place.clone(), "too-many", message));
    }
    all.extend(rendered(catalog));
    all
}

/// What people call an object: its kind and name, and its namespace where that is not the default.
fn called(key: &ObjectKey) -> String {
    match &*key.namespace {
        "" | "default" => format!("{} `{}`", key.kind, key.name),
        namespace => format!("{} `{}` in namespace `{namespace}`", key.kind, key.name),
    }
}

fn resource<'a>(catalog: &'a Catalog, key: &ObjectKey) -> Option<&'a Arc<Resource>> {
    catalog.definitions.get(key)?.first()?.resource.as_ref()
}

fn dangling(catalog: &Catalog, key: &ObjectKey) -> Vec<Diagnostic> {
    let Some(resource) = resource(catalog, key) else { return Vec::new() };
    let missing = catalog.missing_keys_of(resource);
    let missing = missing.map(|(reference, name)| missing_key(catalog, resource, reference, name));
    catalog.dangling_of(resource).map(|it| dangling_one(catalog, key, it)).chain(missing).collect()
}

fn missing_key(
    catalog: &Catalog,
    resource: &Resource,
    reference: &Reference,
    name: &str,
) -> Diagnostic {
    let (key, to) = (called(&resource.key), &reference.to);
    let message = format!("{key} reads the key `{name}` of {}, which has no such key", called(to));
    let known = catalog.config(to).into_iter().flat_map(|it| it.entries.keys());
    let hint = did_you_mean(name, known.map(String::as_str));
    let field = reference.field.trim_end_matches("name").to_owned() + "key";
    let Place { file, line, column } = reference.place.clone();
    let (line, column) = resource.fields.nearest(&field).unwrap_or((line, column));
    let place = Place { file, line, column };
    Diagnostic::new(Severity::Error, place, "dangling-reference", message).with_hint(hint)
}

fn dangling_one(catalog: &Catalog, key: &ObjectKey, reference: &Reference) -> Diagnostic {
    let to = &reference.to;
    let message = match (to.kind, reference.kind) {
        (Kind::Namespace, _) => {
            let (kind, name) = (key.kind, &key.name);
            format!("{kind} `{name}` is in namespace `{}`, which no manifest defines", to.name)
        }
        (_, ReferenceKind::DependsOn) => {
            format!("{} waits for {}, which no manifest defines", called(key), called(to))
        }
        _ => format!("{} refers to {}, which no manifest defines", called(key), called(to)),
    };
    let hidden = || {
        let file = catalog.unreadable.iter().next()?;
        Some(format!("it may be in `{file}`, which can't be read"))
    };
    let hint = nearby(catalog, to).or_else(hidden).or_else(|| elsewhere(catalog, to));
    let hint = hint.or_else(|| match to.kind {
        Kind::Namespace => Some(format!("add a Namespace manifest for `{}`", to.name)),
        Kind::StorageClass => Some("leave `storageClassName` out for the default class".to_owned()),
        _ => None,
    });
    let diagnostic =
        Diagnostic::new(Severity::Error, reference.place.clone(), "dangling-reference", message);
    diagnostic.with_hint(hint)
}

/// An object of that kind, in the same namespace, with a similar name.
fn nearby(catalog: &Catalog, to: &ObjectKey) -> Option<String> {
    let first = ObjectKey { kind: to.kind, namespace: to.namespace.clone(), name: "".into() };
    let names = catalog
        .definitions
        .range(first..)
        .map(|(key, _)| key)
        .take_while(|key| key.kind == to.kind && key.namespace == to.namespace);
    did_you_mean(&to.name, names.map(|key| &*key.name))
}

/// An object of that kind and name in another namespace.
fn elsewhere(catalog: &Catalog, to: &ObjectKey) -> Option<String> {
    // Namespaces are the first of all kinds.
    let namespaces = catalog.definitions.keys().take_while(|key| key.kind == Kind::Namespace);
    let names = namespaces.map(|key| &*key.name).chain(["default"]);
    let found = names
        .filter(|_| to.kind.is_namespaced())
        .map(|namespace| ObjectKey::new(to.kind, namespace, &to.name))
        .find(|key| catalog.definitions.contains_key(key))?;
    Some(format!("namespace `{}` has one, which can't be reached from here", found.namespace))
}

fn doubled(catalog: &Catalog, key: &ObjectKey) -> Vec<Diagnostic> {
    let Some(definitions) = catalog.definitions.get(key) else { return Vec::new() };
    let say = |index: usize| {
        let other = if index == 0 { &definitions[1] } else { &definitions[0] };
        let message = format!("{} is defined twice, also at {}", called(key), other.place);
        let place = definitions[index].place.clone();
        let diagnostic = Diagnostic::new(Severity::Error, place, "defined-twice", message);
        let hint = "remove one of the two, or give it another name or namespace";
        diagnostic.with_hint(hint.to_owned())
    };
    (0..definitions.len().min(MAX_CROSSING)).map(say).collect()
}

fn idle(catalog: &Catalog, key: &ObjectKey) -> Option<Diagnostic> {
    let resource = resource(catalog, key)?;
    let Spec::Service(spec) = &resource.spec else { return None };
    let selector = spec.selector.as_ref()?;
    let hint = selector.iter().find_map(|(name, value)| {
        let nearest = did_you_mean(value, catalog.label_values(&key.namespace, name));
        nearest.filter(|hint| !hint.contains(&format!("`{value}`")))
    });
    let labels: Vec<_> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let message = format!("{} selects no pods: none has {}", called(key), labels.join(","));
    let (line, column) = resource.fields.nearest("/spec/selector").unwrap_or_default();
    let place = Place::new(resource.place.file.clone(), line, column);
    let diagnostic = Diagnostic::new(Severity::Warning, place, "selects-nothing", message);
    Some(diagnostic.with_hint(hint))
}

fn settings(catalog: &Catalog) -> Vec<Diagnostic> {
    let all: Vec<_> = catalog.settings_in.values().flatten().map(|(place, _)| place).collect();
    if all.len() < 2 {
        return Vec::new();
    }
    let say = |(index, place): (usize, &&Place)| {
        let other = if index == 0 { all[1] } else { all[0] };
        let message = format!("the repo's settings are given twice, also at {other}");
        let diagnostic =
            Diagnostic::new(Severity::Error, (*place).clone(), "defined-twice", message);
        diagnostic.with_hint("keep one; until then none counts".to_owned())
    };
    all.iter().enumerate().map(say).collect()
}

/// Folders that are skipped, each once.
fn rendered(catalog: &Catalog) -> Vec<Diagnostic> {
    let markers = catalog.rendered.values().filter_map(|markers| markers.iter().next());
    let say = |marker: &Arc<str>| {
        let (folder, name) = marker.rsplit_once('/').unwrap_or((".", marker));
        let tool = if name == "Chart.yaml" { "Helm" } else { "Kustomize" };
        let message =
            format!("the folder `{folder}` is skipped: `{name}` says that {tool} renders it");
        let hint = "render it into a folder of its own and commit that".to_owned();
        let place = Place::file(marker.clone());
        Diagnostic::new(Severity::Note, place, "skipped-folder", message).with_hint(hint)
    };
    markers.map(say).collect()
}

/// Adds the lines that the places point at, and underlines the word there.
fn add_lines(catalog: &Catalog, diagnostics: &mut [Diagnostic]) {
    let mut files: BTreeMap<Arc<str>, Vec<&mut Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        files.entry(diagnostic.place.file.clone()).or_default().push(diagnostic);
    }
    // A file's lines are found once, however many diagnostics are about it.
    for (file, diagnostics) in files {
        let text = catalog.text(&file);
        let findings = Findings::new(&file, text.strip_prefix('\u{feff}').unwrap_or(text));
        for diagnostic in diagnostics {
            add_line(&findings, diagnostic);
        }
    }
}

fn add_line(findings: &Findings<'_>, diagnostic: &mut Diagnostic) {
    let Place { line, column, .. } = diagnostic.place;
    let with_line = findings.with_line(diagnostic.clone(), Span { line, column, width: 0 });
    let rest = with_line.line_text.iter().flat_map(|line| line.chars());
    let rest = rest.skip((with_line.caret.max(1) - 1) as usize);
    let width =
        rest.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ':' | ']' | '}')).count();
    *diagnostic = Diagnostic { width: u32::try_from(width).unwrap_or(0), ..with_line };
}
