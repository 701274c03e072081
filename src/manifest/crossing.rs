//! What is wrong between files, put into words: references that lead nowhere, objects defined
//! twice, Services that select nothing. `catalog` decides which; the wording, with its "did you
//! mean", is done only when somebody asks.

use std::sync::Arc;

use crate::domain::diagnostic::{Diagnostic, Place, Severity};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{Reference, ReferenceKind, Resource, Spec};
use crate::manifest::catalog::Catalog;
use crate::manifest::findings::{Findings, did_you_mean};
use crate::manifest::tree::Span;

pub fn diagnostics(catalog: &Catalog) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    all.extend(catalog.dangling.iter().flat_map(|key| dangling(catalog, key)));
    all.extend(catalog.doubled.iter().flat_map(|key| doubled(catalog, key)));
    all.extend(catalog.idle_services.iter().filter_map(|key| idle(catalog, key)));
    all.extend(settings(catalog));
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
    catalog.dangling_of(resource).map(|it| dangling_one(catalog, key, it)).collect()
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
    let hint = nearby(catalog, to).or_else(|| elsewhere(catalog, to)).or_else(|| match to.kind {
        Kind::Namespace => Some(format!("add a Namespace manifest for `{}`", to.name)),
        Kind::StorageClass => Some("leave `storageClassName` out for the default class".to_owned()),
        _ => None,
    });
    let diagnostic =
        Diagnostic::new(Severity::Error, reference.place.clone(), "dangling-reference", message);
    with_line(catalog, diagnostic.with_hint(hint))
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
    let namespaces = catalog.definitions.keys().filter(|key| key.kind == Kind::Namespace);
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
        with_line(catalog, diagnostic.with_hint(hint.to_owned()))
    };
    (0..definitions.len()).map(say).collect()
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
    Some(with_line(catalog, diagnostic.with_hint(hint)))
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
        with_line(catalog, diagnostic.with_hint("keep one; until then none counts".to_owned()))
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

/// Adds the line that the place points at, and underlines the word there.
fn with_line(catalog: &Catalog, diagnostic: Diagnostic) -> Diagnostic {
    let Place { file, line, column } = diagnostic.place.clone();
    let text = catalog.text(&file);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let span = Span { line, column, width: 0 };
    let diagnostic = Findings::new(&file, text).with_line(diagnostic, span);
    let rest = diagnostic.line_text.iter().flat_map(|line| line.chars());
    let rest = rest.skip((diagnostic.caret.max(1) - 1) as usize);
    let width = rest.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}')).count();
    Diagnostic { width: u32::try_from(width).unwrap_or(0), ..diagnostic }
}
