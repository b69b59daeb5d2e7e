//! Clients that push and remove modules, and make and delete objects.

use std::sync::Arc;

use crucial_node::catalog::{Push, Reply, RequestId};
use crucial_node::replication::{NodeId, View, ViewVersion};
use crucial_object::Error;
use rand::Rng;

use super::shell::Module;
use super::{Server, World};

pub(super) enum Wish {
    Push {
        module: usize,
        replace: bool,
        check: bool,
    },
    Remove {
        module: usize,
    },
}

pub(super) struct Request {
    pub node: NodeId,
    pub process: u64,
    pub wish: Wish,
    /// The newest view that its server knew then.
    pub seen: ViewVersion,
    pub answer: Option<Reply>,
}

impl World {
    pub(super) fn request(&mut self) {
        let alive: Vec<_> = self
            .servers
            .values()
            .filter(|server| server.is_alive)
            .collect();
        if alive.is_empty() {
            return;
        }
        let index = self.random.random_range(0..alive.len());
        let server = alive[index];
        let (node, process) = (server.peer.node, server.process);
        let seen = self.seen_by(server);
        let module = self.random.random_range(0..self.modules.len());
        let wish = match self.chance(30) {
            true => Wish::Remove { module },
            false => Wish::Push {
                module,
                replace: self.chance(60),
                check: self.chance(15),
            },
        };
        let request = RequestId(self.requests.len() as u64);
        let Module { id, bytes, .. } = self.modules[module].clone();
        let push = match &wish {
            Wish::Push { replace, check, .. } => Some(Push {
                module: id,
                bytes,
                replace: *replace,
                check: *check,
            }),
            Wish::Remove { .. } => None,
        };
        self.requests.push(Request {
            node,
            process,
            wish,
            seen,
            answer: None,
        });
        let server = self.servers.get_mut(&node).unwrap();
        match push {
            Some(push) => server.catalog.push(request, push),
            None => server.catalog.remove(request, id),
        }
        self.drain(node);
    }

    /// A view that a server knows surely, as it has installed what that has.
    fn seen_by(&self, server: &Server) -> ViewVersion {
        let installed = &server.shell.order.modules;
        let has = |view: &&Arc<View>| {
            let mut modules = view.modules.iter();
            modules.all(|kept| installed.contains(&kept.id))
        };
        let seen = self.history.iter().filter(has).map(|view| view.version);
        seen.min().unwrap_or_default()
    }

    pub(super) fn answered(&mut self, id: RequestId, reply: Reply) {
        let request = &mut self.requests[id.0 as usize];
        assert!(request.answer.is_none(), "a request has two answers");
        request.answer = Some(reply.clone());
        let request = &self.requests[id.0 as usize];
        match &reply {
            Reply::Pushed(Ok(pushed)) => {
                self.report.pushed += 1;
                self.report.moved += pushed.moved;
            }
            Reply::Removed(Ok(was_there)) => self.report.removed += u64::from(*was_there),
            Reply::Pushed(Err(Error::Refused { .. }))
            | Reply::Removed(Err(Error::Refused { .. })) => {
                self.report.refused += 1;
            }
            Reply::Pushed(Err(_)) | Reply::Removed(Err(_)) => self.report.unavailable += 1,
        }
        let seen = request.seen;
        let later = || self.history.iter().filter(|view| view.version >= seen);
        match (&request.wish, reply) {
            (Wish::Push { module, check, .. }, Reply::Pushed(Ok(pushed))) => {
                let module = &self.modules[*module];
                assert!(module.is_valid);
                assert_eq!(pushed.module.id, module.id);
                if !check {
                    self.check_pushed(&module.id);
                }
            }
            (Wish::Remove { module }, Reply::Removed(Ok(_))) => {
                let id = self.modules[*module].id;
                let is_absent = |view: &Arc<View>| view.modules.iter().all(|kept| kept.id != id);
                assert!(
                    later().any(is_absent) || self.history.is_empty(),
                    "it is still there"
                );
            }
            (Wish::Push { .. }, Reply::Pushed(Err(error)))
            | (Wish::Remove { .. }, Reply::Removed(Err(error))) => {
                let is_known = matches!(error, Error::Refused { .. } | Error::Unavailable { .. });
                assert!(is_known, "{error}");
            }
            (_, reply) => panic!("{reply:?} answers something else"),
        }
    }
}
