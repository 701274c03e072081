//! Label and field selectors, as they stand in a query. Sources of the grammar: apimachinery's
//! `labels.Parse` and `fields.ParseSelector`.

use serde_json::Value;
use thiserror::Error;

use crate::domain::selector::{Operator, Requirement, Selector};
use crate::kube::json::text;

/// Terms in one selector; nobody writes more by hand.
const MAX_TERMS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Term(String),
    #[error("more than {MAX_TERMS} requirements")]
    TooMany,
    #[error("field label not supported: {0}")]
    Field(String),
}

/// Reads `app=web,tier in (a,b),!old,new,env!=dev`.
pub fn parse_labels(text: &str) -> Result<Selector, SelectorError> {
    let terms = split_terms(text);
    if terms.len() > MAX_TERMS {
        return Err(SelectorError::TooMany);
    }
    let requirements = terms.into_iter().map(parse_label_term).collect::<Result<_, _>>()?;
    Ok(Selector { requirements })
}

/// At commas outside of parentheses; empty terms are dropped.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0u32);
    for (place, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..place]);
                start = place + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn parse_label_term(term: &str) -> Result<Requirement, SelectorError> {
    let bad = || SelectorError::Term(term.to_owned());
    let (key, operator, values) = if let Some((key, value)) = term.split_once("!=") {
        (key, Operator::NotIn, vec![value])
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Operator::In, vec![value])
    } else if let Some((head, list)) = term.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(bad)?;
        let (key, word) = head.trim().split_once(char::is_whitespace).ok_or_else(bad)?;
        let operator = match word.trim() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return Err(bad()),
        };
        (key, operator, list.split(',').collect())
    } else if let Some(key) = term.strip_prefix('!') {
        (key, Operator::DoesNotExist, Vec::new())
    } else {
        (term, Operator::Exists, Vec::new())
    };
    let key = key.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let values: Vec<String> = values.into_iter().map(|value| value.trim().to_owned()).collect();
    let valid =
        !key.is_empty() && key.chars().chain(values.iter().flat_map(|v| v.chars())).all(plain);
    if !valid {
        return Err(bad());
    }
    Ok(Requirement { key: key.to_owned(), operator, values })
}

/// All terms must hold: `metadata.name=web,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTerm {
    pointer: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// `kind` is the resource's kind: each has its own fields besides name and namespace.
    pub fn parse(text: &str, kind: &str) -> Result<Self, SelectorError> {
        let terms = split_terms(text);
        if terms.len() > MAX_TERMS {
            return Err(SelectorError::TooMany);
        }
        let terms = terms.into_iter().map(|term| field_term(term, kind));
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let actual = match text(object, &term.pointer) {
                // The API shows no phase as Pending nowhere, but absent booleans are "false".
                "" => object.pointer(&term.pointer).map(Value::to_string).unwrap_or_default(),
                plain => plain.to_owned(),
            };
            let actual = if actual == "\"\"" { String::new() } else { actual };
            (actual == term.value) == term.equal
        })
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one name that can match, if there is one.
    pub fn name(&self) -> Option<&str> {
        let by_name = |term: &&FieldTerm| term.equal && term.pointer == "/metadata/name";
        self.terms.iter().find(by_name).map(|term| term.value.as_str())
    }
}

fn field_term(term: &str, kind: &str) -> Result<FieldTerm, SelectorError> {
    let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
        (field, false, value)
    } else if let Some((field, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (field, true, value)
    } else {
        return Err(SelectorError::Term(term.to_owned()));
    };
    let own: &[&str] = match kind {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
        ],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        "Secret" => &["type"],
        "Namespace" => &["status.phase"],
        "Node" => &["spec.unschedulable"],
        "ReplicaSet" => &["status.replicas"],
        "Job" => &["status.successful"],
        _ => &[],
    };
    if !["metadata.name", "metadata.namespace"].contains(&field) && !own.contains(&field) {
        return Err(SelectorError::Field(field.to_owned()));
    }
    let pointer = match field {
        "source" => "/source/component".to_owned(),
        field => format!("/{}", field.replace('.', "/")),
    };
    Ok(FieldTerm { pointer, equal, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::selector::Labels;
    use serde_json::json;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        parse_labels(selector).unwrap().matches(&labels)
    }

    #[test]
    fn label_selectors_of_every_form_are_understood() {
        let web = [("app", "web"), ("tier", "front")];
        assert!(selects("", &web));
        assert!(selects("app=web,tier==front", &web));
        assert!(selects("app in (db, web),tier notin (back)", &web));
        assert!(selects("app,!old,tier!=back", &web));
        assert!(!selects("app=db", &web));
        assert!(!selects("old", &web));
        assert!(!selects("app notin (web)", &web));
    }

    #[test]
    fn a_term_that_is_none_is_named() {
        for bad in ["app in web", "a b", "=x", "app under (x)"] {
            assert_eq!(parse_labels(bad), Err(SelectorError::Term(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn field_selectors_match_what_is_shown_and_refuse_other_fields() {
        let pod = json!({"metadata": {"name": "web-1"}, "status": {"phase": "Running"}});
        let matches = |text| FieldSelector::parse(text, "Pod").unwrap().matches(&pod);
        assert!(matches("metadata.name=web-1,status.phase!=Failed"));
        assert!(!matches("status.phase=Failed"));
        assert!(matches("spec.nodeName="));
        let refused = FieldSelector::parse("spec.image=x", "Pod");
        assert_eq!(refused, Err(SelectorError::Field("spec.image".to_owned())));
    }
}
