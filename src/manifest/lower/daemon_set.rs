//! DaemonSets.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    DaemonSetSpec as WrittenSet, DaemonSetUpdateStrategy as WrittenStrategy,
};

use crate::domain::resource::IntOrPercent;
use crate::domain::workload::{DaemonSetSpec, DaemonUpdate};
use crate::manifest::lower::Object;
use crate::manifest::lower::pod::{Restarts, template};
use crate::manifest::lower::selector::{label_selector, must_match};
use crate::manifest::lower::workload::{is_zero, min_ready, revision_history, share};
use crate::manifest::path::Path;

/// Source: `SetDefaults_DaemonSet`.
const DEFAULT_SURGE: IntOrPercent = IntOrPercent::Int(0);
const DEFAULT_UNAVAILABLE: IntOrPercent = IntOrPercent::Int(1);

pub fn daemon_set(object: &mut Object<'_, '_>, written: &WrittenSet) -> DaemonSetSpec {
    let path = Path::ROOT.key("spec");
    let template = template(object, &written.template, Restarts::AlwaysOnly);
    let selector = label_selector(object, &path.key("selector"), &written.selector);
    must_match(object, &path.key("selector"), &selector, &template.labels);
    DaemonSetSpec {
        selector,
        template: Arc::new(template),
        update: update(object, written.update_strategy.as_ref()),
        min_ready_seconds: min_ready(object, written.min_ready_seconds),
        revision_history_limit: revision_history(object, written.revision_history_limit),
    }
}

fn update(object: &mut Object<'_, '_>, written: Option<&WrittenStrategy>) -> DaemonUpdate {
    let spec = Path::ROOT.key("spec");
    let path = spec.key("updateStrategy");
    let kind = written.and_then(|written| written.type_.as_deref());
    let kinds = [("RollingUpdate", true), ("OnDelete", false)];
    if !object.choice(&path.key("type"), kind, true, &kinds) {
        return DaemonUpdate::OnDelete;
    }
    let settings = written.and_then(|written| written.rolling_update.as_ref());
    let at = path.key("rollingUpdate");
    let (surge_at, unavailable_at) = (at.key("maxSurge"), at.key("maxUnavailable"));
    let surge = settings.and_then(|settings| settings.max_surge.as_ref());
    let max_surge = surge.map_or(DEFAULT_SURGE, |it| share(object, &surge_at, it));
    let unavailable = settings.and_then(|settings| settings.max_unavailable.as_ref());
    let max_unavailable =
        unavailable.map_or(DEFAULT_UNAVAILABLE, |it| share(object, &unavailable_at, it));
    check_bounds(object, (&surge_at, max_surge), (&unavailable_at, max_unavailable));
    DaemonUpdate::RollingUpdate { max_surge, max_unavailable }
}

/// Source: `ValidateRollingUpdateDaemonSet`: one of the two, never both.
fn check_bounds(
    object: &mut Object<'_, '_>,
    (surge_at, surge): (&Path<'_>, IntOrPercent),
    (unavailable_at, unavailable): (&Path<'_>, IntOrPercent),
) {
    match (is_zero(surge), is_zero(unavailable)) {
        (true, true) => {
            let message = "may not be 0 when `maxSurge` is 0 too: nothing could ever be replaced";
            object.error(unavailable_at, message);
        }
        (false, false) => {
            let hint = "write `maxUnavailable: 0` beside it; it is 1 if it is left out";
            let message = "has no meaning unless `maxUnavailable` is 0";
            object.error_with_hint(surge_at, message, Some(hint.to_owned()));
        }
        (true, false) | (false, true) => {}
    }
    for (at, value) in [(surge_at, surge), (unavailable_at, unavailable)] {
        if matches!(value, IntOrPercent::Percent(percent) if percent > 100) {
            object.error(at, "must not be more than 100 %");
        }
    }
}
