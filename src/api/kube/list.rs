//! Lists: which objects they have, page by page, and in which form.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kgit_protocol::time::Timestamp;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::history::MAX_MOMENTS;
use crate::api::kube::accept::Form;
use crate::api::kube::node_tunnel::with_tunnel;
use crate::api::kube::read::{ListRequest, Options, Wanted, include, own_nouns, sight};
use crate::api::kube::watch;
use crate::api::state::Api;
use crate::domain::key::ObjectKey;
use crate::kube::resource_type::Noun;
use crate::kube::seen::{self, Seen, Shown, ShownKey};
use crate::kube::status::Status;
use crate::kube::table::{IncludeObject, partial, row, table_head};
use crate::master::view::View;

/// Objects in one answer, unless the client asks for fewer; it gets a `continue` then. Clients
/// that do not know it (`curl`) would be surprised, so it is more than a cluster has.
const MAX_LIST: usize = 50_000;

/// Upstream's words.
const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent \
    list result. You can start a new list without the continue parameter.";

/// The answer: a list's own fields, and the one with its items.
#[derive(Debug)]
pub struct List {
    head: Value,
    field: &'static str,
    items: Vec<Item>,
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        for (name, value) in self.head.as_object().into_iter().flatten() {
            fields.serialize_entry(name, value)?;
        }
        let texts: Vec<&RawValue> = self.items.iter().map(|item| &*item.text).collect();
        fields.serialize_entry(self.field, &texts)?;
        fields.end()
    }
}

/// One object in the form that was asked for. It is written down as soon as it is shown: as a tree
/// it takes many times the memory (`docs/performance.md`).
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
    let listing = Listing { api, caller, view: &view, request, include, now: api.now() };
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
    now: Timestamp,
}

impl Listing<'_> {
    /// The first objects behind `after` that match.
    async fn page(&self, after: Option<&ShownKey>, limit: usize) -> Result<Page, ApiError> {
        let wanted = Wanted::parse(&self.request.options, self.request.ty)?;
        let noun = self.request.ty.noun;
        match noun {
            Noun::Recorded(_) if wanted.is_everything() => Ok(self.rows(after, limit)),
            Noun::Recorded(_) => Ok(self.matching_rows(&wanted, after, limit)),
            Noun::Endpoints
            | Noun::EndpointSlice
            | Noun::Lease
            | Noun::Event
            | Noun::NodeMetrics
            | Noun::PodMetrics => {
                let seen = sight(self.api, self.caller, self.view);
                let keys = seen::keys(&seen, noun, self.request.namespace);
                let all = self.shown(&seen, &keys).collect();
                Ok(self.sorted(all, &wanted, after, limit))
            }
            Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => {
                let all = own_nouns(self.api, self.caller, self.view, noun).await?;
                Ok(self.sorted(all, &wanted, after, limit))
            }
        }
    }

    /// Of rows that are one object each, and all match: only the page's are looked at.
    fn rows(&self, after: Option<&ShownKey>, limit: usize) -> Page {
        let seen = sight(self.api, self.caller, self.view);
        let keys = self.keys_behind(&seen, after);
        let (page, rest) = keys.split_at(limit.min(keys.len()));
        let items = self.shown(&seen, page).map(|shown| self.item(&shown)).collect();
        Page { items, remaining: rest.len() }
    }

    /// The same where not all match: what is beyond the page is only counted.
    fn matching_rows(&self, wanted: &Wanted, after: Option<&ShownKey>, limit: usize) -> Page {
        let seen = sight(self.api, self.caller, self.view);
        let mut keys = self.keys_behind(&seen, after);
        if let Some(name) = wanted.fields.name() {
            keys.retain(|key| *key.name == *name);
        }
        self.first(self.shown(&seen, &keys).filter(|shown| wanted.matches(&shown.object)), limit)
    }

    /// Of objects in any order.
    fn sorted(
        &self,
        mut all: Vec<Shown>,
        wanted: &Wanted,
        after: Option<&ShownKey>,
        limit: usize,
    ) -> Page {
        all.retain(|shown| wanted.matches(&shown.object));
        all.retain(|shown| after.is_none_or(|after| shown.key > *after));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        self.first(all.into_iter(), limit)
    }

    fn first(&self, all: impl Iterator<Item = Shown>, limit: usize) -> Page {
        let mut page = Page { items: Vec::new(), remaining: 0 };
        for shown in all {
            if page.items.len() < limit {
                page.items.push(self.item(&shown));
            } else {
                page.remaining += 1;
            }
        }
        page
    }

    /// In the order of lists.
    fn keys_behind(&self, seen: &Seen<'_>, after: Option<&ShownKey>) -> Vec<ObjectKey> {
        let mut keys = seen::keys(seen, self.request.ty.noun, self.request.namespace);
        keys.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        if let Some(ShownKey { namespace, name }) = after {
            keys.retain(|key| (&key.namespace, &key.name) > (namespace, name));
        }
        keys
    }

    fn shown<'s>(
        &'s self,
        seen: &'s Seen<'_>,
        keys: &'s [ObjectKey],
    ) -> impl Iterator<Item = Shown> + 's {
        let all = keys.iter().flat_map(|key| seen::of_row(seen, self.request.ty.noun, key));
        all.map(|shown| with_tunnel(&self.api.tunnels, shown))
    }

    fn item(&self, shown: &Shown) -> Item {
        let text = match self.request.form {
            Form::Table => to_raw_value(&row(self.request.ty.noun, shown, self.include, self.now)),
            Form::Partial => to_raw_value(&partial(&shown.object)),
            Form::Objects => to_raw_value(&shown.object),
        };
        Item { key: shown.key.clone(), text: text.expect("a JSON value has only string keys") }
    }

    fn answer(&self, page: Page, metadata: Value) -> List {
        let ty = self.request.ty;
        let (kind, version, field) = match self.request.form {
            Form::Table => {
                let head = table_head(ty.noun, metadata);
                return List { head, field: "rows", items: page.items };
            }
            Form::Partial => {
                ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned(), "items")
            }
            Form::Objects => (format!("{}List", ty.kind), ty.api_version(), "items"),
        };
        let head = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        List { head, field, items: page.items }
    }
}
