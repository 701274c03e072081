//! How a test says that it can't be tried here: loudly, and as a failure where nothing may be skipped.
//!
//! A test file that needs it says `#[path = "../support/skip.rs"] mod skip;`.

use std::io::Write;

/// Notes that the running test can't be tried, and why; the test returns after it.
///
/// `tests/run` repeats every note in its summary.
///
/// # Panics
/// Where `KGIT_REQUIRE_ALL` is set, as in CI.
pub fn not_tried(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("KGIT_REQUIRE_ALL").is_none(), "{name} can't be tried: {why}");
    eprintln!("SKIPPED {name}: {why}");
    if let Some(path) = std::env::var_os("KGIT_SKIPPED_LOG") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let noted = file.and_then(|mut file| writeln!(file, "{name}: {why}"));
        noted.unwrap_or_else(|error| panic!("failed to note a skipped test: {error}"));
    }
}
