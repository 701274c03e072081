//! Answers "what would this change do?" for the API: a tree or a commit is read into a catalog of
//! its own, and planned from the World as it is.

use std::sync::Arc;

use crate::api::forecasts::{Forecast, ForecastRefused, Forecasts, Wanted};
use crate::daemon::now;
use crate::daemon::source::with_causes;
use crate::domain::audit::AuditedStep;
use crate::domain::desired::{Commit, Desired, TreeChange};
use crate::domain::diagnostic::Diagnostic;
use crate::domain::record::Meta;
use crate::domain::world::World;
use crate::graph;
use crate::manifest::catalog::Catalog;
use crate::master::view::View;
use crate::plan::forecast;
use crate::plan::text::{self, Line};
use crate::source::history::History;

#[derive(Debug)]
pub struct Planner {
    pub history: History,
}

impl Forecasts for Planner {
    fn forecast(&self, view: &View, wanted: Wanted) -> Result<Forecast, ForecastRefused> {
        let (from, catalog, commit) = match wanted {
            Wanted::Current => {
                let commit = view.source.commit.clone().unwrap_or_default();
                (view.world.clone(), view.catalog.clone(), commit)
            }
            Wanted::Revision(revision) => self.revision(view, &revision)?,
            Wanted::Tree { change, complete, by, at } => {
                let commit = Arc::new(Commit::not_yet(by, at));
                (view.world.clone(), edited(view, &change, complete), commit)
            }
        };
        if commit.id.is_empty() {
            let message = "the source was not read yet; see `kgit status`".to_owned();
            return Err(ForecastRefused { message });
        }
        let desired = catalog.desired(commit);
        Ok(answer(&from, &desired, diagnostics(&catalog, &desired)))
    }
}

impl Planner {
    /// `REV`: from the World as it is. `A..B`: from the World as it would be at A.
    fn revision(
        &self,
        view: &View,
        revision: &str,
    ) -> Result<(World, Catalog, Arc<Commit>), ForecastRefused> {
        let Some((from, to)) = revision.split_once("..") else {
            let (catalog, commit) = self.read(revision)?;
            return Ok((view.world.clone(), catalog, commit));
        };
        let (catalog, commit) = self.read(from)?;
        let before = forecast::forecast(&resumed(&view.world), &catalog.desired(commit), now());
        let (catalog, commit) = self.read(to)?;
        Ok((before.world, catalog, commit))
    }

    fn read(&self, revision: &str) -> Result<(Catalog, Arc<Commit>), ForecastRefused> {
        let (commit, change) = self
            .history
            .read_at(revision)
            .map_err(|error| ForecastRefused { message: with_causes(&error) })?;
        let mut catalog = Catalog::default();
        catalog.apply(&change);
        Ok((catalog, commit))
    }
}

/// While commits are suspended, the question is what they will do when they no longer are.
fn resumed(world: &World) -> World {
    let mut world = world.clone();
    if world.meta.suspended.is_some() {
        let meta = Meta { suspended: None, ..(*world.meta).clone() };
        world.meta = Arc::new(meta);
    }
    world
}

fn edited(view: &View, change: &TreeChange, complete: bool) -> Catalog {
    let mut catalog = if complete { Catalog::default() } else { view.catalog.clone() };
    catalog.apply(change);
    catalog
}

fn diagnostics(catalog: &Catalog, desired: &Desired) -> Vec<Diagnostic> {
    let mut found = catalog.diagnostics();
    found.extend(graph::cycles(desired));
    found
}

fn answer(world: &World, desired: &Desired, diagnostics: Vec<Diagnostic>) -> Forecast {
    let forecast = forecast::forecast(&resumed(world), desired, now());
    let lines = forecast.steps.iter().map(|step| Line { said: &step.said, reasons: &step.reasons });
    let mut text = text::plan(lines, &forecast.waits);
    let held = forecast.world.meta.held.as_ref().filter(|held| held.approved.is_none());
    text.push_str(&held.map(text::held).unwrap_or_default());
    let held = held.map(|held| held.objects.clone()).unwrap_or_default();
    let changes = forecast.steps.len();
    let steps = forecast.steps.into_iter().map(|step| AuditedStep {
        said: step.said,
        reasons: step.reasons,
        deviation: None,
    });
    let sync = forecast.world.meta.sync.as_ref().filter(|sync| sync.open);
    let pending = sync.map(|sync| sync.pending.iter().cloned().collect()).unwrap_or_default();
    let waits = forecast.waits;
    Forecast { steps: steps.collect(), waits, held, pending, diagnostics, changes, text }
}
