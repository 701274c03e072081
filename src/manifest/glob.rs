//! The globs of `include` and `exclude`: `*` within a name, `**` across folders, `?` for one
//! character. A pattern that names a folder means everything beneath it.

/// True if the pattern means the path, or a folder that the path is in.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some((&"**", rest)), _) => (0..=path.len()).any(|skip| parts(rest, &path[skip..])),
        (Some(_), None) => false,
        (Some((first, rest)), Some((name, beneath))) => {
            let (first, name): (Vec<char>, Vec<char>) =
                (first.chars().collect(), name.chars().collect());
            part(&first, &name) && parts(rest, beneath)
        }
    }
}

fn part(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| part(rest, &name[skip..])),
        Some(('?', rest)) => !name.is_empty() && part(rest, &name[1..]),
        Some((first, rest)) => name.first() == Some(first) && part(rest, &name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_files_and_the_folders_they_are_in() {
        for (pattern, path) in [
            ("apps", "apps/web/a.yaml"),
            ("apps/*/a.yaml", "apps/web/a.yaml"),
            ("**/a.yaml", "a.yaml"),
            ("**/test", "x/test/b.yaml"),
            ("apps/**", "apps/web/a.yaml"),
            ("?.yaml", "a.yaml"),
            ("./apps/", "apps/a.yaml"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [("app", "apps/a.yaml"), ("*.yaml", "x/a.yaml"), ("b/**", "a/b/c")] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }
}
