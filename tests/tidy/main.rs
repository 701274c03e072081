//! The house rules that a compiler doesn't know, enforced: layers, purity, imports, sizes, links, the root's entries.
//!
//! Nothing of kgit is linked here: the rules read the sources as text, so they hold for code that doesn't build yet.
//! Every rule is a function from files to offences, with tests on bad input beside it.
#![allow(clippy::disallowed_methods, reason = "reading the repo's files is what this test is for")]

mod house;
mod layers;
mod links;
mod purity;
mod source;
mod tree;

use tree::{File, Offence, tree};

fn expect_none(offences: &[Offence]) {
    let mut lines: Vec<String> = offences.iter().map(ToString::to_string).collect();
    lines.dedup();
    assert!(lines.is_empty(), "{} offences:\n{}", lines.len(), lines.join("\n"));
}

fn expect_none_in_each(rule: fn(&File) -> Vec<Offence>, wanted: fn(&File) -> bool) {
    let files = tree();
    let checked: Vec<&File> = files.iter().filter(|file| wanted(file)).collect();
    assert!(!checked.is_empty(), "the rule found no file to look at");
    expect_none(&checked.into_iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn modules_import_lower_layers_only() {
    expect_none_in_each(layers::check, File::is_product);
}

#[test]
fn crates_depend_one_way_only() {
    expect_none_in_each(layers::check_dependencies, File::is_cargo_manifest);
}

#[test]
fn the_pure_core_touches_nothing_outside_itself() {
    expect_none_in_each(purity::check, File::is_product);
}

#[test]
fn imports_show_the_edges() {
    expect_none_in_each(house::check_imports, File::is_product);
}

#[test]
fn every_file_says_what_lives_in_it() {
    expect_none_in_each(house::check_header, File::is_rust);
}

#[test]
fn files_stay_small() {
    expect_none(&house::check_lengths(&tree()));
}

#[test]
fn every_allowed_lint_has_a_reason() {
    expect_none_in_each(house::check_allows, File::is_rust);
}

#[test]
fn links_in_documents_lead_somewhere() {
    expect_none(&links::check(&tree()));
}

#[test]
fn the_root_holds_what_it_should_and_nothing_else() {
    expect_none(&house::check_root(&tree::root_entries()));
}
