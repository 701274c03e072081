//! Watch: what has changed since a version, then what changes. Each watcher remembers one past
//! view; the difference to the newest is what it is told, so a slow one costs nobody anything.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::kube::accept::Form;
use crate::api::kube::node_tunnel::with_tunnel;
use crate::api::kube::read::{
    ListRequest, Options, Wanted, heard, in_form, include, is_true, own_nouns, secret_values,
};
use crate::api::limit::Seat;
use crate::api::state::Api;
use crate::domain::key::ObjectKey;
use crate::kube::json::object;
use crate::kube::resource_type::{Noun, ResourceType};
use crate::kube::seen::{self, SecretValues, Seen, Shown, ShownKey};
use crate::kube::status::Status;
use crate::master::view::View;

/// Watches end by themselves after a while, as upstream's do, so that clients spread anew.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How often a watcher that takes bookmarks is told how far it has seen.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a watcher of what has to be read anew waits after a change: more may come with it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// How long a version that was shown already may take to get into the history.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Marks the bookmark that ends the initial events.
const INITIAL_END_ANNOTATION: &str = "k8s.io/initial-events-end";

pub async fn watch(
    api: &Api,
    caller: &Caller,
    request: ListRequest<'_>,
) -> Result<Response, ApiError> {
    let wanted = Wanted::parse(&request.options, request.ty)?;
    include(&request.options)?;
    let seat = api.watches.take(&caller.token_id).ok_or_else(|| {
        let message = "the token has too many watches open; end some of them";
        Status::new(429, "TooManyRequests", message)
    })?;
    let (base, pending) = match start(api, &request).await {
        // Once the request itself is in order, upstream says so in the watch: clients that go by it
        // (kube-rs) list again upon that event, and not upon an answer of 410.
        Err(ApiError(status)) if status.code == 410 => {
            return Ok(answer(line_of("ERROR", &json!(status)).into()));
        }
        started => started?,
    };
    let own = match is_own(request.ty.noun) {
        true => Some(own_shown(api, caller, &base, request.ty.noun, &wanted).await?),
        false => None,
    };
    let timeout = request.options.timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let watcher = Watcher {
        api: api.clone(),
        ty: request.ty,
        namespace: request.namespace.map(str::to_owned),
        wanted,
        form: request.form,
        secrets: secret_values(caller.role),
        bookmarks: is_true(&request.options.allow_watch_bookmarks),
        options: request.options,
        caller: caller.clone(),
        own,
        base,
        pending,
        ends: Instant::now() + timeout.min(MAX_TIMEOUT),
        next_bookmark: Instant::now() + BOOKMARK_INTERVAL,
        over: false,
        _seat: seat,
    };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok::<_, Infallible>(lines), watcher))
    });
    Ok(answer(Body::from_stream(lines)))
}

fn answer(lines: Body) -> Response {
    let mut response = lines.into_response();
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// What is sent before anything has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// Everything there is, as ADDED.
    Initial,
    /// The same, ended by a marked bookmark.
    InitialThenBookmark,
}

/// The view that the watch goes on from.
async fn start(api: &Api, request: &ListRequest<'_>) -> Result<(Arc<View>, Pending), ApiError> {
    let options = &request.options;
    if is_true(&options.send_initial_events) {
        if options.resource_version_match != "NotOlderThan" {
            return Err(Status::invalid(
                "sendInitialEvents needs resourceVersionMatch=NotOlderThan",
            )
            .into());
        }
        return Ok((caught_up(api, 0).await?, Pending::InitialThenBookmark));
    }
    match options.resource_version.as_str() {
        "" | "0" => Ok((caught_up(api, 0).await?, Pending::Initial)),
        version => {
            let version: u64 = version
                .parse()
                .map_err(|_| Status::bad_request(format!("invalid resource version: {version}")))?;
            // Version 1 is shown where nothing was ever written.
            let newest = caught_up(api, if version == 1 { 0 } else { version }).await?;
            if version == 1 && newest.world.version == 0 {
                return Ok((newest, Pending::Nothing));
            }
            let between = api.history.since(version).ok_or_else(|| too_old(api, version))?;
            Ok((between.before, Pending::Nothing))
        }
    }
}

