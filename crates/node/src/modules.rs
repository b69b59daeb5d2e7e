//! Modules: what the catalog decides, done to types and objects.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::{Error, TypeInfo, encode};
use crucial_proto::frame::{ModuleInfo, Pushed};

use crate::catalog::{
    Action, Done, ModuleMessage, Order, Peer, Push, Reply, RequestId, Work as ModuleWork,
};
use crate::ids::{Millis, ModuleId};
use crate::node::Node;
use crate::objects::{RequestContext, Task};
use crate::outputs::{Output, Outputs};
use crate::peer_message::PeerMessage;
use crate::replication::{Incarnation, Message, Mutant, View, ViewVersion};
use crate::rounds::RoundKind;
use crate::work::{Work, WorkDone, module_id};

impl Node {
    /// Tells the catalog something at a time, and does what it wants done.
    fn with_catalog(
        &self,
        now: Millis,
        out: &mut Outputs,
        tell: impl FnOnce(&mut crate::catalog::ModuleCatalog),
    ) {
        let mut catalog = self.modules.catalog.lock();
        catalog.set_now(now);
        tell(&mut catalog);
        drop(catalog);
        loop {
            let action = self.modules.catalog.lock().poll_action();
            let Some(action) = action else { break };
            self.do_for_catalog(action, now, out);
        }
        self.keep_ticking(now, out);
    }

    fn do_for_catalog(&self, action: Action, now: Millis, out: &mut Outputs) {
        match action {
            Action::Send(to, message) => {
                self.peers.send(to, PeerMessage::Module(message), out);
            }
            Action::Propose(command) => out.push(Output::Propose(command)),
            // Without a lease this server may not know any more what modules there are. A failure says nothing of that.
            Action::Reply(request, reply @ (Reply::Pushed(Ok(_)) | Reply::Removed(Ok(_))))
                if !self.membership.has_lease(now) =>
            {
                self.modules.withhold(request, reply)
            }
            Action::Reply(request, reply) => self.reply_about_modules(request, reply, out),
            Action::Start(work) => self.start_work(work, now, out),
        }
    }

    fn reply_about_modules(&self, request: RequestId, reply: Reply, out: &mut Outputs) {
        let Some(call) = self.modules.close_request(request) else {
            return;
        };
        let result = match reply {
            Reply::Pushed(pushed) => pushed.and_then(|pushed| encode(&pushed)),
            Reply::Removed(removed) => removed.and_then(|removed| encode(&removed)),
        };
        self.reply_parked(call, result.as_deref(), out);
    }

    /// This server has a lease: sends the answers that waited for one.
    pub(crate) fn answer_about_modules(&self, out: &mut Outputs) {
        for (request, reply) in self.modules.take_withheld() {
            self.reply_about_modules(request, reply, out);
        }
    }

    fn start_work(&self, work: ModuleWork, now: Millis, out: &mut Outputs) {
        let done = match work {
            ModuleWork::Load { module } => return out.push(Output::Start(Work::Load(module))),
            ModuleWork::Store { module, bytes } => {
                return out.push(Output::Start(Work::Store(module, bytes)));
            }
            ModuleWork::Compile { bytes, .. } => {
                return out.push(Output::Start(Work::Compile(bytes)));
            }
            ModuleWork::Release { module } => {
                self.types.release(&module);
                return out.push(Output::Start(Work::Remove(module)));
            }
            ModuleWork::Prune { keep } => return out.push(Output::Start(Work::Prune(keep))),
            ModuleWork::Check { module, replace } => {
                return self.check_objects(&module, replace, now, out);
            }
            ModuleWork::Install { module, order } => return self.install(module, &order, out),
            ModuleWork::Uninstall { order, .. } => {
                self.types.apply(&order);
                Done::Uninstalled
            }
            ModuleWork::Retire { module, order } => {
                Done::Retired(self.types.retire(&module, &order))
            }
            ModuleWork::Restore { order, .. } => {
                self.types.apply(&order);
                Done::Restored
            }
        };
        self.with_catalog(now, out, |catalog| catalog.on_done(done));
        self.on_standing_changed(now, out);
    }

