//! An agent's disk: what was written is there for whoever reads it, and only what was synced is
//! there after a power cut. What was not may be torn, old, or missing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use kgit_agent::disk::Disk;

use crate::random::Random;

/// The disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
pub struct Platter {
    files: BTreeMap<u64, Content>,
    /// What a reader finds, and what a power cut leaves.
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Changes of names since they were last made durable, in order.
    pending: Vec<(String, Option<u64>)>,
    made: u64,
    /// No room for anything new.
    pub full: bool,
    /// Operations until the power goes.
    pub dies_in: Option<u32>,
    pub dead: bool,
    /// A promise broken on purpose: syncing makes nothing durable.
    pub lies: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: bool,
}

impl SimDisk {
    pub fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// The power is back: what was not durable is lost as chance will have it.
    pub fn power_cut(&self, random: &mut Random) {
        let mut platter = self.platter();
        let kept = random.below(platter.pending.len() + 1);
        let pending = std::mem::take(&mut platter.pending);
        let mut names = platter.durable.clone();
        for (name, file) in pending.into_iter().take(kept) {
            match file {
                Some(file) => drop(names.insert(name, file)),
                None => drop(names.remove(&name)),
            }
        }
        platter.files.retain(|file, _| names.values().any(|named| named == file));
        for content in platter.files.values_mut().filter(|content| !content.synced) {
            let left = random.below(content.bytes.len() + 1);
            content.bytes.truncate(left);
            content.synced = true;
        }
        (platter.names, platter.durable) = (names.clone(), names);
        (platter.dead, platter.dies_in) = (false, None);
    }
}

impl Platter {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.dies_in {
            Some(0) => self.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        match self.dead {
            true => Err(io::Error::other("the power is out")),
            false => Ok(()),
        }
    }

    fn file(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, name: &str, file: Option<u64>) {
        match file {
            Some(file) => drop(self.names.insert(name.to_owned(), file)),
            None => drop(self.names.remove(name)),
        }
        self.pending.push((name.to_owned(), file));
    }
}

impl Disk for SimDisk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let platter = self.platter();
        let file = platter.file(name)?;
        Ok(platter.files[&file].bytes.clone())
    }

    fn write_beside(&self, bytes: &[u8], _mode: u32) -> io::Result<String> {
        let mut platter = self.platter();
        platter.operate()?;
        if platter.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.made += 1;
        let (file, name) = (platter.made, format!(".tmp{}", platter.made));
        platter.files.insert(file, Content { bytes: bytes.to_vec(), synced: false });
        platter.rename(&name, Some(file));
        Ok(name)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        let (file, lies) = (platter.file(name)?, platter.lies);
        if let Some(content) = platter.files.get_mut(&file) {
            content.synced |= !lies;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        let file = platter.file(from)?;
        platter.rename(to, Some(file));
        platter.rename(from, None);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        platter.pending.clear();
        platter.durable = platter.names.clone();
        let Platter { files, durable, .. } = &mut *platter;
        files.retain(|file, _| durable.values().any(|named| named == file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        platter.file(name)?;
        platter.rename(name, None);
        Ok(())
    }
}
