//! The catalog: what its parts do together.

use std::sync::Arc;

use bytes::Bytes;

use super::action::{Action, Done, Outbox, RequestId, Work};
use super::coordinator::{Context, Coordinator};
use super::installed::{Installation, Installed, Purpose};
use super::limits::Limits;
use super::message::{ModuleMessage, OperationId, Peer, Ready, Step};
use super::mutant::CatalogMutant;
use super::operation::Wish;
use super::participant::{Participant, Task};
use super::shelf::{Need, Shelf};
use crate::ids::ModuleId;
use crate::replication::{Incarnation, MODULE_BYTES_MAX, View, ViewVersion};

/// How often a server looks at what is to be repeated, while there is something.
const TICK_MS: u64 = 10;

/// A module that a client wants to push.
#[derive(Clone, Debug)]
pub struct Push {
    /// The SHA-256 of its bytes.
    pub module: ModuleId,
    /// The bytes.
    pub bytes: Bytes,
    /// Whether its types may replace those of other modules.
    pub replace: bool,
    /// Whether the client only wants to know whether the module would be taken.
    pub check: bool,
}

/// A server's part in what modules the cluster has.
#[derive(Debug)]
pub struct ModuleCatalog {
    me: Peer,
    limits: Limits,
    /// The newest view in which this server was a member.
    view: Option<Arc<View>>,
    /// The view is of this incarnation.
    is_member: bool,
    now_ms: u64,
    shelf: Shelf,
    installed: Installed,
    participant: Participant,
    coordinator: Coordinator,
    out: Outbox,
}

impl ModuleCatalog {
    /// The catalog of a server that has just started: nothing is in memory.
    pub fn new(me: Peer, limits: Limits) -> ModuleCatalog {
        ModuleCatalog {
            me,
            limits,
            view: None,
            is_member: false,
            now_ms: 0,
            shelf: Shelf::new(limits),
            installed: Installed::default(),
            participant: Participant::default(),
            coordinator: Coordinator::new(limits),
            out: Outbox::new(me),
        }
    }

    /// A new incarnation begins in the same process: what was under way for clients and coordinators has ended. What is
    /// in memory stays, and so does work that was begun.
    pub fn begin(&mut self, incarnation: Incarnation) {
        self.me.incarnation = incarnation;
        self.is_member = false;
        self.out.begin(self.me);
        self.coordinator.end(&mut self.out);
        self.participant.clear();
        self.settle();
    }

    /// A view came. Some in between may be left out; older ones are ignored.
    pub fn on_view(&mut self, view: &Arc<View>) {
        let present = self.view.as_ref().map(|view| view.version);
        let is_member = view.has(self.me.node, self.me.incarnation);
        if !is_member || present.is_some_and(|present| view.version < present) {
            return;
        }
        self.is_member = true;
        self.view = Some(view.clone());
        let others = view.members.keys().copied();
        let others = others.filter(|node| *node != self.me.node);
        self.shelf.set_sources(others.collect());
        self.installed.on_view(view);
        self.participant.on_view(view);
        self.coordinate(|coordinator, context| coordinator.on_view(context));
        self.settle();
    }

    /// A client pushes a module.
    pub fn push(&mut self, request: RequestId, push: Push) {
        let wish = Wish::Push {
            module: push.module,
            bytes: push.bytes,
            replace: push.replace,
            check: push.check,
        };
        self.submit(request, wish);
    }

    /// A client removes a module.
    pub fn remove(&mut self, request: RequestId, module: ModuleId) {
        self.submit(request, Wish::Remove { module });
    }

    fn submit(&mut self, request: RequestId, wish: Wish) {
        let (now_ms, out) = (self.now_ms, &mut self.out);
        self.coordinator.submit(request, wish, now_ms, out);
        self.settle();
    }

    /// A message came from another server, which is in this incarnation.
    pub fn on_message(&mut self, from: Peer, message: ModuleMessage) {
        let view = self.view.as_ref();
        let is_member = view.is_some_and(|view| view.has(from.node, from.incarnation));
        // A server that has just joined may be known to the sender of a piece, and not yet here.
        let is_about_bytes = matches!(
            message,
            ModuleMessage::Fetch { .. }
                | ModuleMessage::Piece { .. }
                | ModuleMessage::Absent { .. }
        );
        if !self.is_member || !(is_member || is_about_bytes) {
            return;
        }
        self.take_message(from, message);
        self.settle();
    }

