//! What every GET of the API leads to, and what reading one object, many and their changes share.

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::accept::{Form, form};
use crate::api::kube::node_tunnel::with_tunnel;
use crate::api::kube::target::{Target, parse};
use crate::api::kube::{list, logs, watch};
use crate::api::state::Api;
use crate::domain::selector::{Labels, Selector};
use crate::domain::token::Role;
use crate::kube::discovery;
use crate::kube::reconcile::{
    SourceFacts, show_components, show_plans, show_reconcile, show_source,
};
use crate::kube::resource_type::{Noun, ResourceType};
use crate::kube::seen::{self, Heard, SecretValues, Seen, Shown};
use crate::kube::selector::{FieldSelector, parse_labels};
use crate::kube::status::Status;
use crate::kube::table::{IncludeObject, partial, table};
use crate::master::view::View;

/// Reconciles in one list; `kgit audit list` goes further back.
const MAX_RECONCILES: usize = 500;

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
    pub fn is_everything(&self) -> bool {
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
            Ok(Json(list::list(&api, &caller, &request).await?).into_response())
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

pub fn include(options: &Options) -> Result<IncludeObject, ApiError> {
    IncludeObject::parse(&options.include_object).ok_or_else(|| {
        let message = format!("unrecognized includeObject value: {}", options.include_object);
        ApiError::from(Status::bad_request(message))
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
