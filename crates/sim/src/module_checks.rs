//! Checks of modules: when a client is answered, and at the end.

use std::collections::BTreeSet;

use crucial_node::ModuleId;
use crucial_node::replication::View;

use crate::modules;
use crate::process::Process;
use crate::pushes::{Answer, ModuleRequest, Wish, is_there_at_end};
use crate::world::World;

impl World {
    /// A view was decided.
    pub fn note_modules(&mut self, old: &View, new: &View) {
        if !new.has_modules_of(old) {
            let ids = new.modules.iter().map(|kept| modules::of_id(&kept.id));
            let ids: Vec<_> = ids.collect();
            self.trace(|| format!("modules of {:?}: {ids:?}", new.version));
            self.module_views.push(new.clone());
        }
    }

    /// Requests about modules were answered.
    pub fn on_modules_answered(&mut self, requests: Vec<ModuleRequest>) {
        for request in requests {
            self.trace(|| format!("{request:?}"));
            if let (
                Wish::Push {
                    module,
                    check: false,
                    ..
                },
                Some((Answer::Done(_), _)),
            ) = (request.wish, request.answer)
            {
                self.report.pushes += 1;
                self.check_pushed(&modules::id_of(module));
            }
            if let (Wish::Remove { .. }, Some((Answer::Done(true), _))) =
                (request.wish, request.answer)
            {
                self.report.removals += 1;
            }
            self.module_requests.push(request);
        }
    }

    /// A client was told that a module is everywhere.
    fn check_pushed(&self, id: &ModuleId) {
        let mut views = self.module_views.iter();
        assert!(
            views.any(|view| view.module_since(id).is_some()),
            "a client was told of a module that no view has had"
        );
        let present = self.control.view();
        // Otherwise the module was removed meanwhile.
        let Some(since) = present.module_since(id) else {
            return;
        };
        let mut views = self.module_views.iter();
        let first = views.find(|view| view.version == since);
        for (node, member) in &present.members {
            let was_member = first.is_some_and(|view| view.has(*node, member.incarnation));
            let process = self.process(*node).filter(|process| {
                process.node.incarnation() == member.incarnation && !process.is_evicted
            });
            let has_installed = process.is_none_or(|process| process.has_installed.contains(id));
            assert!(
                !was_member || has_installed,
                "a client was told of a module that {node} has not installed"
            );
        }
    }

    /// Whether all servers are through with what was asked for about modules.
    pub fn have_settled_modules(&self) -> bool {
        let view = self.control.view();
        let mut processes = self.hosts.values().filter_map(|host| host.process.as_ref());
        let is_through = |process: &Process| {
            let knows_all = process.node.view().has_modules_of(view);
            !process.node.is_member() || knows_all && process.node.has_settled_modules()
        };
        !self.settings.has_modules || processes.all(|process| is_through(process))
    }

    /// Whether all servers have the modules that the clients were told of, and no others.
    pub fn check_modules(&self) -> Result<(), String> {
        if !self.settings.has_modules {
            return Ok(());
        }
        let view = self.control.view();
        let kept: Vec<_> = view.modules.iter().map(|kept| kept.id).collect();
        let mut requests = self.module_requests.clone();
        let open = self
            .clients
            .values()
            .filter_map(|client| client.pushes.open());
        requests.extend(open.cloned());
        for module in 0..modules::COUNT {
            let is_there = kept.contains(&modules::id_of(module));
            if is_there_at_end(module, &requests).is_some_and(|expected| expected != is_there) {
                return Err(format!(
                    "module {module}: is there: {is_there}, after {requests:?}"
                ));
            }
        }
        let processes = self.hosts.values().filter_map(|host| host.process.as_ref());
        for process in processes.filter(|process| process.node.is_member()) {
            self.check_modules_of(process, &kept)?;
        }
        Ok(())
    }

    fn check_modules_of(&self, process: &Process, kept: &[ModuleId]) -> Result<(), String> {
        let id = process.node.id();
        let names = |ids: &[ModuleId]| -> Vec<_> { ids.iter().map(modules::of_id).collect() };
        let installed = process.node.installed_modules();
        if installed != kept {
            let (has, expected) = (names(&installed), names(kept));
            return Err(format!(
                "{id:?} has installed {has:?}, and not {expected:?}"
            ));
        }
        let listed: BTreeSet<_> = process.node.list_modules().iter().map(|m| m.id).collect();
        if listed != kept.iter().copied().collect() {
            return Err(format!("{id:?} has other modules than it has installed"));
        }
        let view = self.control.view();
        for object in self.objects.iter().filter(|object| object.is_uploaded) {
            let configuration = view.configuration(view.partition(&object.id));
            if configuration.rank(id).is_none() {
                continue;
            }
            let of = process
                .node
                .look_at(&object.id, |replica| replica.info()?.module);
            let newest = kept.iter().rev().find(|kept| {
                let module = modules::of_id(kept);
                module.is_some_and(|module| modules::has_type(module, object.type_name()))
            });
            if let Some(Some(of)) = of
                && newest != Some(&of)
            {
                let (of, newest) = (modules::of_id(&of), newest.map(modules::of_id));
                return Err(format!(
                    "{object:?} at {id:?} is of module {of:?}, and not {newest:?}"
                ));
            }
        }
        Ok(())
    }
}
