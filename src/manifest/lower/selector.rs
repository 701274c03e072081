//! Label selectors, of objects and of nodes.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::domain::selector::{Labels, NODE_NAME_FIELD, NodeTerm, Operator, Requirement, Selector};
use crate::manifest::lower::Object;
use crate::manifest::lower::names::{is_key, is_label_value};
use crate::manifest::path::Path;

const OPERATORS: [(&str, Operator); 4] = [
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];
/// Nodes' labels can be compared as numbers too.
const NODE_OPERATORS: [(&str, Operator); 6] = [
    OPERATORS[0],
    OPERATORS[1],
    OPERATORS[2],
    OPERATORS[3],
    ("Gt", Operator::Gt),
    ("Lt", Operator::Lt),
];
const FIELD_OPERATORS: [(&str, Operator); 2] = [OPERATORS[0], OPERATORS[1]];

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
        let operator = operator(object, &at, &each.operator, &OPERATORS);
        selector.requirements.extend(requirement(object, &at, &each.key, operator, values));
    }
    selector
}

pub fn node_selector_term(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    term: &NodeSelectorTerm,
) -> NodeTerm {
    let mut lowered = NodeTerm::default();
    let parent = path.key("matchExpressions");
    for (index, each) in term.match_expressions.iter().flatten().enumerate() {
        let at = parent.index(index);
        let values = each.values.as_deref().unwrap_or_default();
        let operator = operator(object, &at, &each.operator, &NODE_OPERATORS);
        lowered.requirements.extend(requirement(object, &at, &each.key, operator, values));
    }
    let parent = path.key("matchFields");
    for (index, each) in term.match_fields.iter().flatten().enumerate() {
        let at = parent.index(index);
        lowered.names.extend(name_requirement(object, &at, each));
    }
    lowered
}

/// A node's name is the only field that can be matched, and by one value.
fn name_requirement(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &NodeSelectorRequirement,
) -> Option<Requirement> {
    if written.key != NODE_NAME_FIELD {
        let message = format!("`{}` can't be matched: only `{NODE_NAME_FIELD}` can", written.key);
        object.error(&path.key("key"), message);
        return None;
    }
    let values = written.values.clone().unwrap_or_default();
    if values.len() != 1 {
        object.error(&path.key("values"), "must be exactly one name");
    }
    let operator = operator(object, path, &written.operator, &FIELD_OPERATORS)?;
    Some(Requirement { key: written.key.clone(), operator, values })
}

fn operator(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    written: &str,
    known: &[(&str, Operator)],
) -> Option<Operator> {
    let path = path.key("operator");
    if written.is_empty() {
        object.required(&path);
        return None;
    }
    let known: Vec<_> = known.iter().map(|(word, operator)| (*word, Some(*operator))).collect();
    object.choice(&path, Some(written), None, &known)
}

fn requirement(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    key: &str,
    operator: Option<Operator>,
    values: &[String],
) -> Option<Requirement> {
    if !is_key(key) {
        object.error(&path.key("key"), format!("`{key}` is not a valid label key"));
    }
    let operator = operator?;
    check_values(object, &path.key("values"), operator, values);
    Some(Requirement { key: key.to_owned(), operator, values: values.to_vec() })
}

fn check_values(
    object: &mut Object<'_, '_>,
    path: &Path<'_>,
    operator: Operator,
    values: &[String],
) {
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            object.error(path, "`In` and `NotIn` need values");
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            object.error(path, "`Exists` and `DoesNotExist` take no values");
        }
        Operator::Gt | Operator::Lt => {
            if !matches!(values, [number] if number.parse::<i64>().is_ok()) {
                object.error(path, "`Gt` and `Lt` need one whole number");
            }
        }
        Operator::In | Operator::NotIn | Operator::Exists | Operator::DoesNotExist => {}
    }
    for value in values.iter().filter(|value| !is_label_value(value)) {
        object.error(path, format!("`{value}` is not a valid label value"));
    }
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
