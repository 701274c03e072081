//! `docs/reference/cli.md` is the help of every command, written by this test.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use kgit::cli::Cli;

/// The commands that the reference lists, each with its own subcommands.
fn reference() -> String {
    let mut text = String::from(
        "# The command line\n\nWritten from the program itself by `tests/cli`; run them with \
         `UPDATE_DOCS=1` to write it anew. Exit codes are in [exit-codes.md](exit-codes.md).\n",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    section(&mut text, &mut root, "kgit", 2);
    text
}

fn section(text: &mut String, command: &mut Command, name: &str, depth: usize) {
    let help = command.render_long_help().to_string();
    let marks = "#".repeat(depth);
    // Writing to a String can't fail.
    let _ = write!(text, "\n{marks} {name}\n\n```text\n");
    for line in help.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    // What kgit starts itself is nothing to type.
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let names: Vec<String> = shown.map(|sub| sub.get_name().to_owned()).collect();
    for sub in names.iter().filter(|sub| *sub != "help") {
        let inner = command.find_subcommand_mut(sub).unwrap();
        section(text, inner, &format!("{name} {sub}"), (depth + 1).min(4));
    }
}

#[test]
fn the_reference_of_the_command_line_is_what_the_program_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/cli.md");
    let written = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == written, "docs/reference/cli.md is behind: run with UPDATE_DOCS=1");
}