fn too_old(api: &Api, version: u64) -> Status {
    let oldest = api.history.oldest();
    Status::expired(format!("too old resource version: {version} ({oldest})"))
}

/// The newest view of the history, once that has reached `version`.
pub(super) async fn caught_up(api: &Api, version: u64) -> Result<Arc<View>, ApiError> {
    let mut newest = api.history.newest();
    let reached = newest.wait_for(|newest| *newest >= version);
    match tokio::time::timeout(CATCH_UP, reached).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(Status::unavailable("the master is shutting down").into()),
        // From a life of the master that a backup was restored over: the client lists again.
        Err(_) => {
            let message = format!("too large resource version: {version}");
            return Err(Status::expired(message).into());
        }
    }
    let newest = api.history.find(1, |_| true);
    Ok(newest.unwrap_or_else(|| api.master.view()))
}

struct Watcher {
    api: Api,
    ty: &'static ResourceType,
    namespace: Option<String>,
    wanted: Wanted,
    form: Form,
    secrets: SecretValues,
    bookmarks: bool,
    options: Options,
    caller: Caller,
    /// What was told of what no row stands for: of the audit log, of the view itself.
    own: Option<BTreeMap<ShownKey, Shown>>,
    /// Everything up to here was told.
    base: Arc<View>,
    pending: Pending,
    ends: Instant,
    next_bookmark: Instant,
    over: bool,
    /// Its place among those of the token.
    _seat: Seat,
}

