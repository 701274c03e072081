//! A new epoch: what a restored master begins with, before it has heard of anybody.

use std::sync::Arc;
use std::time::Duration;

use kgit_protocol::assignment::{Stamp, content_digest};
use kgit_protocol::ids::{Digest, Epoch, Generation};
use kgit_protocol::time::Timestamp;

use crate::domain::node::{Doubt, Node};
use crate::domain::record::Meta;
use crate::domain::standing::Departed;
use crate::domain::world::{Effect, Record, Table, World};

/// How long a restored master listens for nodes that joined after the backup, before it starts
/// anew what may run on one of them. Twice as long as agents wait between two tries at most.
pub const LISTENS: Duration = Duration::from_secs(30);

/// Begins to listen, or does so anew.
pub fn listen(meta: &Meta, now: Timestamp) -> Meta {
    Meta { listens_until: Some(now.after(LISTENS)), ..meta.clone() }
}

/// Begins an epoch after `newest`. Every node is told to go on with what it has, and is in doubt
/// until it says what that is; pods that had no place may have been given one since, and are made
/// anew. `knows_less`: somebody has orders that are not on record.
pub fn begin(world: &World, newest: Epoch, knows_less: bool, now: Timestamp) -> Vec<Effect> {
    let epoch = after(world.meta.epoch.max(newest), now);
    let issued = Stamp { epoch, generation: Generation(1), digest: go_on_digest() };
    let restored = world.meta.restored || knows_less;
    let meta = Meta { epoch, restored, ..listen(&world.meta, now) };
    let meta = Effect::Meta(Arc::new(meta));
    let nodes = world.nodes.iter().map(|(key, row)| {
        let node = Arc::new(in_doubt(&row.value, issued.clone()));
        Effect::Put(key.clone(), Record::Node(node))
    });
    let unplaced = world.unplaced().flat_map(|pod| {
        [Table::Pod, Table::Events].map(|table| Effect::Remove(pod.key.clone(), table))
    });
    // What these were told since is not known either.
    let departed = world.departed.iter().map(|(key, row)| {
        let issued = Stamp { epoch, generation: Generation(1), digest: row.issued.digest.clone() };
        Effect::Put(key.clone(), Record::Departed(Arc::new(Departed { issued, ..(**row).clone() })))
    });
    std::iter::once(meta).chain(nodes).chain(unplaced).chain(departed).collect()
}

/// Numbered by its time: a backup may be restored more than once, and neither the orders nor the
/// uids of one such life may be taken for those of another.
fn after(newest: Epoch, now: Timestamp) -> Epoch {
    let seconds = u64::try_from(now.0 / 1000).unwrap_or(0);
    Epoch(newest.next().0.max(seconds))
}

/// The digest of the set of a node in doubt: it orders nothing, and has everything kept.
pub fn go_on_digest() -> Digest {
    content_digest(std::iter::empty(), &[], true)
}

/// The agents know more than the records do; `None`: that is on record already.
pub fn know_less(world: &World) -> Option<Effect> {
    let meta = Meta { restored: true, ..(*world.meta).clone() };
    (!world.meta.restored).then(|| Effect::Meta(Arc::new(meta)))
}

fn in_doubt(node: &Node, issued: Stamp) -> Node {
    let known = match &node.doubt {
        // Nothing was learnt since.
        Some(Doubt::Unheard { known }) => known.clone(),
        Some(Doubt::Runs(_)) | None => node.issued.clone(),
    };
    let next_address = far_behind(node);
    Node { issued, next_address, doubt: Some(Doubt::Unheard { known }), ..node.clone() }
}

/// Addresses that were given out since the backup follow those on record, and may be in use: the
/// search goes on a third of the range further.
fn far_behind(node: &Node) -> u32 {
    let (first, last) = (node.network.range.network(), node.network.range.broadcast());
    let (first, last) = (u32::from(first), u32::from(last));
    let size = (last - first).max(1);
    first + (node.next_address.saturating_sub(first) + size / 3) % size
}
