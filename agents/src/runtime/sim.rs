//! An engine in memory: deterministic, with a clock that is set from outside and faults that are
//! asked for. For tests of decisions and for simulation, where everything but the engine is real.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use ipnet::Ipv4Net;
use kgit_protocol::pod::RegistryLogin;
use kgit_protocol::stream::{Ends, LogRequest, TerminalSize};
use kgit_protocol::time::Timestamp;
use tokio::net::TcpStream;

use crate::runtime::{
    Change, ContainerOrder, Engine, Event, EventKind, ExecResult, Exit, Image, LogStream, Measured,
    NetworkSource, NetworkState, Outcome, Process, RunState, Runtime, RuntimeError, Seen, Talk,
    View, VolumeOrder,
};

/// The code of a process ended by TERM, and by KILL.
const TERMINATED: i64 = 143;
const KILLED: i64 = 137;

/// The engine in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sim {
    world: Arc<Mutex<World>>,
    events: Arc<tokio::sync::Notify>,
}

/// Everything that the engine holds. Tests may change it as a vandal would.
#[derive(Debug, Default)]
pub struct World {
    pub now: Timestamp,
    pub containers: BTreeMap<String, Seen>,
    pub names: BTreeMap<String, String>,
    pub images: BTreeSet<String>,
    /// Images that a pull would find.
    pub registry: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    pub network: Option<Ipv4Net>,
    pub events: VecDeque<Event>,
    /// While set, every call fails.
    pub down: bool,
    /// Containers of these names in a pod ignore TERM.
    pub stubborn: BTreeSet<String>,
    /// Fails the calls of these names, as often as their number says.
    pub faults: BTreeMap<String, u32>,
    /// How many changing calls were made.
    pub calls: u64,
    /// How many events were told, of calls and of what happened without one.
    pub told: u64,
    made: u64,
}

impl Sim {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_time(&self, now: Timestamp) {
        self.world().now = now;
    }

    /// A container's process ends by itself.
    pub fn exit(&self, id: &str, code: i64) {
        self.world().end(id, code);
        self.events.notify_waiters();
    }

    /// Somebody kills a container through the engine.
    pub fn kill_from_outside(&self, id: &str) {
        let mut world = self.world();
        world.tell(id, Change::Signalled(9));
        world.end(id, KILLED);
        self.events.notify_waiters();
    }

    /// Somebody removes a container.
    pub fn remove_from_outside(&self, id: &str) {
        let mut world = self.world();
        world.tell(id, Change::Signalled(9));
        world.forget(id);
        self.events.notify_waiters();
    }

    fn change<T>(&self, call: &str, work: impl FnOnce(&mut World) -> Outcome<T>) -> Outcome<T> {
        let mut world = self.world();
        world.calls += 1;
        world.check(call)?;
        let result = work(&mut world);
        self.events.notify_waiters();
        result
    }
}

impl World {
    fn check(&mut self, call: &str) -> Outcome<()> {
        if self.down {
            return Err(RuntimeError::Unavailable("the engine is down".to_owned()));
        }
        if let Some(left) = self.faults.get_mut(call)
            && *left > 0
        {
            *left -= 1;
            return Err(RuntimeError::Refused(format!("{call} was made to fail")));
        }
        Ok(())
    }

    fn tell(&mut self, id: &str, change: Change) {
        if let Some(seen) = self.containers.get(id) {
            let identity = seen.identity.clone();
            let kind = EventKind::Container { id: id.to_owned(), identity, change };
            self.events.push_back(Event { at: self.now, kind });
            self.told += 1;
        }
    }

    fn end(&mut self, id: &str, code: i64) {
        let now = self.now;
        if let Some(seen) = self.containers.get_mut(id)
            && let RunState::Running { started_at } | RunState::Paused { started_at } = seen.state
        {
            seen.address = None;
            seen.state = RunState::Exited(Exit {
                code,
                started_at: Some(started_at),
                finished_at: now,
                out_of_memory: false,
                error: String::new(),
            });
        }
        self.tell(id, Change::State);
    }

    fn forget(&mut self, id: &str) {
        self.tell(id, Change::State);
        self.containers.remove(id);
        self.names.retain(|_, named| named != id);
    }

