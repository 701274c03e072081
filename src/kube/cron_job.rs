//! CronJobs.

use kgit_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::domain::key::ObjectKey;
use crate::domain::record::CronJobState;
use crate::domain::world::World;
use crate::kube::deployment::template_cells;
use crate::kube::json::{flag, items, object, put, put_list, text};
use crate::kube::metadata::{Metadata, uid_of};
use crate::kube::seen::{Seen, Shown};
use crate::kube::table::Column;
use crate::kube::{defaults, human};

pub const COLUMNS: &[Column] = &[
    Column::name(),
    Column::text("Schedule"),
    Column::text("Timezone"),
    Column::text("Suspend"),
    Column::number("Active"),
    Column::text("Last Schedule"),
    Column::text("Age"),
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub fn show(seen: &Seen<'_>, key: &ObjectKey) -> Option<Shown> {
    let applied = seen.world.objects.get(key)?;
    let state = seen.world.cron_jobs.get(key);
    let version = applied.version.max(state.map_or(0, |state| state.version));
    let none = CronJobState::default();
    let state = state.map_or(&none, |state| &*state.value);
    let mut spec = applied.resource.manifest.at("/spec").unwrap_or_default();
    defaults::cron_job_spec(object(&mut spec));
    let shown = json!({
        "metadata": Metadata::of_applied(key, applied, version).build(),
        "spec": spec,
        "status": status(seen.world, state),
    });
    Some(Shown::new(key, version, shown))
}

fn status(world: &World, state: &CronJobState) -> Value {
    let mut status = json!({});
    let fields = object(&mut status);
    put(fields, "lastScheduleTime", state.last_schedule.map(|at| at.to_string()));
    put(fields, "lastSuccessfulTime", state.last_success.map(|at| at.to_string()));
    let active = state.active.iter().map(|job| {
        json!({
            "apiVersion": job.kind.api_version(),
            "kind": job.kind.as_str(),
            "name": job.name,
            "namespace": job.namespace,
            "uid": uid_of(world, job),
        })
    });
    put_list(fields, "active", active.collect());
    status
}

pub fn cells(cron_job: &Value, now: Timestamp) -> Vec<Value> {
    let zone = match text(cron_job, "/spec/timeZone") {
        "" => "<none>",
        zone => zone,
    };
    let last = match text(cron_job, "/status/lastScheduleTime") {
        "" => "<none>".to_owned(),
        last => human::age(last, now),
    };
    let suspended = if flag(cron_job, "/spec/suspend") { "True" } else { "False" };
    let mut cells = vec![
        json!(text(cron_job, "/metadata/name")),
        json!(text(cron_job, "/spec/schedule")),
        json!(zone),
        json!(suspended),
        json!(items(cron_job, "/status/active").len()),
        json!(last),
        json!(human::age(text(cron_job, "/metadata/creationTimestamp"), now)),
    ];
    // Upstream looks at the template of the Job that it would make.
    let template = json!({"spec": cron_job.pointer("/spec/jobTemplate/spec")});
    cells.extend(template_cells(&template));
    cells
}
