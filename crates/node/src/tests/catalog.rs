//! The catalog of a lone server, which gets no ticks while nothing happens.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::{TypeInfo, decode, encode};
use crucial_proto::frame::{ModuleInfo, Operation, Pushed};

use super::server::Server;
use crate::replication::Grant;
use crate::{Input, Millis, Module, ModuleId, Work, WorkDone, module_id};

const HOUR_MS: Millis = 3_600_000;

/// A module without types.
struct Empty(ModuleId);

impl Module for Empty {
    fn id(&self) -> ModuleId {
        self.0
    }

    fn types(&self) -> &[&'static TypeInfo] {
        &[]
    }

    fn objects(&self) -> usize {
        0
    }

    fn describe(&self) -> ModuleInfo {
        ModuleInfo::unused(self.0, 1)
    }
}

/// Ends what the shell has begun.
fn end_works(server: &mut Server) {
    for work in std::mem::take(&mut server.works) {
        server.end_work(match work {
            Work::Load(_) => WorkDone::Loaded(None),
            Work::Store(..) => WorkDone::Stored(Ok(())),
            Work::Remove(_) => WorkDone::Removed,
            Work::Prune(_) => WorkDone::Pruned,
            Work::Compile(bytes) => WorkDone::Compiled(Ok(Arc::new(Empty(module_id(&bytes))))),
        });
    }
}

#[test]
fn a_push_after_an_idle_hour_has_all_the_time_that_a_push_has() {
    let mut server = Server::new();
    server.pass(HOUR_MS);
    let client = server.client(1);
    let push = Operation::Push {
        replace: false,
        check: false,
        module: Bytes::from_static(b"module"),
    };
    server.request(&client, 1, push);
    // Compilers and disks take their time.
    for _ in 0..5 {
        server.pass(1_000);
        end_works(&mut server);
    }
    let replies = server.replies(&client);
    let [(1, Ok(pushed))] = &replies[..] else {
        panic!("{replies:?}");
    };
    let pushed: Pushed = decode(pushed).unwrap();
    assert_eq!(pushed.module.id, module_id(b"module"));
}

#[test]
fn a_push_that_comes_again_while_it_waits_is_done_once() {
    let mut server = Server::new();
    let client = server.client(1);
    let push = |bytes: &'static [u8]| Operation::Push {
        replace: true,
        check: false,
        module: Bytes::from_static(bytes),
    };
    server.request(&client, 1, push(b"one"));
    server.request(&client, 2, push(b"other"));
    // The client has connected again, and sends what was not answered.
    server.request(&client, 1, push(b"one"));
    for _ in 0..10 {
        server.pass(100);
        end_works(&mut server);
    }
    let answered: Vec<_> = server.replies(&client).iter().map(|(n, _)| *n).collect();
    assert_eq!(answered, [1, 2]);
}

#[test]
fn without_a_lease_nobody_is_told_what_modules_there_are() {
    let mut server = Server::new();
    let client = server.client(1);
    server.input(Input::Evicted);
    server.request(&client, 1, Operation::RemoveModule([7; 32]));
    // The request comes again, and is answered once.
    server.request(&client, 1, Operation::RemoveModule([7; 32]));
    assert_eq!(server.replies(&client), []);
    let grant = Grant {
        sent_ms: server.now,
        view: server.view().version,
    };
    server.input(Input::Lease(grant));
    assert_eq!(server.replies(&client), [(1, encode(&false))]);
}
