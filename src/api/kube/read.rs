//! Get and list.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::history::MAX_MOMENTS;
use crate::api::kube::accept::{Form, form};
use crate::api::kube::node_tunnel::with_tunnel;
use crate::api::kube::target::{Target, parse};
use crate::api::kube::{logs, watch};
use crate::api::state::Api;
use crate::domain::key::Kind;
use crate::domain::selector::{Labels, Selector};
use crate::domain::token::Role;
use crate::kube::discovery;
use crate::kube::json::{object, put};
use crate::kube::reconcile::{
    SourceFacts, show_components, show_plans, show_reconcile, show_source,
};
use crate::kube::resource_type::{Noun, ResourceType};
use crate::kube::seen::{self, Heard, SecretValues, Seen, Shown, ShownKey};
use crate::kube::selector::{FieldSelector, parse_labels};
use crate::kube::status::Status;
use crate::kube::table::{IncludeObject, partial, table};
use crate::master::view::View;

/// Objects in one answer, unless the client asks for fewer; it gets a `continue` then. Clients
/// that do not know it (`curl`) would be surprised, so it is more than a cluster has.
const MAX_LIST: usize = 50_000;
/// Reconciles in one list; `kgit audit list` goes further back.
const MAX_RECONCILES: usize = 500;

/// Upstream's words.
const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent \
    list result. You can start a new list without the continue parameter.";

/// The query of a get, a list or a watch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    pub label_selector: String,
    pub field_selector: String,
    pub limit: Option<usize>,
    #[serde(rename = "continue")]
    pub token: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub watch: String,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: String,
    pub send_initial_events: String,
    pub include_object: String,
}

/// Which objects of a type are asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub labels: Selector,
    pub fields: FieldSelector,
}

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    version: u64,
    namespace: String,
    name: String,
}

impl Wanted {
    pub fn parse(options: &Options, ty: &ResourceType) -> Result<Self, ApiError> {
        let bad = |error: crate::kube::selector::SelectorError| {
            ApiError::from(Status::bad_request(error.to_string()))
        };
        Ok(Self {
            labels: parse_labels(&options.label_selector).map_err(bad)?,
            fields: FieldSelector::parse(&options.field_selector, ty.kind).map_err(bad)?,
        })
    }

    /// Whether nothing is asked of objects.
    fn is_everything(&self) -> bool {
        self.labels.requirements.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.labels_match(object) && self.fields.matches(object)
    }

    fn labels_match(&self, object: &Value) -> bool {
        if self.labels.requirements.is_empty() {
            return true;
        }
        let labels = crate::kube::json::fields(object, "/metadata/labels");
        let labels: Labels = labels
            .map(|(key, value)| (key.to_owned(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        self.labels.matches(&labels)
    }
}

/// As Go reads booleans, whose forms clients send: Python's says `True`.
pub fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

/// Every GET below `/api` and `/apis`.
pub async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = uri.path().to_owned();
    let bad = |error: axum::extract::rejection::QueryRejection| {
        ApiError::from(Status::bad_request(error.body_text()))
    };
    match parse(&path).ok_or_else(Status::no_such_path)? {
        Target::Group(name) => {
            Ok(Json(discovery::group(name).ok_or_else(Status::no_such_path)?).into_response())
        }
        Target::Version { group, version } => {
            let list = discovery::resource_list(group, version);
            Ok(Json(list.ok_or_else(Status::no_such_path)?).into_response())
        }
        Target::Collection { ty, namespace } => {
            let Query(options) = Query::<Options>::try_from_uri(&uri).map_err(bad)?;
            let request = ListRequest { ty, namespace, options, form: form(&headers) };
            if is_true(&request.options.watch) {
                return watch::watch(&api, &caller, request).await;
            }
            Ok(Json(list(&api, &caller, &request).await?).into_response())
        }
        Target::Object { ty, namespace, name } => {
            let Query(options) = Query::<Options>::try_from_uri(&uri).map_err(bad)?;
            let shown = get(&api, &caller, ty, namespace, name).await?;
            let object = in_form(&api, ty, shown, form(&headers), &options)?;
            Ok(Json(object).into_response())
        }
        Target::PodLog { namespace, name } => {
            let Query(options) = Query::try_from_uri(&uri).map_err(bad)?;
            logs::logs(&api, namespace, name, options).await
        }
    }
}

/// A list or a watch.
#[derive(Debug)]
pub struct ListRequest<'a> {
    pub ty: &'static ResourceType,
    pub namespace: Option<&'a str>,
    pub options: Options,
    pub form: Form,
}

/// What the caller sees of a view.
pub fn sight<'a>(api: &Api, caller: &Caller, view: &'a View) -> Seen<'a> {
    Seen {
        world: &view.world,
        waits: &view.waits,
        now: api.now(),
        secrets: secret_values(caller.role),
        heard: heard(api, view),
    }
}