    /// Asks all objects whose types a module would replace whether they can move to it.
    fn check_objects(&self, module: &ModuleId, replace: bool, now: Millis, out: &mut Outputs) {
        let replaced = match self.types.replaced_by(module, replace) {
            Ok(replaced) => replaced,
            Err(reason) => {
                let done = Done::Checked(Err(reason));
                return self.with_catalog(now, out, |catalog| catalog.on_done(done));
            }
        };
        if self.types.is_current(module) {
            let done = Done::Checked(Ok(true));
            return self.with_catalog(now, out, |catalog| catalog.on_done(done));
        }
        let mut tasks = Vec::new();
        for (old, new) in replaced {
            let objects = self.objects.of_type(old.name).into_iter();
            tasks.extend(objects.map(|object| (object, Task::CheckMove(old, new))));
        }
        self.round_of(RoundKind::CheckMove { failure: None }, tasks, out);
    }

    /// New objects are of a module's types from now on, and others move to it.
    fn install(&self, module: ModuleId, order: &Order, out: &mut Outputs) {
        let replaced = self.types.replaced_by(&module, true).unwrap_or_default();
        self.types.apply(order);
        let mut old: Vec<_> = replaced.iter().filter_map(|(old, _)| old.module).collect();
        old.sort_unstable();
        old.dedup();
        // A module that has other types stays.
        old.retain(|id| !self.types.has_current(id));
        let mut tasks = Vec::new();
        for info in self.types.of_module(&module) {
            let objects = self.objects.of_type(info.name).into_iter();
            tasks.extend(objects.map(|object| (object, Task::Move(info))));
        }
        let kind = RoundKind::Move {
            module,
            moved: 0,
            left: 0,
            reason: None,
            replaced: old,
        };
        self.round_of(kind, tasks, out);
    }

    /// The objects that a module concerns have all been asked, or have moved.
    pub(crate) fn end_module_round(&self, kind: RoundKind, now: Millis, out: &mut Outputs) {
        let done = match kind {
            RoundKind::CheckMove { failure } => Done::Checked(match failure {
                None => Ok(false),
                Some(error) => Err(format!("an object cannot move to the new version: {error}")),
            }),
            RoundKind::Move {
                module,
                moved,
                left,
                reason,
                replaced,
            } => Done::Installed(match self.types.describe(&module) {
                Some(module) => Ok(Pushed {
                    module,
                    moved,
                    left,
                    reason,
                    replaced,
                }),
                None => Err("the module's code is gone".to_owned()),
            }),
            _ => return,
        };
        self.with_catalog(now, out, |catalog| catalog.on_done(done));
        // Requests may have waited for the types.
        self.on_standing_changed(now, out);
    }

    /// Work of the shell is done.
    pub(crate) fn on_work_done(&self, done: WorkDone, now: Millis, out: &mut Outputs) {
        let done = match done {
            WorkDone::Loaded(bytes) => Done::Loaded(bytes),
            WorkDone::Stored(result) => Done::Stored(result),
            WorkDone::Removed => Done::Released,
            WorkDone::Pruned => Done::Pruned,
            WorkDone::Compiled(Ok(module)) => {
                let info = module.describe();
                self.types.retain(module);
                Done::Compiled(Ok(info))
            }
            WorkDone::Compiled(Err(Error::Refused { reason })) => Done::Compiled(Err(reason)),
            WorkDone::Compiled(Err(error)) => Done::Compiled(Err(error.to_string())),
        };
        self.with_catalog(now, out, |catalog| catalog.on_done(done));
    }

    /// A client pushes a module.
    pub(crate) fn on_push(
        &self,
        context: RequestContext,
        bytes: Bytes,
        (replace, check): (bool, bool),
        now: Millis,
        out: &mut Outputs,
    ) {
        let Some(request) = self.modules.open_request(context.call()) else {
            return;
        };
        let push = Push {
            module: module_id(&bytes),
            bytes,
            replace,
            check,
        };
        self.with_catalog(now, out, |catalog| catalog.push(request, push));
    }

