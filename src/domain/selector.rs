//! Label selectors. Source of the rules: Kubernetes' `labels.Selector`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub type Labels = BTreeMap<String, String>;

/// All requirements must hold. Without requirements it selects everything; where Kubernetes has
/// an absent selector select nothing, the holder says so with an `Option`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Of nodes alone: the label is a whole number above the one given.
    Gt,
    Lt,
}

/// One term of a node selector; all of it must hold. A term that asks for nothing selects nothing.
/// Source: upstream's `component-helpers/scheduling/corev1/nodeaffinity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeTerm {
    /// On the node's labels.
    pub requirements: Vec<Requirement>,
    /// On its name: `metadata.name` is the only field that can be matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Requirement>,
}

/// The field that `matchFields` can name.
pub const NODE_NAME_FIELD: &str = "metadata.name";

impl NodeTerm {
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.requirements.is_empty() && self.names.is_empty() {
            return false;
        }
        self.requirements.iter().all(|requirement| requirement.matches(labels))
            && self.names.iter().all(|requirement| requirement.holds(Some(name)))
    }
}

impl Selector {
    /// One `In` requirement with one value for each label.
    pub fn from_labels(labels: &Labels) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
            .collect();
        Self { requirements }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    /// The one label, with its value, that satisfies it, if there is but one.
    pub fn only_label(&self) -> Option<(&str, &str)> {
        match (self.operator, self.values.as_slice()) {
            (Operator::In, [value]) => Some((&self.key, value)),
            _ => None,
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.holds(labels.get(&self.key).map(String::as_str))
    }

    /// Whether it holds for this value of what it asks about; `None`: there is none.
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compares(value, |value, bound| value > bound),
            Operator::Lt => self.compares(value, |value, bound| value < bound),
        }
    }

    fn compares(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let bound = self.values.first().and_then(|bound| bound.parse().ok());
        let value = value.and_then(|value| value.parse().ok());
        value.zip(bound).is_some_and(|(value, bound)| holds(value, bound))
    }
}

/// Whether `labels` has all of `wanted`, each with that value.
pub fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(Selector::default().matches(&Labels::new()));
    }

    #[test]
    fn a_term_that_asks_for_nothing_selects_no_node() {
        assert!(!NodeTerm::default().matches("a", &Labels::new()));
    }

    #[test]
    fn numbers_compare_as_numbers_and_words_not_at_all() {
        let holds = |operator, label: &str, bound: &str| {
            let (key, values) = ("gen".to_owned(), vec![bound.to_owned()]);
            let requirement = Requirement { key, operator, values };
            requirement.matches(&Labels::from([("gen".into(), label.into())]))
        };
        assert!(holds(Operator::Gt, "10", "9") && !holds(Operator::Gt, "9", "9"));
        assert!(holds(Operator::Lt, "-1", "0") && !holds(Operator::Lt, "one", "2"));
    }

    #[test]
    fn not_in_holds_for_an_absent_label() {
        let requirement = Requirement {
            key: "tier".into(),
            operator: Operator::NotIn,
            values: vec!["web".into()],
        };
        assert!(requirement.matches(&Labels::new()));
        assert!(!requirement.matches(&Labels::from([("tier".into(), "web".into())])));
    }
}