pub fn heard<'a>(api: &Api, view: &'a View) -> Heard<'a> {
    let lease_seconds = (api.planning.lease_seconds)(view.world.nodes.len());
    Heard { heartbeats: &view.heartbeats, lease_seconds, usages: &view.usages }
}

pub fn secret_values(role: Role) -> SecretValues {
    match role {
        Role::Admin => SecretValues::Shown,
        Role::Join | Role::Read | Role::Write => SecretValues::Masked,
    }
}

async fn get(
    api: &Api,
    caller: &Caller,
    ty: &ResourceType,
    namespace: &str,
    name: &str,
) -> Result<Shown, ApiError> {
    let view = api.master.view();
    let found = match ty.noun {
        Noun::Recorded(_)
        | Noun::Endpoints
        | Noun::EndpointSlice
        | Noun::Lease
        | Noun::Event
        | Noun::NodeMetrics
        | Noun::PodMetrics => {
            let found = seen::get(&sight(api, caller, &view), ty, namespace, name);
            found.map(|shown| with_tunnel(&api.tunnels, shown))
        }
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => {
            let all = own_nouns(api, caller, &view, ty.noun).await?;
            all.into_iter().find(|shown| *shown.key.name == *name)
        }
    };
    Ok(found.ok_or_else(|| Status::not_found(ty.group, ty.plural, name))?)
}

/// A part of a list.
struct Page {
    shown: Vec<Shown>,
    more: bool,
    /// How many come after it, where that is known without looking at them.
    remaining: Option<usize>,
}

/// The first objects behind `after` that match.
async fn matching(
    api: &Api,
    caller: &Caller,
    view: &View,
    request: &ListRequest<'_>,
    after: Option<&ShownKey>,
    limit: usize,
) -> Result<Page, ApiError> {
    let wanted = Wanted::parse(&request.options, request.ty)?;
    let noun = request.ty.noun;
    if matches!(noun, Noun::Recorded(_)) && wanted.is_everything() {
        return Ok(page_of_rows(api, &sight(api, caller, view), request, after, limit));
    }
    let mut all = match noun {
        Noun::Recorded(_)
        | Noun::Endpoints
        | Noun::EndpointSlice
        | Noun::Lease
        | Noun::Event
        | Noun::NodeMetrics
        | Noun::PodMetrics => {
            let seen = sight(api, caller, view);
            let mut keys = seen::keys(&seen, noun, request.namespace);
            if let (Some(name), Noun::Recorded(_)) = (wanted.fields.name(), noun) {
                keys.retain(|key| *key.name == *name);
            }
            keys.iter().flat_map(|key| seen::of_row(&seen, noun, key)).collect()
        }
        Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source => {
            own_nouns(api, caller, view, noun).await?
        }
    };
    if noun == Noun::Recorded(Kind::Node) {
        all = all.into_iter().map(|shown| with_tunnel(&api.tunnels, shown)).collect();
    }
    all.retain(|shown| wanted.matches(&shown.object));
    all.retain(|shown| after.is_none_or(|after| shown.key > *after));
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let remaining = all.len().saturating_sub(limit);
    all.truncate(limit);
    Ok(Page { shown: all, more: remaining > 0, remaining: Some(remaining) })
}

/// The same of rows that are one object each, where all match: only the page's are looked at.
fn page_of_rows(
    api: &Api,
    seen: &Seen<'_>,
    request: &ListRequest<'_>,
    after: Option<&ShownKey>,
    limit: usize,
) -> Page {
    let mut keys = seen::keys(seen, request.ty.noun, request.namespace);
    keys.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let begin = after.map_or(0, |after| {
        keys.partition_point(|key| (&key.namespace, &key.name) <= (&after.namespace, &after.name))
    });
    let (page, rest) = keys[begin..].split_at(limit.min(keys.len() - begin));
    let shown = page.iter().flat_map(|key| seen::of_row(seen, request.ty.noun, key));
    let shown = shown.map(|shown| with_tunnel(&api.tunnels, shown)).collect();
    Page { shown, more: !rest.is_empty(), remaining: Some(rest.len()) }
}

