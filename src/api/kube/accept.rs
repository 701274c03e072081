//! What form of answer a client asked for.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use crate::kube::discovery::AGGREGATED;

/// The form of objects in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Objects,
    Table,
    /// Metadata only.
    Partial,
}

/// The first form of the Accept header that can be served; protobuf is passed over, since every
/// client that asks for it takes JSON as well.
pub fn form(headers: &HeaderMap) -> Form {
    for offer in offers(headers) {
        let parameter = |name: &str| {
            offer
                .split(';')
                .skip(1)
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let media = offer.split(';').next().unwrap_or_default().trim();
        if !matches!(media, "application/json" | "*/*" | "application/*") {
            continue;
        }
        match (parameter("as"), parameter("v")) {
            (Some("Table"), Some("v1")) => return Form::Table,
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1")) => {
                return Form::Partial;
            }
            (None, _) => return Form::Objects,
            (Some(_), _) => {}
        }
    }
    Form::Objects
}

/// Whether aggregated discovery is asked for, before the old form.
pub fn wants_aggregated(headers: &HeaderMap) -> bool {
    offers(headers).any(|offer| offer.replace(' ', "") == AGGREGATED)
}

fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &str) -> Form {
        form(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]))
    }

    #[test]
    fn the_first_form_that_can_be_served_is_chosen() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let kubectl = format!("{table},application/json;as=Table;v=v1beta1;g=x,application/json");
        assert_eq!(asked(&kubectl), Form::Table);
        assert_eq!(asked("application/vnd.kubernetes.protobuf,application/json"), Form::Objects);
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(asked(partial), Form::Partial);
        assert_eq!(asked("*/*"), Form::Objects);
        assert_eq!(form(&HeaderMap::new()), Form::Objects);
    }
}