    /// A client removes a module.
    pub(crate) fn on_remove_module(
        &self,
        context: RequestContext,
        id: ModuleId,
        now: Millis,
        out: &mut Outputs,
    ) {
        let Some(request) = self.modules.open_request(context.call()) else {
            return;
        };
        self.with_catalog(now, out, |catalog| catalog.remove(request, id));
    }

    /// Another server says something about modules.
    pub(crate) fn on_module_message(
        &self,
        from: Peer,
        message: ModuleMessage,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.with_catalog(now, out, |catalog| catalog.on_message(from, message));
    }

    /// A view came, before partitions take it up.
    pub(crate) fn on_modules_view(&self, view: &Arc<View>, now: Millis, out: &mut Outputs) {
        // Others are told of the view together with what its modules have done.
        self.modules.set_heard(view.version);
        self.with_catalog(now, out, |catalog| catalog.on_view(view));
    }

    pub(crate) fn begin_modules(&self, incarnation: Incarnation, now: Millis, out: &mut Outputs) {
        self.modules.forget_withheld();
        self.with_catalog(now, out, |catalog| catalog.begin(incarnation));
    }

    pub(crate) fn tick_modules(&self, now: Millis, out: &mut Outputs) {
        self.with_catalog(now, out, |catalog| catalog.tick(now));
    }

    pub(crate) fn modules_need_ticks(&self) -> bool {
        self.modules.catalog.lock().next_timeout().is_some()
    }

    /// The newest view that this server has heard of.
    pub(crate) fn heard_view(&self) -> ViewVersion {
        self.modules.heard()
    }

    /// Whether an unknown type may be known soon, as a view has a module that is not installed here yet.
    pub(crate) fn modules_are_behind(&self) -> bool {
        self.modules.catalog.lock().is_behind()
    }

    /// Newer code of a type, if there is some.
    pub(crate) fn newer_code(&self, info: &'static TypeInfo) -> Option<&'static TypeInfo> {
        let new = self.types.find(info.name)?;
        (!std::ptr::eq(info, new)).then_some(new)
    }

    /// Whether code is newer than the code of an object.
    pub(crate) fn supersedes(&self, new: &TypeInfo, old: &TypeInfo) -> bool {
        if new.name != old.name || std::ptr::eq(new, old) {
            return false;
        }
        match (&new.module, &old.module) {
            (Some(new), Some(old)) => self.modules.catalog.lock().supersedes(new, old),
            // Linked code is never replaced.
            _ => false,
        }
    }

    /// Whether a message brings an object whose code this server does not have yet. `sender`: the newest view that its sender
    /// had heard of.
    pub(crate) fn needs_module(
        &self,
        message: &Message,
        sender: ViewVersion,
        now: Millis,
        out: &mut Outputs,
    ) -> bool {
        let mut missing = message
            .modules()
            .filter(|id| !self.types.has(id))
            .peekable();
        if missing.peek().is_none() || Mutant::TakesUnknownCode.is_planted() {
            return false;
        }
        let mut is_known = false;
        let missing: Vec<_> = missing.collect();
        self.with_catalog(now, out, |catalog| {
            for id in &missing {
                is_known |= catalog.want(id);
            }
        });
        // Otherwise no view has the module any more, and the object is lost, unless it moves.
        is_known || sender > self.version()
    }

    /// The modules of its view that it has installed, in the view's order.
    pub fn installed_modules(&self) -> Vec<ModuleId> {
        let catalog = self.modules.catalog.lock();
        catalog.kept().map(|(id, _)| id).collect()
    }

    /// Whether it has installed all modules of its view, and nothing about modules is under way.
    pub fn has_settled_modules(&self) -> bool {
        self.modules.catalog.lock().is_at_rest()
    }

    /// The modules that an object is of or would be, and others that the cluster keeps, which have no types here.
    pub fn list_modules(&self) -> Vec<ModuleInfo> {
        let mut modules = self.types.modules();
        let kept: Vec<_> = self.modules.catalog.lock().kept().collect();
        for (id, bytes) in kept {
            if modules.iter().all(|module| module.id != id) {
                modules.push(ModuleInfo::unused(id, bytes));
            }
        }
        modules
    }
}