    fn known(&mut self, id: &str) -> Outcome<&mut Seen> {
        self.containers.get_mut(id).ok_or_else(|| RuntimeError::Gone(id.to_owned()))
    }

    fn make(&mut self, order: &ContainerOrder) -> Outcome<String> {
        if let Some(id) = self.names.get(&order.name) {
            return match self.containers.get(id) {
                Some(seen) if seen.identity == order.identity => Ok(id.clone()),
                _ => Err(RuntimeError::NameTaken(order.name.clone())),
            };
        }
        if !self.images.contains(&order.image) {
            return Err(RuntimeError::NoSuchImage(order.image.clone()));
        }
        self.made += 1;
        let id = format!("{:064x}", self.made);
        let address = match order.namespaces.network {
            NetworkSource::Bridge(address) => Some(address),
            NetworkSource::Host | NetworkSource::Container(_) => None,
        };
        let seen = Seen {
            id: id.clone(),
            identity: order.identity.clone(),
            state: RunState::Created,
            image: order.image.clone(),
            address,
        };
        self.containers.insert(id.clone(), seen);
        self.names.insert(order.name.clone(), id.clone());
        Ok(id)
    }

    fn run(&mut self, id: &str) -> Outcome<()> {
        let now = self.now;
        let wanted = self.known(id)?.address;
        let taken = wanted.is_some()
            && self
                .containers
                .values()
                .any(|other| other.id != id && other.state.is_alive() && other.address == wanted);
        if taken {
            return Err(RuntimeError::AddressInUse("Address already in use".to_owned()));
        }
        let seen = self.known(id)?;
        if seen.state == RunState::Created {
            seen.state = RunState::Running { started_at: now };
        }
        self.tell(id, Change::State);
        Ok(())
    }
}

impl Runtime for Sim {
    async fn view(&self, expected: Ipv4Net) -> Outcome<View> {
        let mut world = self.world();
        world.check("view")?;
        let network = if world.network == Some(expected) {
            NetworkState::Present
        } else {
            NetworkState::Missing
        };
        Ok(View { containers: world.containers.values().cloned().collect(), network })
    }

    async fn ensure_network(&self, range: Ipv4Net) -> Outcome<()> {
        self.change("ensure_network", |world| {
            world.network = Some(range);
            Ok(())
        })
    }

    async fn create(&self, order: &ContainerOrder) -> Outcome<String> {
        self.change("create", |world| world.make(order))
    }

    async fn start(&self, id: &str) -> Outcome<()> {
        self.change("start", |world| world.run(id))
    }

    async fn terminate(&self, id: &str) -> Outcome<()> {
        self.change("terminate", |world| {
            let name = world.containers.get(id).map(|seen| seen.identity.container.clone());
            if name.is_some_and(|name| !world.stubborn.contains(&name)) {
                world.end(id, TERMINATED);
            }
            Ok(())
        })
    }

    async fn kill(&self, id: &str) -> Outcome<()> {
        self.change("kill", |world| {
            world.end(id, KILLED);
            Ok(())
        })
    }

    async fn unpause(&self, id: &str) -> Outcome<()> {
        self.change("unpause", |world| {
            if let Some(seen) = world.containers.get_mut(id)
                && let RunState::Paused { started_at } = seen.state
            {
                seen.state = RunState::Running { started_at };
            }
            Ok(())
        })
    }

    async fn remove(&self, id: &str) -> Outcome<()> {
        self.change("remove", |world| {
            world.forget(id);
            Ok(())
        })
    }

    async fn attach(&self, id: &str, address: std::net::Ipv4Addr) -> Outcome<()> {
        self.change("attach", |world| {
            world.known(id)?.address = Some(address);
            Ok(())
        })
    }

    async fn image(&self, name: &str) -> Outcome<Option<Image>> {
        let world = self.world();
        Ok(world.images.contains(name).then(|| Image {
            id: name.to_owned(),
            names: vec![name.to_owned()],
            digests: Vec::new(),
            user: None,
        }))
    }

    async fn images(&self) -> Outcome<Vec<Image>> {
        let names: Vec<String> = self.world().images.iter().cloned().collect();
        let image = |name: String| Image {
            id: name.clone(),
            names: vec![name],
            digests: Vec::new(),
            user: None,
        };
        Ok(names.into_iter().map(image).collect())
    }