impl Watcher {
    /// The next lines; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if self.pending != Pending::Nothing {
            return Some(self.initial());
        }
        loop {
            let mut newest = self.api.history.newest();
            if *newest.borrow_and_update() > self.base.world.version {
                let lines = match self.own.take() {
                    Some(told) => self.own_changes(told).await?,
                    None => self.changes(),
                };
                if !lines.is_empty() {
                    return Some(lines);
                }
            }
            let wake = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
            tokio::select! {
                changed = newest.changed() => changed.ok()?,
                () = tokio::time::sleep_until(wake) => {
                    if wake == self.ends {
                        return None;
                    }
                    self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    return Some(self.bookmark(false));
                }
            }
        }
    }

    fn initial(&mut self) -> Bytes {
        let with_bookmark = self.pending == Pending::InitialThenBookmark;
        self.pending = Pending::Nothing;
        let view = Arc::clone(&self.base);
        if let Some(own) = self.own.clone() {
            let mut lines = Vec::new();
            self.difference(&mut lines, BTreeMap::new(), own, view.world.version);
            return self.initially(lines, with_bookmark);
        }
        let seen = self.seen(&view);
        let keys = seen::keys(&seen, self.ty.noun, self.namespace.as_deref());
        let mut lines = Vec::new();
        for key in keys {
            for shown in self.visible(&seen, &key).into_values() {
                self.line(&mut lines, "ADDED", shown);
            }
        }
        self.initially(lines, with_bookmark)
    }

    fn initially(&self, lines: Vec<u8>, with_bookmark: bool) -> Bytes {
        let lines = Bytes::from(lines);
        match with_bookmark {
            true => [lines, self.bookmark(true)].concat().into(),
            false => lines,
        }
    }

    /// The same as [`Self::changes`] of what no row stands for; it is all looked at anew, so not
    /// too often. `None` if it can't be read: the watch ends, and the client comes back.
    async fn own_changes(&mut self, told: BTreeMap<ShownKey, Shown>) -> Option<Bytes> {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let newest = caught_up(&self.api, 0).await.ok()?;
        let noun = self.ty.noun;
        let shown = own_shown(&self.api, &self.caller, &newest, noun, &self.wanted).await.ok()?;
        let mut lines = Vec::new();
        self.difference(&mut lines, told, shown.clone(), newest.world.version);
        self.own = Some(shown);
        self.base = newest;
        Some(Bytes::from(lines))
    }

    /// The difference between what was told and what is.
    fn changes(&mut self) -> Bytes {
        let Some(between) = self.api.history.since(self.base.world.version) else {
            self.over = true;
            let status = too_old(&self.api, self.base.world.version);
            return line_of("ERROR", &json!(status));
        };
        let before = Arc::clone(&self.base);
        let touched = between.changed.iter();
        let rows: BTreeSet<ObjectKey> =
            touched.filter_map(|(_, key)| seen::rows_touched(self.ty.noun, key)).collect();
        let mut lines = Vec::new();
        for key in rows {
            let old = self.visible(&self.seen(&before), &key);
            let new = self.visible(&self.seen(&between.after), &key);
            self.difference(&mut lines, old, new, between.after.world.version);
        }
        self.base = between.after;
        Bytes::from(lines)
    }

    fn difference(
        &self,
        lines: &mut Vec<u8>,
        mut old: BTreeMap<ShownKey, Shown>,
        new: BTreeMap<ShownKey, Shown>,
        version: u64,
    ) {
        for (key, shown) in new {
            match old.remove(&key) {
                None => self.line(lines, "ADDED", shown),
                Some(before) if same(&before, &shown) => {}
                Some(before) if is_another(&before, &shown) => {
                    self.deleted(lines, before, version);
                    self.line(lines, "ADDED", shown);
                }
                Some(_) => self.line(lines, "MODIFIED", shown),
            }
        }
        for (_, gone) in old {
            self.deleted(lines, gone, version);
        }
    }

    /// A deletion is newer than the last write of what was deleted.
    fn deleted(&self, lines: &mut Vec<u8>, mut gone: Shown, version: u64) {
        gone.version = version;
        gone.object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.line(lines, "DELETED", gone);
    }

    fn seen<'a>(&self, view: &'a View) -> Seen<'a> {
        let (world, waits) = (&view.world, &view.waits);
        let heard = heard(&self.api, view);
        Seen { world, waits, now: self.api.now(), secrets: self.secrets, heard }
    }

    /// What this watcher sees of a row.
    fn visible(&self, seen: &Seen<'_>, key: &ObjectKey) -> BTreeMap<ShownKey, Shown> {
        let of_row = seen::of_row(seen, self.ty.noun, key).into_iter();
        let inside = |shown: &Shown| {
            self.namespace.as_deref().is_none_or(|wanted| *shown.key.namespace == *wanted)
        };
        of_row
            .map(|shown| with_tunnel(&self.api.tunnels, shown))
            .filter(|shown| inside(shown) && self.wanted.matches(&shown.object))
            .map(|shown| (shown.key.clone(), shown))
            .collect()
    }

    fn line(&self, lines: &mut Vec<u8>, kind: &str, shown: Shown) {
        // The options were checked at the start.
        if let Ok(object) = in_form(&self.api, self.ty, shown, self.form, &self.options) {
            lines.extend_from_slice(&line_of(kind, &object));
        }
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let version = self.base.world.version.max(1).to_string();
        let mut metadata = json!({"resourceVersion": version, "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END_ANNOTATION: "true"});
        }
        let (kind, api_version) = match self.form {
            Form::Objects => (self.ty.kind, self.ty.api_version()),
            Form::Partial => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            Form::Table => ("Table", "meta.k8s.io/v1".to_owned()),
        };
        let mut shown = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if self.form == Form::Table {
            shown["rows"] = json!([]);
        }
        line_of("BOOKMARK", &shown)
    }
}

fn is_own(noun: Noun) -> bool {
    matches!(noun, Noun::ComponentStatus | Noun::Reconcile | Noun::Plan | Noun::Source)
}

async fn own_shown(
    api: &Api,
    caller: &Caller,
    view: &View,
    noun: Noun,
    wanted: &Wanted,
) -> Result<BTreeMap<ShownKey, Shown>, ApiError> {
    let all = own_nouns(api, caller, view, noun).await?.into_iter();
    let wanted = all.filter(|shown| wanted.matches(&shown.object));
    Ok(wanted.map(|shown| (shown.key.clone(), shown)).collect())
}

/// Of the same name, as the next pod of a StatefulSet is.
fn is_another(before: &Shown, after: &Shown) -> bool {
    before.object["metadata"]["uid"] != after.object["metadata"]["uid"]
}

/// Equal but for the version: a row may change in what this type does not show.
fn same(before: &Shown, after: &Shown) -> bool {
    let bare = |shown: &Shown| {
        let mut bare = shown.object.clone();
        object(&mut bare["metadata"]).remove("resourceVersion");
        bare
    };
    before.version == after.version || bare(before) == bare(after)
}

fn line_of(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}
