//! Everything that a source's files define, kept from one tree to the next.
//!
//! [`Catalog::apply`] takes what changed and costs what changed: the indexes below lead from a
//! changed file to the objects it concerns, and from an object to those that refer to it, without
//! looking at the rest. All maps are persistent, so a clone is cheap and a forecast of another
//! tree starts from one.
//!
//! What is wrong with a single file is `reading`'s to say; what crosses files is decided here and
//! put into words in `crossing`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::domain::autoscaling::BUILT_IN_PRIORITIES;
use crate::domain::desired::{Commit, Desired, FileContent, Settings, TreeChange};
use crate::domain::diagnostic::{Diagnostic, Place};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::resource::{BUILT_IN_CLASS, Reference, ReferenceKind, Resource, Spec};
use crate::domain::selector::Labels;
use crate::domain::stage::is_staged;
use crate::domain::template::{ConfigContent, EnvSource};
use crate::manifest::lower::meta::BUILT_IN_NAMESPACES;
use crate::manifest::object::Defined;
use crate::manifest::reading::{Reading, read};
use crate::manifest::{crossing, glob};

/// Files that say that their folder is rendered by another tool first.
pub const RENDERED_BY: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Chart.yaml"];

/// A label of a namespace's pods.
type Label = (Arc<str>, String, String);

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub(super) files: OrdMap<Arc<str>, File>,
    /// Folders that are skipped, with the file that says so.
    pub(super) rendered: OrdMap<Arc<str>, OrdSet<Arc<str>>>,
    pub(super) definitions: OrdMap<ObjectKey, Vec<Defined>>,
    /// Objects by what they refer to.
    referrers: OrdMap<ObjectKey, OrdSet<ObjectKey>>,
    /// PersistentVolumes by class: a class that a volume belongs to needs no manifest of its own.
    classes: OrdMap<ObjectKey, OrdSet<ObjectKey>>,
    /// Objects with a pod template, by each label of it.
    templates: OrdMap<Label, OrdSet<ObjectKey>>,
    /// Services by one label of their selector: enough to be found by, as all must match.
    services: OrdMap<Label, OrdSet<ObjectKey>>,

    objects: OrdMap<ObjectKey, Arc<Resource>>,
    staged: OrdSet<ObjectKey>,
    broken: OrdSet<ObjectKey>,
    /// Broken because what they refer to is not defined.
    pub(super) dangling: OrdSet<ObjectKey>,
    pub(super) doubled: OrdSet<ObjectKey>,
    /// Services that select no pod template.
    pub(super) idle_services: OrdSet<ObjectKey>,
    pub(super) unreadable: OrdSet<Arc<str>>,
    /// Active files with something to say.
    pub(super) noted: OrdSet<Arc<str>>,
    /// Files that hold settings.
    pub(super) settings_in: OrdMap<Arc<str>, Vec<(Place, Settings)>>,
    settings: Settings,
    documents: usize,
}

/// One file as the catalog knows it.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) content: FileContent,
    /// `None` while it is in a skipped folder: nothing in there needs to be YAML.
    pub(super) reading: Option<Arc<Reading>>,
    /// Whether what it holds is in the indexes: not so if it is skipped or excluded.
    active: bool,
}

/// Counts, for a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub files: usize,
    pub documents: usize,
    pub objects: usize,
}

/// What one `apply` has to look at again.
#[derive(Default)]
struct Round {
    objects: BTreeSet<ObjectKey>,
    services: BTreeSet<ObjectKey>,
    /// What others could count on of each touched object before.
    before: BTreeMap<ObjectKey, Standing>,
}

/// What the objects that refer to one can count on.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    exists: bool,
    /// Of a ConfigMap or Secret, if it is whole.
    keys: Option<Vec<String>>,
}

