//! Which paths a source delivers, told by their names alone.

/// Names that change how a folder is read, whatever their ending.
const SPECIAL: [&str; 4] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml"];

const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// Could hold manifests, or changes how its folder is read.
pub(super) fn is_wanted_file(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || SPECIAL.contains(&name)
}

/// Folders of tools (`.git`, `.github`, …) hold no manifests.
pub(super) fn is_skipped_folder(name: &str) -> bool {
    name.starts_with('.')
}

/// Lock files of editors, which come and go while a file is edited.
pub(super) fn is_editors_own(name: &str) -> bool {
    name.starts_with(".#")
}

pub(super) fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_could_hold_manifests_are_wanted() {
        for name in ["a.yaml", "b.yml", "c.json", "Kustomization", "Chart.yaml", ".ci.yaml"] {
            assert!(is_wanted_file(name), "{name}");
        }
        for name in ["README.md", "yaml", "a.yaml~", "a.yaml.swp", "kustomization", "a.YAML"] {
            assert!(!is_wanted_file(name), "{name}");
        }
    }
}