    fn take_message(&mut self, from: Peer, message: ModuleMessage) {
        let is_coordinator = |operation: &OperationId| operation.coordinator == from;
        match message {
            ModuleMessage::Prepare {
                operation,
                seen,
                module,
                size,
                step,
            } if is_coordinator(&operation) => {
                let task = Task {
                    seen,
                    module,
                    size,
                    step,
                    answer: None,
                    confirm: None,
                };
                self.on_prepare(operation, task);
            }
            ModuleMessage::Confirm { operation, since } if is_coordinator(&operation) => {
                self.participant.on_confirm(operation, since);
            }
            ModuleMessage::Release { operation, seen } if is_coordinator(&operation) => {
                let view = self.view.as_ref();
                let knows = view.is_some_and(|view| view.version >= seen);
                // Otherwise it comes again.
                if knows || CatalogMutant::ReleasesEarly.is_planted() {
                    self.participant.on_release(operation, &mut self.out);
                }
            }
            ModuleMessage::Prepared {
                operation,
                seen,
                answer,
            } => self.coordinate(|coordinator, context| {
                coordinator.on_prepared((from, operation), seen, answer, context);
            }),
            ModuleMessage::Installed { operation, outcome } => {
                self.coordinate(|coordinator, context| {
                    coordinator.on_installed((from, operation), outcome, context);
                });
            }
            ModuleMessage::Released { operation } => self.coordinate(|coordinator, context| {
                coordinator.on_released((from, operation), context);
            }),
            ModuleMessage::Fetch { module, offset } => {
                self.shelf.serve(from.node, module, offset, &mut self.out);
            }
            ModuleMessage::Piece {
                module,
                offset,
                bytes,
            } => {
                let piece = (module, offset, &bytes[..]);
                let now_ms = self.now_ms;
                self.shelf.on_piece(from.node, piece, now_ms, &mut self.out);
            }
            ModuleMessage::Absent { module } => {
                self.shelf.on_absent(from.node, &module, self.now_ms);
            }
            // Of one server, in the name of another.
            ModuleMessage::Prepare { .. }
            | ModuleMessage::Confirm { .. }
            | ModuleMessage::Release { .. } => {}
        }
    }

    fn on_prepare(&mut self, operation: OperationId, task: Task) {
        let (module, size, seen) = (task.module, task.size, task.seen);
        let is_push = matches!(task.step, Step::Push { .. });
        let is_new = self.participant.on_prepare(operation, task, &mut self.out);
        if !is_new || !is_push {
            return;
        }
        self.shelf.forget_failure(&module);
        let is_here = self.shelf.has(&module);
        let staged = self.shelf.staged_bytes().saturating_add(size);
        let is_full = !is_here && staged > self.limits.staged_bytes;
        if size == 0 || size > MODULE_BYTES_MAX || is_full {
            let reason = "too many modules are pushed at the same time: repeat it".to_owned();
            let out = &mut self.out;
            self.participant
                .set_answer(operation, seen, Err(reason), out);
        }
    }

    /// Work has ended.
    pub fn on_done(&mut self, done: Done) {
        match done {
            Done::Loaded(_)
            | Done::Stored(_)
            | Done::Compiled(_)
            | Done::Released
            | Done::Pruned => self.shelf.on_done(done, self.now_ms),
            Done::Checked(_)
            | Done::Installed(_)
            | Done::Uninstalled
            | Done::Retired(_)
            | Done::Restored => self.on_types_done(done),
        }
        self.settle();
    }

    fn on_types_done(&mut self, done: Done) {
        let (work, purpose) = self.installed.take_busy();
        let out = &mut self.out;
        match (work, purpose, done) {
            (
                Work::Check { module, .. },
                Purpose::Operation(operation, seen),
                Done::Checked(result),
            ) => {
                let info = self.shelf.code(&module).and_then(Result::ok).cloned();
                let answer = result.map(|is_current| Ready {
                    is_current,
                    module: info,
                });
                self.participant.set_answer(operation, seen, answer, out);
            }
            (
                Work::Retire { module, .. },
                Purpose::Operation(operation, seen),
                Done::Retired(result),
            ) => {
                if result.is_ok() {
                    self.installed.on_retired(module);
                }
                let answer = result.map(|()| READY);
                self.participant.set_answer(operation, seen, answer, out);
            }
            (Work::Install { module, .. }, Purpose::View(since), Done::Installed(result)) => {
                let installation = Installation {
                    module,
                    since,
                    outcome: result.ok(),
                };
                if let Some(view) = &self.view {
                    self.installed.on_installed(installation, view);
                }
            }
            (Work::Uninstall { module, .. }, _, Done::Uninstalled) => {
                self.installed.on_uninstalled(&module);
            }
            (Work::Restore { module, .. }, _, Done::Restored) => {
                self.installed.on_restored(&module);
            }
            (work, _, done) => panic!("{done:?} is not the end of {work:?}"),
        }
    }

