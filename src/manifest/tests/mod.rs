//! Tests of the whole layer: files in, text out.

mod broken;
mod crossing;
mod histories;
mod lowering;
mod placing;
mod skipped;

use std::sync::Arc;

use crate::domain::desired::{FileContent, SourceFile, TreeChange};
use crate::domain::key::ObjectKey;
use crate::domain::resource::Resource;
use crate::manifest::catalog::Catalog;
use crate::manifest::check::check;

/// Files in one text: each begins with a line `=== path`.
fn tree(text: &str) -> TreeChange {
    let parts = text.split("=== ").skip(1);
    let files = parts.map(|part| {
        let (path, content) = part.split_once('\n').unwrap_or((part, ""));
        file(path.trim(), content)
    });
    TreeChange { upserted: files.collect(), removed: Vec::new() }
}

fn file(path: &str, content: &str) -> SourceFile {
    let content = FileContent::Bytes(Arc::from(content.as_bytes()));
    SourceFile { path: path.into(), content }
}

/// What `kgit check` prints about some files.
fn report(text: &str) -> String {
    check(&tree(text)).to_string()
}

/// The one object of that key in some files, which must be accepted.
fn accepted(text: &str, key: &str) -> Arc<Resource> {
    let mut catalog = Catalog::default();
    catalog.apply(&tree(text));
    let key = ObjectKey::parse(key).unwrap();
    let desired = catalog.desired(Default::default());
    let found = desired.objects.get(&key).cloned();
    found.unwrap_or_else(|| panic!("{key}: {}", report(text)))
}
