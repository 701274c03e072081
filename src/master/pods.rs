//! Orders about single pods: what a workload made may be told to end, and is replaced as the
//! workload's manifest says.

use crate::domain::audit::Trigger;
use crate::domain::key::ObjectKey;
use crate::master::batch::{Answer, Batch};
use crate::master::core::Core;
use crate::master::event::{Refused, Reply};
use crate::plan;

impl Core {
    /// `kubectl delete pod`: one that Git asks for by itself would only come back, so it is not meant.
    pub(super) fn end_pod(
        &mut self,
        batch: &mut Batch,
        key: &ObjectKey,
        grace_seconds: Option<u32>,
        by: String,
        reply: Reply<()>,
    ) {
        let Some(pod) = self.world.pods.get(key).filter(|pod| pod.owner != pod.key) else {
            let message = format!("there is no pod `{}` that a workload made", key.name);
            return drop(reply.send(Err(Refused { reason: "NotFound", message })));
        };
        let workload = self.world.workload_of(pod);
        let plan = plan::end_pod(&self.world, &self.desired, pod, grace_seconds, &by, batch.now);
        self.carry_out_ordered(batch, plan);
        batch.mark([workload]);
        batch.triggers.push(Trigger::Api { by, what: format!("end of {key}") });
        batch.answers.push(Answer::Done(reply));
    }
}
