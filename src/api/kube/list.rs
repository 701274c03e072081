//! Lists: which objects they have, page by page, and in which form.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::history::MAX_MOMENTS;
use crate::api::kube::accept::Form;
use crate::api::kube::node_tunnel::with_tunnel;
use crate::api::kube::read::{ListRequest, Options, Wanted, include, own_nouns, sight};
use crate::api::kube::watch;
use crate::api::state::Api;
use crate::kube::json::object;
use crate::kube::resource_type::Noun;
use crate::kube::seen::{self, Shown, ShownKey};
use crate::kube::status::Status;
use crate::kube::table::{IncludeObject, partial, row, table};
use crate::master::view::View;

/// Objects in one answer, unless the client asks for fewer; it gets a `continue` then. Clients
/// that do not know it (`curl`) would be surprised, so it is more than a cluster has.
const MAX_LIST: usize = 50_000;

/// Upstream's words.
const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent \
    list result. You can start a new list without the continue parameter.";

/// The answer: a list's own fields, and what it lists.
#[derive(Debug)]
pub struct List {
    head: Map<String, Value>,
    items: &'static str,
    page: Vec<Item>,
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(Some(self.head.len() + 1))?;
        for (name, value) in self.head.iter().filter(|(name, _)| *name != self.items) {
            fields.serialize_entry(name, value)?;
        }
        let texts: Vec<&RawValue> = self.page.iter().map(|item| &*item.text).collect();
        fields.serialize_entry(self.items, &texts)?;
        fields.end()
    }
}

/// One object in the form that was asked for. It is written down as soon as it is shown: as a tree
/// it takes ten times the memory.
#[derive(Debug)]
struct Item {
    key: ShownKey,
    text: Box<RawValue>,
}

/// A part of a list.
struct Page {
    items: Vec<Item>,
    /// How many come after it.
    remaining: usize,
}

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

pub async fn list(api: &Api, caller: &Caller, request: &ListRequest<'_>) -> Result<List, ApiError> {
    let options = &request.options;
    let from = match options.token.as_str() {
        "" => None,
        token => Some(read_continue(token)?),
    };
    let view = listed_view(api, options, from.as_ref()).await?;
    let after = from.map(|it| ShownKey { namespace: it.namespace.into(), name: it.name.into() });
    let limit = options.limit.filter(|limit| *limit > 0).unwrap_or(MAX_LIST).min(MAX_LIST);
    let include = match request.form {
        Form::Table => include(options)?,
        Form::Partial | Form::Objects => IncludeObject::None,
    };
    let listing = Listing { api, caller, view: &view, request, include };
    let page = listing.page(after.as_ref(), limit).await?;
    let version = view.world.version;
    let mut metadata = json!({"resourceVersion": version.max(1).to_string()});
    if page.remaining > 0 {
        metadata["continue"] = json!(page.items.last().map(|last| write_continue(last, version)));
        metadata["remainingItemCount"] = json!(page.remaining);
    }
    Ok(listing.answer(page, metadata))
}

/// The moment that a list is of. All pages are of one, that of the first: a later page finds it in
/// the history, or the client is told to begin anew.
async fn listed_view(
    api: &Api,
    options: &Options,
    from: Option<&Continue>,
) -> Result<Arc<View>, ApiError> {
    if let Some(from) = from {
        let found = api.history.find(MAX_MOMENTS, |view| view.world.version == from.version);
        return Ok(found.ok_or_else(|| Status::expired(CONTINUE_TOO_OLD))?);
    }
    let newest = api.master.view();
    match options.limit {
        // What a later page is to find has to be in the history.
        Some(limit) if limit > 0 => watch::caught_up(api, newest.world.version).await,
        _ => Ok(newest),
    }
}

fn write_continue(last: &Item, version: u64) -> String {
    let token = Continue {
        version,
        namespace: last.key.namespace.to_string(),
        name: last.key.name.to_string(),
    };
    let token = serde_json::to_vec(&token).expect("a token has only string keys");
    URL_SAFE_NO_PAD.encode(token)
}

