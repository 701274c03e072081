//! Label selectors, of objects and of nodes.

use k8s_openapi::api::core::v1::NodeSelectorTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::domain::selector::{Labels, Operator, Requirement, Selector};
use crate::manifest::lower::Object;
use crate::manifest::lower::names::{is_key, is_label_value};
use crate::manifest::path::Path;

const OPERATORS: [(&str, Operator); 4] = [
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

pub fn label_selector(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &LabelSelector,
) -> Selector {
    let labels = written.match_labels.clone().unwrap_or_default();
    object.labels(&path.key("matchLabels"), &labels);
    let mut selector = Selector::from_labels(&labels);
    for (index, each) in written.match_expressions.iter().flatten().enumerate() {
        let parent = path.key("matchExpressions");
        let values = each.values.as_deref().unwrap_or_default();
        let at = parent.index(index);
        selector.requirements.extend(requirement(object, &at, &each.key, &each.operator, values));
    }
    selector
}

pub fn node_selector_term(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    term: &NodeSelectorTerm,
) -> Selector {
    let parent = path.key("matchExpressions");
    let expressions = term.match_expressions.iter().flatten().enumerate();
    let requirements = expressions
        .filter_map(|(index, each)| {
            let values = each.values.as_deref().unwrap_or_default();
            requirement(object, &parent.index(index), &each.key, &each.operator, values)
        })
        .collect();
    Selector { requirements }
}

fn requirement(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    key: &str,
    operator: &str,
    values: &[String],
) -> Option<Requirement> {
    if !is_key(key) {
        object.error(&path.key("key"), format!("`{key}` is not a valid label key"));
    }
    if matches!(operator, "Gt" | "Lt") {
        let message = format!("kgit does not compare labels by `{operator}` yet");
        object.error(&path.key("operator"), message);
        return None;
    }
    if operator.is_empty() {
        object.required(&path.key("operator"));
        return None;
    }
    let operator =
        object.choice(&path.key("operator"), Some(operator), Operator::Exists, &OPERATORS);
    let wants_values = matches!(operator, Operator::In | Operator::NotIn);
    if wants_values == values.is_empty() {
        let message = match wants_values {
            true => "`In` and `NotIn` need values",
            false => "`Exists` and `DoesNotExist` take no values",
        };
        object.error(&path.key("values"), message);
    }
    for value in values.iter().filter(|value| !is_label_value(value)) {
        object.error(&path.key("values"), format!("`{value}` is not a valid label value"));
    }
    Some(Requirement { key: key.to_owned(), operator, values: values.to_vec() })
}

/// A workload's selector must choose its own pods, and not every pod.
pub fn must_match(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    selector: &Selector,
    labels: &Labels,
) {
    if selector.requirements.is_empty() {
        let hint = labels.iter().next().map(|(key, value)| {
            format!("repeat the template's labels: `matchLabels: {{{key}: {value}}}`")
        });
        let message = format!("`{}` is required", path.dotted());
        return object.error_with_hint(path, message, hint);
    }
    let missed = selector.requirements.iter().find(|each| !each.matches(labels));
    if let Some(missed) = missed {
        let hint = match labels.get(&missed.key) {
            Some(value) => format!("the template's label `{}` is `{value}`", missed.key),
            None => format!("the template has no label `{}`", missed.key),
        };
        let message = "the selector does not match the labels of its own template";
        object.error_with_hint(path, message, Some(hint));
    }
}
