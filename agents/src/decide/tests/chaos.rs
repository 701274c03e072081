//! What must hold whatever a seed makes of it.

use std::collections::BTreeSet;

use kgit_protocol::assignment::{Order, PodAssignment};
use kgit_protocol::observation::PodPhase;
use proptest::prelude::*;
use serde_json::json;

use crate::decide::tests::{World, member, pod, stop};
use crate::runtime::{PAUSE, RunState, Seen};

/// Something that goes wrong, or on.
#[derive(Clone, Debug)]
enum Act {
    Order(u8),
    Stop(u8),
    Forget(u8),
    Exit(u8, bool),
    Kill(u8),
    Remove(u8),
    Pause(u8),
    Fault(u8),
    Restart,
    Pass(u8),
    Step,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4u8).prop_map(Act::Order),
        1 => (0..4u8).prop_map(Act::Stop),
        1 => (0..4u8).prop_map(Act::Forget),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, well)| Act::Exit(which, well)),
        2 => any::<u8>().prop_map(Act::Kill),
        2 => any::<u8>().prop_map(Act::Remove),
        1 => any::<u8>().prop_map(Act::Pause),
        1 => (0..4u8).prop_map(Act::Fault),
        1 => Just(Act::Restart),
        2 => any::<u8>().prop_map(Act::Pass),
        6 => Just(Act::Step),
    ]
}

fn some_pod(number: u8) -> PodAssignment {
    let spec = match number {
        0 => json!({ "containers": [member("m")] }),
        1 => json!({ "containers": [member("x"), member("y")] }),
        2 => {
            let mut sidecar = member("s");
            sidecar["sidecar"] = json!(true);
            json!({ "init_containers": [sidecar, member("i")], "containers": [member("m")] })
        }
        _ => json!({ "restart_policy": "OnFailure", "containers": [member("m")] }),
    };
    let mut pod = pod(&format!("pod-{number}"), spec);
    pod.spec.address = Some(std::net::Ipv4Addr::new(10, 1, 2, 10 + number));
    pod
}

async fn act_out(acts: Vec<Act>) -> World {
    let mut world = World::new();
    for act in acts {
        let pick = |world: &World, which: u8| -> Option<Seen> {
            let engine = world.sim.world();
            let all: Vec<_> = engine.containers.values().collect();
            all.get(usize::from(which) % all.len().max(1)).map(|seen| (*seen).clone())
        };
        match act {
            Act::Order(number) => world.order(some_pod(number)),
            Act::Stop(number) => {
                let pod = stop(&some_pod(number));
                if world.pods.contains_key(&pod.uid) {
                    world.order(pod);
                }
            }
            Act::Forget(number) => {
                world.pods.remove(&some_pod(number).uid);
                world.publish();
            }
            Act::Exit(which, well) => {
                if let Some(seen) = pick(&world, which)
                    && seen.identity.container != PAUSE
                {
                    world.sim.exit(&seen.id, i64::from(!well));
                }
            }
            Act::Kill(which) => {
                if let Some(seen) = pick(&world, which) {
                    world.sim.kill_from_outside(&seen.id);
                }
            }
            Act::Remove(which) => {
                if let Some(seen) = pick(&world, which) {
                    world.sim.remove_from_outside(&seen.id);
                }
            }
            Act::Pause(which) => {
                if let Some(seen) = pick(&world, which)
                    && let RunState::Running { started_at } = seen.state
                {
                    let mut engine = world.sim.world();
                    engine.containers.get_mut(&seen.id).unwrap().state =
                        RunState::Paused { started_at };
                }
            }
            Act::Fault(which) => {
                let call = ["create", "start", "remove", "terminate"][usize::from(which)];
                world.sim.world().faults.insert(call.to_owned(), 1);
            }
            Act::Restart => world.restart(),
            Act::Pass(seconds) => world.pass(u64::from(seconds)),
            Act::Step => {
                world.step().await;
            }
        }
    }
    world
}

/// Nothing goes wrong any more: init containers end well, time passes.
async fn heal(world: &mut World) {
    world.sim.world().faults.clear();
    for _ in 0..40 {
        world.settle().await;
        let inits: Vec<String> = {
            let engine = world.sim.world();
            let all = engine.containers.values();
            all.filter(|seen| seen.identity.container == "i" && seen.state.is_alive())
                .map(|seen| seen.id.clone())
                .collect()
        };
        for id in inits {
            world.sim.exit(&id, 0);
        }
        world.pass(60);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_converges_to_what_is_ordered(acts in prop::collection::vec(act(), 0..60)) {
        runtime().block_on(async {
            let mut world = act_out(acts).await;
            if world.node.set().is_none() {
                return;
            }
            heal(&mut world).await;
            world.settle().await;
            world.drain();
            let engine = world.sim.world();
            for seen in engine.containers.values() {
                assert!(world.pods.contains_key(&seen.identity.pod), "left over: {seen:?}");
            }
            for pod in world.pods.values() {
                let alive: BTreeSet<&str> = engine
                    .containers
                    .values()
                    .filter(|seen| seen.identity.pod == pod.uid && seen.state.is_alive())
                    .map(|seen| seen.identity.container.as_str())
                    .filter(|name| *name != PAUSE)
                    .collect();
                let observed = &world.told[&pod.uid];
                match (pod.order, observed.phase) {
                    (Order::Stop { .. }, phase) => assert_eq!(phase, PodPhase::Gone),
                    (Order::Run, PodPhase::Succeeded | PodPhase::Failed) => {
                        assert!(alive.is_empty(), "{alive:?}");
                    }
                    (Order::Run, phase) => {
                        assert_eq!(phase, PodPhase::Running, "{observed:#?}");
                        for spec in &pod.spec.containers {
                            assert!(alive.contains(spec.name.as_str()), "{observed:#?}");
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn the_same_history_leads_to_the_same_steps(acts in prop::collection::vec(act(), 0..40)) {
        let first = runtime().block_on(act_out(acts.clone())).lines;
        let second = runtime().block_on(act_out(acts)).lines;
        prop_assert_eq!(first, second);
    }
}
