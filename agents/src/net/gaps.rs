//! Having kgit's own traffic pass other people's filters: `iptables` in both of its kinds, and
//! `firewalld`. What stands in them is said by [`holes`] and [`firewalld`]. Repeats itself without
//! harm, since others take things away at any time.

#![allow(clippy::disallowed_methods, reason = "part of the shell: it looks at the host")]

use std::collections::BTreeMap;

use crate::net::firewalld::{self, Gap};
use crate::net::holes::{self, Jump};
use crate::net::kernel::{self, Iptables, KernelError, OwnChange};
use crate::net::wire::{Here, Problem};

/// The gaps as they were made last.
#[derive(Debug, Default)]
pub struct Gaps {
    /// By kind; what stood in [`holes::chains`] for it.
    iptables: BTreeMap<Iptables, String>,
    /// For whom they were made in firewalld's table.
    firewalld: Option<(Here, u16)>,
    own: OwnChange,
}

impl Gaps {
    /// Whether somebody uses a filter whose changes nobody tells of.
    pub fn a_filter_is_silent(&self) -> bool {
        kernel::has_legacy_filter()
    }

    /// Has kgit's own traffic pass. One filter's refusal is told after all have been tried.
    pub async fn pass(&mut self, here: &Here, master_port: u16) -> Result<(), Problem> {
        let mut problem = None;
        for kind in kernel::iptables_kinds() {
            if let Err(error) = self.pass_iptables(kind, here, master_port).await {
                problem = Some(not_passed(error.to_string()));
            }
        }
        let passed = self.pass_firewalld(here, master_port).await;
        passed.and(problem.map_or(Ok(()), Err))
    }

    async fn pass_iptables(
        &mut self,
        kind: Iptables,
        here: &Here,
        master_port: u16,
    ) -> Result<(), KernelError> {
        let shown = kind.run(&["-S"]).await?;
        let text = holes::chains(here, master_port);
        let known = self.iptables.get(&kind);
        if known.is_none() && !holes::is_needed(&shown) {
            return Ok(());
        }
        if known != Some(&text) || !holes::is_filled(&shown, &here.table) {
            kind.restore(&text).await?;
            self.iptables.insert(kind, text);
        }
        for from in holes::FROM {
            let chain = holes::chain(&here.table, from);
            let jump = holes::jump(&shown, from, &chain);
            if jump == Jump::Behind {
                kind.run(&["-D", from, "-j", &chain]).await?;
            }
            if jump != Jump::First {
                kind.run(&["-I", from, "1", "-j", &chain]).await?;
            }
        }
        Ok(())
    }

    async fn pass_firewalld(&mut self, here: &Here, master_port: u16) -> Result<(), Problem> {
        let known = matches!(&self.firewalld, Some((made, port))
            if *port == master_port && made.table == here.table && made.bridge == here.bridge
                && made.gateway == here.gateway);
        match firewalld::gap(&firewalld_table().await, here, master_port, known) {
            Gap::Open => Ok(()),
            Gap::Missing(text) => {
                let done = kernel::nft(&text, &self.own).await;
                done.map_err(|error| not_passed(error.to_string()))?;
                self.firewalld = Some((here.clone(), master_port));
                Ok(())
            }
            Gap::Owned => Err(not_passed(format!(
                "firewalld lets nobody else change its rules, and rejects what pods ask of this \
                 node: `firewall-cmd --permanent --zone=trusted --add-interface={}` and \
                 `firewall-cmd --reload` let it pass",
                here.bridge
            ))),
        }
    }
}

/// Takes away what was put into other people's filters, by whichever process.
pub async fn clear(table: &str) {
    for kind in kernel::iptables_kinds() {
        for from in holes::FROM {
            let chain = holes::chain(table, from);
            // Where the chain never was, there is nothing to take away.
            for arguments in
                [vec!["-D", from, "-j", &chain], vec!["-F", &chain], vec!["-X", &chain]]
            {
                let _ = kind.run(&arguments).await;
            }
        }
    }
    let text = firewalld::closing(&firewalld_table().await, table);
    if !text.is_empty() {
        // A reload meanwhile took it away as well.
        let _ = kernel::nft(&text, &OwnChange::default()).await;
    }
}

/// Empty where there is no firewalld, or one that uses `iptables`.
async fn firewalld_table() -> String {
    let list = ["-a", "list", "table", "inet", firewalld::TABLE];
    kernel::run("nft", &list).await.unwrap_or_default()
}

fn not_passed(message: String) -> Problem {
    Problem::new("FiltersNotPassed", message)
}
