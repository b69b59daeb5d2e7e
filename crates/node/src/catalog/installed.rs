//! Which modules' types new objects are of at a server, and the work with types.

use std::collections::{BTreeSet, VecDeque};

use crucial_proto::frame::Pushed;

use super::action::{Order, Outbox, Work};
use super::message::OperationId;
use super::mutant::CatalogMutant;
use crate::ids::ModuleId;
use crate::replication::{View, ViewVersion};

/// A module of the view that this server is through with.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    pub module: ModuleId,
    /// The view with which it came to its place.
    pub since: ViewVersion,
    /// The outcome for the objects; `None`: the module cannot be used here.
    pub outcome: Option<Pushed>,
}

/// For whom work with types is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For the view, which has had the module since.
    View(ViewVersion),
    /// For an operation, with the modules of this view.
    Operation(OperationId, ViewVersion),
}

/// The modules that are installed.
#[derive(Debug, Default)]
pub(super) struct Installed {
    /// The first modules of the view, in its order.
    list: Vec<Installation>,
    /// Modules that were installed, and that the view does not have any more.
    dropped: VecDeque<ModuleId>,
    /// Installed modules that no new object is of.
    retired: BTreeSet<ModuleId>,
    busy: Option<(Work, Purpose)>,
}

impl Installed {
    pub fn on_view(&mut self, view: &View) {
        self.list.retain(
            |installation| match view.module_since(&installation.module) {
                Some(since) => since == installation.since,
                None => {
                    self.dropped.push_back(installation.module);
                    false
                }
            },
        );
    }

    /// The installation of a module.
    pub fn find(&self, module: &ModuleId) -> Option<&Installation> {
        self.list.iter().find(|one| one.module == *module)
    }

    pub fn list(&self) -> &[Installation] {
        &self.list
    }

    /// Whether all modules of the view are installed, and no others.
    pub fn has_all_of(&self, view: &View) -> bool {
        self.dropped.is_empty() && self.list.len() == view.modules.len()
    }

    pub fn is_retired(&self, module: &ModuleId) -> bool {
        self.retired.contains(module)
    }

    /// Modules whose code work with types needs, though the view may not have them any more.
    pub fn needed(&self) -> impl Iterator<Item = ModuleId> {
        let list = self.list.iter().map(|one| one.module);
        list.chain(self.dropped.iter().copied())
            .chain(self.pinned())
    }

    /// The module that work is under way with.
    pub fn pinned(&self) -> Option<ModuleId> {
        self.busy.as_ref().and_then(|(work, _)| work.module())
    }

    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The module of each type: all that are installed, with one more that is being installed.
    pub fn order(&self, more: Option<ModuleId>) -> Order {
        let installed = self.list.iter().filter(|one| one.outcome.is_some());
        let mut modules: Vec<_> = installed.map(|one| one.module).collect();
        modules.extend(more);
        let mut retired = self.retired.clone();
        if let Some(module) = more {
            retired.remove(&module);
        }
        Order { modules, retired }
    }

    /// The work that a dropped module makes.
    pub fn next_uninstall(&self) -> Option<Work> {
        let module = *self.dropped.front()?;
        let mut order = self.order(None);
        order.retired.remove(&module);
        Some(Work::Uninstall { module, order })
    }

    /// The next module of the view to install. `has_code` says whether that can be done now.
    pub fn next_module(
        &self,
        view: &View,
        has_code: impl Fn(&ModuleId) -> bool,
    ) -> Option<(ModuleId, ViewVersion)> {
        let missing = |kept: &&crate::replication::KeptModule| {
            let installed = self.find(&kept.id);
            installed.is_none_or(|installed| installed.since != kept.since)
        };
        let mut missing = view.modules.iter().filter(missing);
        let next = match CatalogMutant::InstallOutOfOrder.is_planted() {
            true => missing.find(|kept| has_code(&kept.id)),
            false => missing.next().filter(|kept| has_code(&kept.id)),
        };
        next.map(|kept| (kept.id, kept.since))
    }

    /// The first retired module that is not to be so.
    pub fn next_restore(&self, stays: impl Fn(&ModuleId) -> bool) -> Option<Work> {
        let module = *self.retired.iter().find(|module| !stays(module))?;
        let mut order = self.order(None);
        order.retired.remove(&module);
        Some(Work::Restore { module, order })
    }

    /// The work that retires a module.
    pub fn retire(&self, module: ModuleId) -> Work {
        let mut order = self.order(None);
        order.retired.insert(module);
        Work::Retire { module, order }
    }

    /// A module of the view cannot be used here. The later ones do not wait for it.
    pub fn skip(&mut self, module: ModuleId, since: ViewVersion) {
        let outcome = None;
        self.list.push(Installation {
            module,
            since,
            outcome,
        });
    }

    pub fn start(&mut self, work: Work, purpose: Purpose, out: &mut Outbox) {
        assert!(self.busy.is_none(), "one work with types at a time");
        self.busy = Some((work.clone(), purpose));
        out.start(work);
    }

    /// The work that has ended.
    pub fn take_busy(&mut self) -> (Work, Purpose) {
        self.busy.take().expect("work with types was under way")
    }

    pub fn on_installed(&mut self, installation: Installation, view: &View) {
        let module = installation.module;
        self.retired.remove(&module);
        match view.module_since(&module) {
            Some(since) if since == installation.since => self.list.push(installation),
            // The module is installed again at its new place.
            Some(_) => {}
            None => self.dropped.push_back(module),
        }
    }

    pub fn on_uninstalled(&mut self, module: &ModuleId) {
        self.dropped.retain(|dropped| dropped != module);
        self.retired.remove(module);
    }

    pub fn on_retired(&mut self, module: ModuleId) {
        self.retired.insert(module);
    }

    pub fn on_restored(&mut self, module: &ModuleId) {
        self.retired.remove(module);
    }

    /// Asserts what always holds.
    pub fn check(&self, view: Option<&View>) {
        let kept = view.map_or(&[][..], |view| &view.modules);
        let pairs = self.list.iter().zip(kept);
        for (installed, kept) in pairs {
            let is_next = (installed.module, installed.since) == (kept.id, kept.since);
            assert!(is_next, "modules are installed in the view's order");
        }
        assert!(
            self.list.len() <= kept.len(),
            "only the view's are installed"
        );
        if let Some((work, _)) = &self.busy {
            assert!(work.is_about_types());
        }
    }
}