    /// The time of the inputs that follow. While nothing is under way no tick tells it.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Time passes.
    pub fn tick(&mut self, now_ms: u64) {
        self.set_now(now_ms);
        self.coordinator.give_up_waiting(self.now_ms, &mut self.out);
        self.coordinate(|coordinator, context| coordinator.tick(context));
        self.settle();
    }

    /// When [`tick`](ModuleCatalog::tick) is to be called the next time, if nothing else happens.
    pub fn next_timeout(&self) -> Option<u64> {
        let is_waiting = !self.coordinator.is_idle() || self.shelf.is_waiting();
        is_waiting.then_some(self.now_ms + TICK_MS)
    }

    /// The next of what is to be done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.next_action()
    }

    /// Does something as the coordinator, if this server is a member.
    fn coordinate(&mut self, act: impl FnOnce(&mut Coordinator, &mut Context<'_>)) {
        if let Some(view) = self.view.as_ref().filter(|_| self.is_member) {
            let mut context = Context {
                view,
                now_ms: self.now_ms,
                out: &mut self.out,
            };
            act(&mut self.coordinator, &mut context);
        }
    }

    /// Does all that follows from what has changed.
    fn settle(&mut self) {
        self.coordinate(|coordinator, context| coordinator.begin_next(context));
        while let Some(message) = self.out.next_local() {
            self.take_message(self.me, message);
            self.coordinate(|coordinator, context| coordinator.begin_next(context));
        }
        // An earlier incarnation's view may lack a module that was kept with the help of this server: before the next
        // one nothing is released.
        let Some(view) = self.view.clone().filter(|_| self.is_member) else {
            return;
        };
        self.shelf.require(self.needs(&view));
        if let Some((module, bytes)) = self.coordinator.take_brought() {
            self.shelf.give(&module, bytes);
        }
        self.shelf.fetch(self.now_ms, &mut self.out);
        self.shelf
            .plan(self.installed.pinned(), self.now_ms, &mut self.out);
        self.plan_types(&view);
        self.answer(&view);
        if self.out.has_local() {
            self.settle();
        }
    }

    /// The modules whose bytes and code this server needs.
    fn needs(&self, view: &View) -> Vec<Need> {
        let kept = view.modules.iter().map(|kept| Need {
            module: kept.id,
            size: kept.size,
            is_kept: true,
            source: None,
        });
        let mut needs: Vec<Need> = kept.collect();
        let add = |needs: &mut Vec<Need>, need: Need| match needs
            .iter_mut()
            .find(|known| known.module == need.module)
        {
            Some(known) => known.source = known.source.or(need.source),
            None => needs.push(need),
        };
        if let Some(need) = self.coordinator.need() {
            add(&mut needs, need);
        }
        for (operation, task) in self.participant.tasks() {
            let is_refused = matches!(task.answer, Some(Err(_)));
            if matches!(task.step, Step::Push { .. }) && !is_refused {
                let need = Need {
                    module: task.module,
                    size: task.size,
                    is_kept: false,
                    source: Some(operation.coordinator.node),
                };
                add(&mut needs, need);
            }
        }
        for module in self.installed.needed() {
            if let Some(bytes) = self.shelf.bytes(&module) {
                let need = Need {
                    module,
                    size: bytes.len() as u64,
                    is_kept: true,
                    source: None,
                };
                add(&mut needs, need);
            }
        }
        needs
    }

    /// Begins the next work with types, if none is under way.
    fn plan_types(&mut self, view: &View) {
        let for_view = Purpose::View(view.version);
        while !self.installed.is_busy() {
            if let Some(work) = self.installed.next_uninstall() {
                return self.installed.start(work, for_view, &mut self.out);
            }
            let shelf = &self.shelf;
            let has_code = |module: &ModuleId| shelf.code(module).is_some();
            if let Some((module, since)) = self.installed.next_module(view, has_code) {
                if let Some(Err(_)) = shelf.code(&module) {
                    self.installed.skip(module, since);
                    continue;
                }
                let order = self.installed.order(Some(module));
                let work = Work::Install { module, order };
                let purpose = Purpose::View(since);
                return self.installed.start(work, purpose, &mut self.out);
            }
            let stays =
                |module: &ModuleId| self.participant.retires(module, view.module_since(module));
            if let Some(work) = self.installed.next_restore(stays) {
                return self.installed.start(work, for_view, &mut self.out);
            }
            if !self.installed.has_all_of(view) || !self.prepare_next(view) {
                return;
            }
        }
    }

    /// Goes on with what a coordinator has asked for; `false` if there is nothing that can be done now.
    fn prepare_next(&mut self, view: &View) -> bool {
        let is_ready = |task: &Task| {
            let is_known = match task.step {
                Step::Push { .. } => self.shelf.stored_code(&task.module).is_some(),
                Step::Remove { .. } => true,
            };
            task.answer.is_none() && task.seen <= view.version && is_known
        };
        let ready = self.participant.tasks().find(|(_, task)| is_ready(task));
        let ready = ready.map(|(operation, task)| (operation, task.seen, task.module, task.step));
        let Some((operation, seen, module, step)) = ready else {
            return false;
        };
        let purpose = Purpose::Operation(operation, seen);
        let work = match step {
            Step::Push { replace } => match self.shelf.stored_code(&module) {
                Some(Err(reason)) => Err(Err(reason.to_owned())),
                _ => Ok(Work::Check { module, replace }),
            },
            Step::Remove { since } => {
                let installed = self.installed.find(&module);
                let is_here = installed.is_some_and(|one| one.since == since);
                let is_usable = installed.is_some_and(|one| one.outcome.is_some());
                // If it is retired already, objects may have come from other servers since.
                match is_here && is_usable {
                    true => Ok(self.installed.retire(module)),
                    // No object is made of it here.
                    false => Err(Ok(READY)),
                }
            }
        };
        match work {
            Ok(work) => self.installed.start(work, purpose, &mut self.out),
            Err(answer) => {
                let out = &mut self.out;
                self.participant.set_answer(operation, seen, answer, out);
            }
        }
        true
    }

    /// Tells coordinators what they wait for.
    fn answer(&mut self, view: &View) {
        let installed = &self.installed;
        let outcome = |module: &ModuleId, needed: ViewVersion| {
            if let Some(one) = installed.find(module)
                && one.since >= needed
            {
                return Some(one.outcome.clone());
            }
            let is_gone = view.version >= needed && view.module_since(module).is_none();
            is_gone.then_some(None)
        };
        self.participant.send_installed(outcome, &mut self.out);
        let is_settled = |module: &ModuleId| {
            installed.pinned() != Some(*module) && !installed.is_retired(module)
        };
        self.participant.send_released(is_settled, &mut self.out);
    }

    /// Whether a module's code is here. Code of modules that the view does not have any more may still be with the
    /// server's types.
    pub fn has_code(&self, module: &ModuleId) -> bool {
        matches!(self.shelf.code(module), Some(Ok(_)))
    }

    /// Whether the newest view may have a module that is not installed here, so that an unknown type may be known soon.
    pub fn is_behind(&self) -> bool {
        let view = self.view.as_ref().filter(|_| self.is_member);
        view.is_none_or(|view| !self.installed.has_all_of(view))
    }

    /// An object waits for a module's code, which comes before that of others. `false` if no view that this server
    /// knows of has the module.
    pub fn want(&mut self, module: &ModuleId) -> bool {
        let is_here = self.shelf.want(module);
        self.settle();
        is_here
    }

    /// Whether a module has come to its place later than another one. A module that the view does not have is older
    /// than all that it has.
    pub fn supersedes(&self, new: &ModuleId, old: &ModuleId) -> bool {
        self.view
            .as_ref()
            .is_some_and(|view| view.module_since(new) > view.module_since(old))
    }

    /// Ids and sizes of the view's modules that are installed here.
    pub fn kept(&self) -> impl Iterator<Item = (ModuleId, u64)> {
        let kept = self.view.iter().flat_map(|view| &view.modules);
        kept.filter(|kept| self.installed.find(&kept.id).is_some())
            .map(|kept| (kept.id, kept.size))
    }

    /// Whether all modules of the view are stored, compiled and installed, and nothing is under way.
    pub fn is_at_rest(&self) -> bool {
        !self.is_behind()
            && !self.installed.is_busy()
            && self.installed.order(None).retired.is_empty()
            && self.participant.is_idle()
            && self.coordinator.is_idle()
            && self.shelf.is_at_rest()
    }

    /// Asserts what always holds, between any two inputs.
    ///
    /// # Panics
    ///
    /// If it does not hold: then there is a bug.
    pub fn check(&self) {
        self.shelf.check();
        self.installed.check(self.view.as_deref());
        self.participant.check(self.view.as_deref());
        self.coordinator.check(&self.out);
        for one in self.installed.list() {
            if one.outcome.is_some() {
                assert!(self.has_code(&one.module), "what is installed has code");
            }
        }
    }
}

const READY: Ready = Ready {
    is_current: false,
    module: None,
};