impl Catalog {
    /// Takes in what changed; returns the objects that are now wanted otherwise, wanted no more,
    /// or newly broken or whole.
    pub fn apply(&mut self, change: &TreeChange) -> BTreeSet<ObjectKey> {
        let mut round = Round::default();
        let mut touched: BTreeSet<Arc<str>> = BTreeSet::new();
        for path in &change.removed {
            self.retract(path, &mut round);
            self.files.remove(path);
            self.unmark(path, &mut touched);
        }
        for file in &change.upserted {
            self.retract(&file.path, &mut round);
            let content = file.content.clone();
            self.files.insert(file.path.clone(), File { content, reading: None, active: false });
            self.mark(&file.path, &mut touched);
            touched.insert(file.path.clone());
        }
        for path in &touched {
            self.contribute(path, &mut round);
        }
        self.take_settings(&mut round);
        self.judge(round)
    }

    pub fn desired(&self, commit: Arc<Commit>) -> Desired {
        Desired {
            commit,
            objects: self.objects.clone(),
            staged: self.staged.clone(),
            broken: self.broken.iter().cloned().collect(),
            unreadable: self.unreadable.iter().cloned().collect(),
            settings: self.settings.clone(),
        }
    }

    /// Everything there is to say, sorted by place. Costs what there is to say, not what there is.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let noted = self.noted.iter().filter_map(|path| self.files.get(path));
        let readings = noted.filter_map(|file| file.reading.as_ref());
        let mut all: Vec<_> =
            readings.flat_map(|reading| reading.diagnostics.iter().cloned()).collect();
        all.extend(crossing::diagnostics(self));
        all.sort_by(|a, b| (&a.place, a).cmp(&(&b.place, b)));
        all
    }

    pub fn counts(&self) -> Counts {
        let (documents, objects) = (self.documents, self.objects.len());
        Counts { files: self.files.len(), documents, objects }
    }

    /// Gives up what a file holds.
    fn retract(&mut self, path: &Arc<str>, round: &mut Round) {
        let Some(file) = self.files.get_mut(path) else { return };
        let was_active = std::mem::take(&mut file.active);
        let Some(reading) = file.reading.clone().filter(|_| was_active) else { return };
        self.settings_in.remove(path);
        self.documents -= reading.documents as usize;
        self.unreadable.remove(path);
        self.noted.remove(path);
        for key in by_key(&reading.objects).keys() {
            self.redefine(key, round, |all| all.retain(|it| *it.place.file != **path));
        }
    }

    /// Takes in what a file holds, unless it is skipped or excluded.
    fn contribute(&mut self, path: &Arc<str>, round: &mut Round) {
        self.retract(path, round);
        let skipped = self.is_skipped(path);
        let Some(file) = self.files.get_mut(path) else { return };
        if skipped {
            file.reading = None;
            return;
        }
        let content = &file.content;
        let reading = file.reading.get_or_insert_with(|| Arc::new(read(path, content))).clone();
        let chosen = is_chosen(&self.settings, path);
        // Settings are read wherever they are: they might exclude themselves.
        if !reading.settings.is_empty() {
            self.settings_in.insert(path.clone(), reading.settings.clone());
        }
        if !chosen && reading.settings.is_empty() {
            return;
        }
        file.active = true;
        self.documents += reading.documents as usize;
        if reading.unreadable {
            self.unreadable.insert(path.clone());
        }
        if !reading.diagnostics.is_empty() {
            self.noted.insert(path.clone());
        }
        for (key, defined) in by_key(&reading.objects) {
            self.redefine(key, round, |all| {
                all.extend(defined.into_iter().cloned());
                all.sort_by(|a, b| a.place.cmp(&b.place));
            });
        }
    }

    /// In a folder that begins with a dot, or in one that another tool renders.
    fn is_skipped(&self, path: &str) -> bool {
        folders(path).any(|folder| {
            let name = folder.rsplit('/').next().unwrap_or_default();
            name.starts_with('.') || self.rendered.contains_key(folder)
        })
    }

    fn mark(&mut self, path: &Arc<str>, touched: &mut BTreeSet<Arc<str>>) {
        let Some(folder) = marked_folder(path) else { return };
        let markers = self.rendered.entry(Arc::from(folder)).or_default();
        if markers.insert(path.clone()).is_none() && markers.len() == 1 {
            self.touch_folder(folder, touched);
        }
    }

    fn unmark(&mut self, path: &Arc<str>, touched: &mut BTreeSet<Arc<str>>) {
        let Some(folder) = marked_folder(path) else { return };
        let Some(markers) = self.rendered.get_mut(folder) else { return };
        markers.remove(path);
        if markers.is_empty() {
            self.rendered.remove(folder);
            self.touch_folder(folder, touched);
        }
    }

    /// All files beneath a folder are to be looked at again.
    fn touch_folder(&self, folder: &str, touched: &mut BTreeSet<Arc<str>>) {
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let beneath = self.files.range(Arc::from(start.as_str())..);
        let beneath = beneath.map(|(path, _)| path).take_while(|path| path.starts_with(&start));
        touched.extend(beneath.cloned());
    }

    /// Settings count if there is exactly one document of them.
    fn take_settings(&mut self, round: &mut Round) {
        let mut all = self.settings_in.values().flatten();
        let settings = match (all.next(), all.next()) {
            (Some((_, settings)), None) => settings.clone(),
            _ => Settings::default(),
        };
        let before = std::mem::replace(&mut self.settings, settings);
        let same =
            before.include == self.settings.include && before.exclude == self.settings.exclude;
        if !same {
            let paths: Vec<_> = self.files.keys().cloned().collect();
            for path in &paths {
                self.contribute(path, round);
            }
        }
    }

    /// Changes the definitions of one object, and the indexes with them.
    fn redefine(
        &mut self,
        key: &ObjectKey,
        round: &mut Round,
        change: impl FnOnce(&mut Vec<Defined>),
    ) {
        round.objects.insert(key.clone());
        self.remember(key, round);
        let mut all = self.definitions.remove(key).unwrap_or_default();
        for resource in all.iter().filter_map(|it| it.resource.clone()) {
            self.index(&resource, Indexing::Out, round);
        }
        change(&mut all);
        for resource in all.iter().filter_map(|it| it.resource.clone()) {
            self.index(&resource, Indexing::In, round);
        }
        if !all.is_empty() {
            self.definitions.insert(key.clone(), all);
        }
    }

    fn remember(&self, key: &ObjectKey, round: &mut Round) {
        if !round.before.contains_key(key) {
            round.before.insert(key.clone(), self.standing(key));
        }
    }

    fn standing(&self, key: &ObjectKey) -> Standing {
        let keys = self.config(key).map(|content| content.entries.keys().cloned().collect());
        Standing { exists: self.exists(key), keys }
    }

    /// The content of a ConfigMap or Secret that is defined once and well.
    pub(super) fn config(&self, key: &ObjectKey) -> Option<&ConfigContent> {
        match self.definitions.get(key)?.as_slice() {
            [one] => match &one.resource.as_ref()?.spec {
                Spec::ConfigMap(content) => Some(content),
                Spec::Secret(secret) => Some(&secret.content),
                _ => None,
            },
            _ => None,
        }
    }

    fn index(&mut self, resource: &Resource, indexing: Indexing, round: &mut Round) {
        let key = &resource.key;
        for reference in &resource.references {
            indexing.turn(&mut self.referrers, &reference.to, key);
        }
        match &resource.spec {
            Spec::PersistentVolume(spec) if !spec.class.is_empty() => {
                let class = ObjectKey::new(Kind::StorageClass, "", &spec.class);
                self.remember(&class, round);
                indexing.turn(&mut self.classes, &class, key);
            }
            Spec::Service(spec) => {
                round.services.insert(key.clone());
                if let Some(label) = spec.selector.as_ref().and_then(|it| rarest(key, it)) {
                    indexing.turn(&mut self.services, &label, key);
                }
            }
            _ => {}
        }
        let labels = resource.template().map(|template| &template.labels);
        for (name, value) in labels.into_iter().flatten() {
            let label = (key.namespace.clone(), name.clone(), value.clone());
            round.services.extend(self.services.get(&label).into_iter().flatten().cloned());
            indexing.turn(&mut self.templates, &label, key);
        }
    }

    /// Decides anew about everything that the round touched.
    fn judge(&mut self, mut round: Round) -> BTreeSet<ObjectKey> {
        for (key, before) in &round.before {
            if self.standing(key) != *before {
                round.objects.extend(self.referrers.get(key).into_iter().flatten().cloned());
            }
        }
        for service in &round.services {
            match self.is_idle(service) {
                true => self.idle_services.insert(service.clone()),
                false => self.idle_services.remove(service),
            };
        }
        round.objects.into_iter().filter(|key| self.judge_one(key)).collect()
    }

    /// True if what is wanted of the object changed, or the file in which it stands.
    fn judge_one(&mut self, key: &ObjectKey) -> bool {
        let definitions = self.definitions.get(key).map(Vec::as_slice).unwrap_or_default();
        let doubled = definitions.len() > 1;
        let resource = match definitions {
            [one] => one.resource.clone(),
            _ => None,
        };
        let dangling = resource.as_ref().is_some_and(|it| {
            self.dangling_of(it).next().is_some() || self.missing_keys_of(it).next().is_some()
        });
        let accepted = resource.filter(|_| !dangling);
        let broken = !definitions.is_empty() && accepted.is_none();
        set(&mut self.doubled, key, doubled);
        set(&mut self.dangling, key, dangling);
        let staged = accepted.as_ref().is_some_and(|it| is_staged(&it.annotations));
        set(&mut self.staged, key, staged);
        let broken_before = set(&mut self.broken, key, broken);
        let before = match accepted.clone() {
            Some(resource) => self.objects.insert(key.clone(), resource),
            None => self.objects.remove(key),
        };
        let told = |it: Option<Arc<Resource>>| {
            it.map(|resource| (resource.digest.clone(), resource.place.file.clone()))
        };
        broken_before != broken || told(before) != told(accepted)
    }

    /// The references of an object that lead nowhere, where they must lead somewhere.
    pub(super) fn dangling_of<'a>(
        &'a self,
        resource: &'a Resource,
    ) -> impl Iterator<Item = &'a Reference> {
        resource.references.iter().filter(|reference| {
            let must = match reference.kind {
                ReferenceKind::Needs | ReferenceKind::DependsOn | ReferenceKind::Scales => true,
                ReferenceKind::Optional => false,
            };
            must && !self.exists(&reference.to)
        })
    }

    /// The keys that an object reads into its environment and that the ConfigMap or Secret that
    /// it names does not have.
    pub(super) fn missing_keys_of<'a>(
        &'a self,
        resource: &'a Resource,
    ) -> impl Iterator<Item = (&'a Reference, &'a str)> {
        keys_read(resource).filter(|(reference, key)| {
            reference.kind == ReferenceKind::Needs
                && self.config(&reference.to).is_some_and(|it| !it.entries.contains_key(*key))
        })
    }

    /// Defined by a manifest, well or badly, or there without one.
    fn exists(&self, key: &ObjectKey) -> bool {
        self.definitions.contains_key(key)
            || match key.kind {
                Kind::Namespace => BUILT_IN_NAMESPACES.contains(&&*key.name),
                Kind::PriorityClass => {
                    BUILT_IN_PRIORITIES.iter().any(|(name, _)| *name == &*key.name)
                }
                Kind::StorageClass => {
                    &*key.name == BUILT_IN_CLASS || self.classes.contains_key(key)
                }
                _ => false,
            }
    }

    /// A Service with a selector that selects no pod template.
    fn is_idle(&self, key: &ObjectKey) -> bool {
        let Some([Defined { resource: Some(resource), .. }]) =
            self.definitions.get(key).map(Vec::as_slice)
        else {
            return false;
        };
        let Spec::Service(spec) = &resource.spec else { return false };
        let Some(selector) = spec.selector.as_ref().filter(|_| spec.kind != "ExternalName") else {
            return false;
        };
        let sets = selector.iter().map(|(name, value)| {
            self.templates.get(&(key.namespace.clone(), name.clone(), value.clone()))
        });
        // The smallest set of candidates; none at all if one label is nobody's.
        let Some(candidates) = sets.min_by_key(|set| set.map_or(0, OrdSet::len)).flatten() else {
            return true;
        };
        !candidates.iter().any(|candidate| self.has_template(candidate, selector))
    }

    fn has_template(&self, key: &ObjectKey, selector: &Labels) -> bool {
        let definitions = self.definitions.get(key).into_iter().flatten();
        let templates = definitions.filter_map(|it| it.resource.as_ref()?.template());
        templates.into_iter().any(|template| {
            selector.iter().all(|(name, value)| template.labels.get(name) == Some(value))
        })
    }

    /// The values that pods of a namespace have for a label.
    pub(super) fn label_values<'a>(
        &'a self,
        namespace: &Arc<str>,
        name: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let namespace = namespace.clone();
        let start = (namespace.clone(), name.to_owned(), String::new());
        self.templates
            .range(start..)
            .map(|(label, _)| label)
            .take_while(move |label| label.0 == namespace && label.1 == name)
            .map(|label| label.2.as_str())
    }

    /// The text of a file that holds objects.
    pub(super) fn text(&self, path: &str) -> &str {
        match self.files.get(path).map(|file| &file.content) {
            Some(FileContent::Bytes(bytes)) => std::str::from_utf8(bytes).unwrap_or_default(),
            _ => "",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Indexing {
    In,
    Out,
}

impl Indexing {
    fn turn<K: Ord + Clone>(
        self,
        index: &mut OrdMap<K, OrdSet<ObjectKey>>,
        at: &K,
        key: &ObjectKey,
    ) {
        match self {
            Self::In => {
                index.entry(at.clone()).or_default().insert(key.clone());
            }
            Self::Out => {
                let Some(set) = index.get_mut(at) else { return };
                set.remove(key);
                if set.is_empty() {
                    index.remove(at);
                }
            }
        }
    }
}

/// The variables that come from one key, each with the reference that its lowering recorded: both
/// stand in the order of the manifest.
fn keys_read(resource: &Resource) -> impl Iterator<Item = (&Reference, &str)> {
    let references =
        resource.references.iter().filter(|reference| reference.field.ends_with("KeyRef/name"));
    let containers = resource.template().into_iter().flat_map(|it| it.all_containers());
    let keys = containers.flat_map(|it| &it.env).filter_map(|variable| match &variable.value {
        EnvSource::ConfigMapKey { key, .. } | EnvSource::SecretKey { key, .. } => {
            Some(key.as_str())
        }
        EnvSource::Literal(_) | EnvSource::Downward(_) => None,
    });
    references.zip(keys)
}

/// Each object once, however often the file defines it.
fn by_key(objects: &[Defined]) -> BTreeMap<&ObjectKey, Vec<&Defined>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for defined in objects {
        all.entry(&defined.key).or_default().push(defined);
    }
    all
}

/// Puts the key into the set or takes it out; returns whether it was in.
fn set(keys: &mut OrdSet<ObjectKey>, key: &ObjectKey, is_in: bool) -> bool {
    match is_in {
        true => keys.insert(key.clone()).is_some(),
        false => keys.remove(key).is_some(),
    }
}

/// The label of a selector that few pods share, going by its looks: values that name one thing
/// are longer than those that name a sort of things.
fn rarest(key: &ObjectKey, selector: &Labels) -> Option<Label> {
    let (name, value) = selector.iter().max_by_key(|(name, value)| (value.len(), *name))?;
    Some((key.namespace.clone(), name.clone(), value.clone()))
}

/// The folders that a path is in, the source's own (``) first.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(path.match_indices('/').map(|(at, _)| &path[..at]))
}

/// The folder that a path says is rendered by another tool.
fn marked_folder(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    RENDERED_BY.contains(&name).then_some(folder)
}

fn is_chosen(settings: &Settings, path: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| glob::matches(pattern, path));
    (settings.include.is_empty() || any(&settings.include)) && !any(&settings.exclude)
}