fn read_continue(text: &str) -> Result<Continue, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(token.ok_or_else(|| Status::bad_request("continue key is not valid"))?)
}

struct Listing<'a> {
    api: &'a Api,
    caller: &'a Caller,
    view: &'a View,
    request: &'a ListRequest<'a>,
    include: IncludeObject,
}

impl Listing<'_> {
    /// The first objects behind `after` that match.
    async fn page(&self, after: Option<&ShownKey>, limit: usize) -> Result<Page, ApiError> {
        let wanted = Wanted::parse(&self.request.options, self.request.ty)?;
        let noun = self.request.ty.noun;
        if matches!(noun, Noun::Recorded(_)) && wanted.is_everything() {
            return Ok(self.page_of_rows(after, limit));
        }
        let mut items = match noun {
            Noun::Recorded(_)
            | Noun::Endpoints
            | Noun::EndpointSlice
            | Noun::Lease
            | Noun::Event
            | Noun::NodeMetrics
            | Noun::PodMetrics => self.matching(&wanted),
            Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => {
                let mut all = own_nouns(self.api, self.caller, self.view, noun).await?;
                all.retain(|shown| wanted.matches(&shown.object));
                all.iter().map(|shown| self.item(shown)).collect()
            }
        };
        items.retain(|item| after.is_none_or(|after| item.key > *after));
        items.sort_by(|a, b| a.key.cmp(&b.key));
        let remaining = items.len().saturating_sub(limit);
        items.truncate(limit);
        Ok(Page { items, remaining })
    }

    fn matching(&self, wanted: &Wanted) -> Vec<Item> {
        let noun = self.request.ty.noun;
        let seen = sight(self.api, self.caller, self.view);
        let mut keys = seen::keys(&seen, noun, self.request.namespace);
        if let (Some(name), Noun::Recorded(_)) = (wanted.fields.name(), noun) {
            keys.retain(|key| *key.name == *name);
        }
        let all = keys.iter().flat_map(|key| seen::of_row(&seen, noun, key));
        let all = all.map(|shown| with_tunnel(&self.api.tunnels, shown));
        let matching = all.filter(|shown| wanted.matches(&shown.object));
        matching.map(|shown| self.item(&shown)).collect()
    }

    /// The same of rows that are one object each, where all match: only the page's are looked at.
    fn page_of_rows(&self, after: Option<&ShownKey>, limit: usize) -> Page {
        let noun = self.request.ty.noun;
        let seen = sight(self.api, self.caller, self.view);
        let mut keys = seen::keys(&seen, noun, self.request.namespace);
        keys.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let begin = after.map_or(0, |after| {
            let after = (&after.namespace, &after.name);
            keys.partition_point(|key| (&key.namespace, &key.name) <= after)
        });
        let (page, rest) = keys[begin..].split_at(limit.min(keys.len() - begin));
        let shown = page.iter().flat_map(|key| seen::of_row(&seen, noun, key));
        let items = shown.map(|shown| self.item(&with_tunnel(&self.api.tunnels, shown))).collect();
        Page { items, remaining: rest.len() }
    }

    fn item(&self, shown: &Shown) -> Item {
        let text = match self.request.form {
            Form::Table => {
                to_raw_value(&row(self.request.ty.noun, shown, self.include, self.api.now()))
            }
            Form::Partial => to_raw_value(&partial(&shown.object)),
            Form::Objects => to_raw_value(&shown.object),
        };
        Item { key: shown.key.clone(), text: text.expect("a JSON value has only string keys") }
    }

    fn answer(&self, page: Page, metadata: Value) -> List {
        let ty = self.request.ty;
        let (mut head, items) = match self.request.form {
            Form::Table => (table(ty.noun, &[], metadata, self.include, self.api.now()), "rows"),
            Form::Partial => (
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                }),
                "items",
            ),
            Form::Objects => (
                json!({
                    "kind": format!("{}List", ty.kind),
                    "apiVersion": ty.api_version(),
                    "metadata": metadata,
                }),
                "items",
            ),
        };
        List { head: std::mem::take(object(&mut head)), items, page: page.items }
    }
}