/// The nouns that are shown from the audit log and from the view itself.
pub async fn own_nouns(
    api: &Api,
    caller: &Caller,
    view: &View,
    noun: Noun,
) -> Result<Vec<Shown>, ApiError> {
    Ok(match noun {
        Noun::ComponentStatus => {
            let store = api.read(|records| records.reconciles(None, 1)).await.err();
            let store =
                view.store_error.as_deref().map(str::to_owned).or(store.map(|it| it.to_string()));
            show_components(store, view.source.error.clone())
        }
        Noun::Plan => show_plans(&sight(api, caller, view)),
        Noun::Source => {
            let source = &view.source;
            let facts = SourceFacts {
                kind: source.kind.clone(),
                location: source.location.clone(),
                branch: source.branch.clone(),
                commit: source.commit.clone(),
                error: source.error.clone(),
                checked: source.checked,
            };
            vec![show_source(&facts, view.world.version)]
        }
        Noun::Reconcile => {
            let firsts = api.read(|records| records.reconciles(None, MAX_RECONCILES)).await?;
            let mut all = Vec::with_capacity(firsts.len());
            for first in firsts {
                let entries = api.read(move |records| records.reconcile(first.reconcile)).await?;
                all.extend(show_reconcile(&entries));
            }
            all
        }
        Noun::Recorded(_)
        | Noun::Endpoints
        | Noun::EndpointSlice
        | Noun::Lease
        | Noun::Event
        | Noun::NodeMetrics
        | Noun::PodMetrics => Vec::new(),
    })
}

async fn list(api: &Api, caller: &Caller, request: &ListRequest<'_>) -> Result<Value, ApiError> {
    let options = &request.options;
    let from = match options.token.as_str() {
        "" => None,
        token => Some(read_continue(token)?),
    };
    let view = listed_view(api, options, from.as_ref()).await?;
    let after = from.map(|it| ShownKey { namespace: it.namespace.into(), name: it.name.into() });
    let limit = options.limit.filter(|limit| *limit > 0).unwrap_or(MAX_LIST).min(MAX_LIST);
    let page = matching(api, caller, &view, request, after.as_ref(), limit).await?;
    let version = view.world.version;
    let mut metadata = json!({"resourceVersion": version.max(1).to_string()});
    if page.more {
        metadata["continue"] = json!(page.shown.last().map(|last| write_continue(last, version)));
        put(object(&mut metadata), "remainingItemCount", page.remaining);
    }
    in_list_form(api, request, page.shown, metadata)
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

fn write_continue(last: &Shown, version: u64) -> String {
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

pub fn include(options: &Options) -> Result<IncludeObject, ApiError> {
    IncludeObject::parse(&options.include_object).ok_or_else(|| {
        let message = format!("unrecognized includeObject value: {}", options.include_object);
        ApiError::from(Status::bad_request(message))
    })
}

fn in_list_form(
    api: &Api,
    request: &ListRequest<'_>,
    page: Vec<Shown>,
    metadata: Value,
) -> Result<Value, ApiError> {
    let ty = request.ty;
    Ok(match request.form {
        Form::Table => table(ty.noun, &page, metadata, include(&request.options)?, api.now()),
        Form::Partial => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": page.iter().map(|shown| partial(&shown.object)).collect::<Vec<_>>(),
        }),
        Form::Objects => {
            let mut list = json!({
                "kind": format!("{}List", ty.kind),
                "apiVersion": ty.api_version(),
                "metadata": metadata,
            });
            // Moved, not copied: they are most of what a list takes of memory.
            list["items"] = page.into_iter().map(|shown| shown.object).collect();
            list
        }
    })
}

/// One object in the form that was asked for; also each object of a watch.
pub fn in_form(
    api: &Api,
    ty: &ResourceType,
    shown: Shown,
    form: Form,
    options: &Options,
) -> Result<Value, ApiError> {
    Ok(match form {
        Form::Objects => shown.object,
        Form::Partial => partial(&shown.object),
        Form::Table => {
            let metadata = json!({"resourceVersion": shown.version.max(1).to_string()});
            table(ty.noun, &[shown], metadata, include(options)?, api.now())
        }
    })
}
