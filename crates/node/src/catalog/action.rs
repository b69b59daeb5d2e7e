//! The actions that the catalog asks of the server around it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use crucial_object::Error;
use crucial_proto::frame::{ModuleInfo, Pushed};

use super::message::{ModuleMessage, Peer};
use crate::ids::ModuleId;
use crate::replication::{Command, NodeId};

/// A client's request, as the server around the catalog numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// An action; the server takes them in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a message to this server. The message may be lost.
    Send(NodeId, ModuleMessage),
    /// Begin some work, and report its end to the catalog. There are two kinds of work, and at most one of each is
    /// under way: with the code of modules, and with the types of objects ([`Work::is_about_types`]).
    Start(Work),
    /// Give a command to the control group. The command may be lost: the catalog proposes it again.
    Propose(Command),
    /// Answer a client.
    Reply(RequestId, Reply),
}

/// The answer to a client's request. There is exactly one to each.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a push.
    Pushed(Result<Pushed, Error>),
    /// To a removal: whether there was such a module.
    Removed(Result<bool, Error>),
}

/// Work that takes long or touches the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Read a module's bytes from the disk.
    Load {
        /// The module.
        module: ModuleId,
    },
    /// Verify that the bytes are the module's, and write them to the disk. A server without a directory only verifies.
    Store {
        /// The module.
        module: ModuleId,
        /// Its bytes, if the hash is right.
        bytes: Bytes,
    },
    /// Compile a module. New objects are not of its types yet.
    Compile {
        /// The module.
        module: ModuleId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Remove a module's bytes from the disk, and its code when no object needs that any more.
    Release {
        /// The module.
        module: ModuleId,
    },
    /// Remove all other modules' bytes from the disk: an earlier process has left them there.
    Prune {
        /// The modules that stay.
        keep: Vec<ModuleId>,
    },
    /// Find whether all objects of the module's types can move to its code, and, without `replace`, whether no other
    /// module has one of these types.
    Check {
        /// The module.
        module: ModuleId,
        /// Whether its types may replace those of other modules.
        replace: bool,
    },
    /// Make new objects of the types that the order gives, and move objects to the module's code.
    Install {
        /// The module.
        module: ModuleId,
        /// The module of each type from now on.
        order: Order,
    },
    /// A module has gone from the view: make new objects of the types that the order gives.
    Uninstall {
        /// The module.
        module: ModuleId,
        /// The module of each type from now on.
        order: Order,
    },
    /// If no object of the module's code lives, make new objects of the types that the order gives; none of this
    /// module's are among them. Counting and changing are one step for whoever makes objects.
    Retire {
        /// The module.
        module: ModuleId,
        /// The module of each type from now on.
        order: Order,
    },
    /// Make new objects of the types that the order gives.
    Restore {
        /// The module.
        module: ModuleId,
        /// The module of each type from now on.
        order: Order,
    },
}

impl Work {
    /// The module that the work is with.
    pub fn module(&self) -> Option<ModuleId> {
        match self {
            Work::Load { module }
            | Work::Store { module, .. }
            | Work::Compile { module, .. }
            | Work::Release { module }
            | Work::Check { module, .. }
            | Work::Install { module, .. }
            | Work::Uninstall { module, .. }
            | Work::Retire { module, .. }
            | Work::Restore { module, .. } => Some(*module),
            Work::Prune { .. } => None,
        }
    }

    /// Whether the work is with the types of objects, and not with the code of modules.
    pub fn is_about_types(&self) -> bool {
        matches!(
            self,
            Work::Check { .. }
                | Work::Install { .. }
                | Work::Uninstall { .. }
                | Work::Retire { .. }
                | Work::Restore { .. }
        )
    }
}

/// Which module's types new objects are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The installed modules, the newest last.
    pub modules: Vec<ModuleId>,
    /// Those of them that no new object may be of.
    pub retired: BTreeSet<ModuleId>,
}

impl Order {
    /// The module of a type: the last one that has it. There are no new objects of the type while that one is retired.
    pub fn module_of(&self, has_type: impl Fn(&ModuleId) -> bool) -> Option<ModuleId> {
        let last = self.modules.iter().rev().find(|module| has_type(module))?;
        (!self.retired.contains(last)).then_some(*last)
    }
}

/// The end of some [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// Of [`Work::Load`]: the bytes, verified; `None` if they are not on disk, or not the right ones.
    Loaded(Option<Bytes>),
    /// Of [`Work::Store`].
    Stored(Result<(), StoreError>),
    /// Of [`Work::Compile`]: the module, or why it cannot be used.
    Compiled(Result<ModuleInfo, String>),
    /// Of [`Work::Release`].
    Released,
    /// Of [`Work::Prune`].
    Pruned,
    /// Of [`Work::Check`]: whether new objects are of all the module's types already, or the reason against it.
    Checked(Result<bool, String>),
    /// Of [`Work::Install`]: what became of the objects.
    Installed(Result<Pushed, String>),
    /// Of [`Work::Uninstall`].
    Uninstalled,
    /// Of [`Work::Retire`], or the reason against it.
    Retired(Result<(), String>),
    /// Of [`Work::Restore`].
    Restored,
}

/// Why bytes were not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The bytes are not those of the module.
    Damaged,
    /// They are, but the disk did not take them.
    Disk(String),
}

/// Actions and messages, until the server takes them.
#[derive(Debug)]
pub(super) struct Outbox {
    me: Peer,
    actions: VecDeque<Action>,
    /// Messages to this server itself.
    local: VecDeque<ModuleMessage>,
    /// Requests without an answer.
    open: BTreeSet<RequestId>,
}

impl Outbox {
    pub fn new(me: Peer) -> Outbox {
        Outbox {
            me,
            actions: VecDeque::new(),
            local: VecDeque::new(),
            open: BTreeSet::new(),
        }
    }

    /// A new incarnation begins: nobody expects the messages of the last one.
    pub fn begin(&mut self, me: Peer) {
        self.me = me;
        self.local.clear();
        let goes_on = |action: &Action| matches!(action, Action::Start(_) | Action::Reply(..));
        self.actions.retain(goes_on);
    }

    pub fn me(&self) -> Peer {
        self.me
    }

    pub fn send(&mut self, to: NodeId, message: ModuleMessage) {
        match to == self.me.node {
            true => self.local.push_back(message),
            false => self.actions.push_back(Action::Send(to, message)),
        }
    }

    pub fn start(&mut self, work: Work) {
        self.actions.push_back(Action::Start(work));
    }

    pub fn propose(&mut self, command: Command) {
        self.actions.push_back(Action::Propose(command));
    }

    /// Notes that a client waits for an answer.
    pub fn open(&mut self, request: RequestId) {
        assert!(self.open.insert(request), "{request:?} is there already");
    }

    pub fn reply(&mut self, request: RequestId, reply: Reply) {
        assert!(self.open.remove(&request), "{request:?} has its answer");
        self.actions.push_back(Action::Reply(request, reply));
    }

    pub fn is_open(&self, request: RequestId) -> bool {
        self.open.contains(&request)
    }

    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    pub fn next_local(&mut self) -> Option<ModuleMessage> {
        self.local.pop_front()
    }

    pub fn has_local(&self) -> bool {
        !self.local.is_empty()
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}