    async fn pull(&self, name: &str, _logins: &[RegistryLogin]) -> Outcome<()> {
        self.change("pull", |world| {
            if !world.registry.contains(name) {
                return Err(RuntimeError::NoSuchImage(name.to_owned()));
            }
            world.images.insert(name.to_owned());
            Ok(())
        })
    }

    async fn restore_image(&self, container: &str, name: &str) -> Outcome<()> {
        self.change("restore_image", |world| {
            world.known(container)?;
            world.images.insert(name.to_owned());
            Ok(())
        })
    }

    async fn remove_image(&self, id: &str) -> Outcome<()> {
        self.change("remove_image", |world| {
            world.images.remove(id);
            Ok(())
        })
    }

    async fn ensure_pause_image(&self) -> Outcome<String> {
        self.change("ensure_pause_image", |world| {
            world.images.insert("pause".to_owned());
            Ok("pause".to_owned())
        })
    }

    async fn ensure_volume(&self, order: &VolumeOrder) -> Outcome<bool> {
        self.change("ensure_volume", |world| Ok(world.volumes.insert(order.name.clone())))
    }

    async fn volumes(&self) -> Outcome<Vec<String>> {
        Ok(self.world().volumes.iter().cloned().collect())
    }

    async fn volume_path(&self, _name: &str) -> Outcome<Option<String>> {
        Ok(None)
    }

    async fn remove_volume(&self, name: &str) -> Outcome<()> {
        self.change("remove_volume", |world| {
            world.volumes.remove(name);
            Ok(())
        })
    }

    async fn remove_network(&self) -> Outcome<()> {
        self.change("remove_network", |world| {
            world.network = None;
            Ok(())
        })
    }

    async fn network_ranges(&self) -> Outcome<Vec<Ipv4Net>> {
        Ok(self.world().network.into_iter().collect())
    }

    async fn process(&self, _id: &str) -> Outcome<Option<u32>> {
        Ok(None)
    }

    async fn measure(&self, _id: &str) -> Outcome<Option<Measured>> {
        Ok(None)
    }

    async fn exec(&self, id: &str, _command: &[String], _timeout: Duration) -> Outcome<ExecResult> {
        self.change("exec", |world| {
            world.known(id)?;
            Ok(ExecResult { code: 0, output: String::new() })
        })
    }

    async fn logs(&self, _id: &str, _request: &LogRequest) -> Outcome<LogStream> {
        Ok(stream::empty().boxed())
    }

    async fn open_exec(&self, id: &str, _command: &[String], _ends: Ends) -> Outcome<Talk> {
        self.world().known(id)?;
        Ok(silent(Process::Exec(id.to_owned())))
    }

    async fn open_attach(&self, id: &str, _ends: Ends) -> Outcome<Talk> {
        self.world().known(id)?;
        Ok(silent(Process::Container(id.to_owned())))
    }

    async fn resize(&self, _process: &Process, _size: TerminalSize) -> Outcome<()> {
        Ok(())
    }

    async fn exec_code(&self, _exec: &str) -> Outcome<Option<i64>> {
        Ok(Some(0))
    }

    async fn connect(&self, id: &str, _: Option<Ipv4Addr>, port: u16) -> Outcome<TcpStream> {
        self.world().known(id)?;
        Err(RuntimeError::Refused(format!("nothing listens on port {port}")))
    }

    fn events(&self, _since: Timestamp) -> BoxStream<'static, Outcome<Event>> {
        let sim = self.clone();
        stream::unfold(sim, |sim| async move {
            loop {
                let notify = Arc::clone(&sim.events);
                let woken = notify.notified();
                let next = sim.world().events.pop_front();
                match next {
                    Some(event) => return Some((Ok(event), sim)),
                    None => woken.await,
                }
            }
        })
        .boxed()
    }

    async fn engine(&self) -> Outcome<Engine> {
        self.world().check("engine")?;
        Ok(Engine { version: "sim".to_owned(), ..Engine::default() })
    }
}

/// A process that says nothing and ends.
fn silent(process: Process) -> Talk {
    Talk { process, input: Box::new(tokio::io::sink()), output: stream::empty().boxed() }
}
