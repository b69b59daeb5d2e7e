//! What must hold: at each change of the view, and when all is well again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_node::catalog::{ModuleId, Reply};
use crucial_node::replication::{KeptModule, View};
use crucial_object::Error;

use super::clients::{Request, Wish};
use super::shell::{self, TYPES, has_type};
use super::{Event, Server, World};

impl World {
    pub(super) fn check_keep(&self, id: &ModuleId, replace: bool, before: &View) {
        for server in self.members(before) {
            assert!(
                server.shell.code.contains(id) && server.shell.disk.contains_key(id),
                "a member does not have a module that comes into the view"
            );
        }
        let module = shell::find(&self.modules, id);
        assert!(
            module.is_valid,
            "what is refused does not come into the view"
        );
        let mut others = before.modules.iter().filter(|kept| kept.id != *id);
        let shares_type = |kept: &KeptModule| {
            let mut types = module.types.iter();
            types.any(|kind| has_type(&self.modules, &kept.id, *kind))
        };
        assert!(
            replace || !others.any(shares_type),
            "a type is replaced without leave"
        );
    }

    pub(super) fn check_drop(&self, id: &ModuleId, before: &View) {
        for server in self.members(before) {
            let shell = &server.shell;
            let lives = shell.objects.iter().any(|object| {
                let is_primary = before.primary(object.partition) == Some(server.peer.node);
                object.module == *id && is_primary
            });
            assert!(!lives, "a module is dropped that has objects");
            for kind in 0..TYPES {
                let of = shell.module_of(kind, &self.modules);
                assert_ne!(of, Some(*id), "a module is dropped that gets objects");
            }
        }
    }

    /// A client was told that a module is everywhere.
    pub(super) fn check_pushed(&self, id: &ModuleId) {
        let place = |view: &View| {
            let mut modules = view.modules.iter();
            modules.find(|kept| kept.id == *id).map(|kept| kept.since)
        };
        assert!(
            self.history.iter().any(|view| place(view).is_some()),
            "a client was told of a module that no view has had"
        );
        let present = self.control.view();
        // Else it was dropped meanwhile.
        let Some(since) = place(present) else { return };
        let first = self.history.iter().find(|view| view.version == since);
        for server in self.members(present) {
            let was_member =
                first.is_some_and(|view| view.has(server.peer.node, server.peer.incarnation));
            assert!(
                !was_member || server.shell.installed.contains(id),
                "a client was told of a module that a member has not installed"
            );
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let view = self.control.view();
        let is_well = |server: &Server| {
            view.has(server.peer.node, server.peer.incarnation)
                && server.catalog.is_at_rest()
                && server.catalog.kept().count() == view.modules.len()
        };
        let is_going_on = |event: &Event| {
            matches!(
                event,
                Event::Command(_) | Event::Work(..) | Event::Expire(_)
            )
        };
        self.servers.values().all(is_well) && !self.events.values().any(is_going_on)
    }

    pub(super) fn why_not_at_rest(&self) -> String {
        let view = self.control.view();
        let servers = self.servers.values().map(|server| {
            let is_member = view.has(server.peer.node, server.peer.incarnation);
            format!("{:?} {is_member} {:#?}\n", server.peer, server.catalog)
        });
        format!("not at rest: {}", servers.collect::<String>())
    }

    pub(super) fn check_rest(&self) {
        let view = self.control.view();
        let kept: Vec<_> = view.modules.iter().map(|kept| kept.id).collect();
        let sorted: BTreeSet<_> = kept.iter().copied().collect();
        for server in self.servers.values() {
            let shell = &server.shell;
            assert_eq!(shell.order.modules, kept, "the types are the view's");
            assert!(shell.order.retired.is_empty(), "nothing stays retired");
            let stored: BTreeSet<_> = shell.disk.keys().copied().collect();
            assert_eq!(stored, sorted, "the disk has the view's modules");
            assert!(shell.code.is_superset(&sorted), "all code is here");
        }
        for (index, request) in self.requests.iter().enumerate() {
            let process = self.servers[&request.node].process;
            let is_lost = request.process != process;
            assert!(request.answer.is_some() || is_lost, "no answer to {index}");
        }
        self.check_refused();
    }

    /// No view had a module that all were refused to push.
    fn check_refused(&self) {
        for (index, module) in self.modules.iter().enumerate() {
            let mut pushes = self.requests.iter().filter(
                |request| matches!(request.wish, Wish::Push { module, .. } if module == index),
            );
            let was_refused = |request: &Request| {
                let is_check = matches!(request.wish, Wish::Push { check: true, .. });
                is_check
                    || matches!(
                        request.answer,
                        Some(Reply::Pushed(Err(Error::Refused { .. })))
                    )
            };
            if pushes.all(was_refused) {
                let has = |view: &Arc<View>| view.modules.iter().any(|kept| kept.id == module.id);
                assert!(!self.history.iter().any(has), "a refused module is kept");
            }
        }
    }
}
