//! What makes one pod of an Indexed Job itself: its index in its name, hostname, labels, annotations and variables.
//!
//! Which index is next is the Job's to say. Source: upstream's `pkg/controller/job/indexed_job_utils.go`.

use crate::domain::key::ObjectKey;
use crate::domain::selector::Labels;
use crate::domain::template::{
    ContainerTemplate, DownwardField, EnvSource, EnvTemplate, PodTemplate,
};
use crate::plan::names;

pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often pods of the index failed before this one; only where that is bounded.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The template of an index's pod. `failures` is `None` where its failures are not bounded.
pub fn own_template(
    template: &PodTemplate,
    job: &ObjectKey,
    index: u32,
    failures: Option<u32>,
) -> PodTemplate {
    let mut own = template.clone();
    own.network.hostname = Some(format!("{}-{index}", job.name));
    own.annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = failures {
        own.annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    own.init_containers.iter_mut().chain(&mut own.containers).for_each(add_variable);
    own
}

/// One that the manifest sets is left as it is.
fn add_variable(container: &mut ContainerTemplate) {
    if container.env.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = DownwardField::Field(format!("metadata.labels['{INDEX}']"));
    let value = EnvSource::Downward(field);
    container.env.push(EnvTemplate { name: VARIABLE.to_owned(), value });
}

pub fn label(index: u32) -> Labels {
    Labels::from([(INDEX.to_owned(), index.to_string())])
}

/// `JOB-INDEX-xxxxx`, of which the Job's own name gives way where it is too long.
pub fn pod_name(job: &ObjectKey, owner_uid: &str, counter: u64, index: u32) -> String {
    names::pod_name_with(job, owner_uid, counter, &format!("-{index}"))
}
