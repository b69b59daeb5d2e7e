//! The modules that a server has or needs: their bytes, in memory and on disk, and their code.

use std::collections::BTreeMap;

use bytes::Bytes;
use crucial_proto::frame::ModuleInfo;
use serde_bytes::ByteBuf;

use super::action::{Done, Outbox, StoreError, Work};
use super::fetch::Fetch;
use super::limits::Limits;
use super::message::ModuleMessage;
use crate::ids::ModuleId;
use crate::replication::NodeId;

/// A module that this server needs.
#[derive(Clone, Debug)]
pub(super) struct Need {
    pub module: ModuleId,
    pub size: u64,
    /// Whether the view has it, so that its bytes may be on disk.
    pub is_kept: bool,
    /// The server that surely has it.
    pub source: Option<NodeId>,
}

#[derive(Debug)]
struct Item {
    need: Need,
    content: Content,
    code: Code,
    /// Whether an object waits for its code.
    is_wanted: bool,
}

#[derive(Debug)]
enum Content {
    /// The bytes may be on disk.
    Unknown,
    /// The bytes are with other servers.
    Absent(Fetch),
    /// The bytes are here, and were not verified yet. Other bytes would be fetched from the next source.
    Arrived { bytes: Bytes, turn: usize },
    /// The bytes are here, verified.
    Held {
        bytes: Bytes,
        unstored: Option<Unstored>,
    },
}

/// The disk did not take a module.
#[derive(Debug)]
struct Unstored {
    /// Why not; `None` if somebody needs to know how the next try ends.
    reason: Option<String>,
    /// When it is tried again.
    again_ms: u64,
}

#[derive(Debug)]
enum Code {
    None,
    Compiled(ModuleInfo),
    Failed(String),
}

/// The modules that a server has or needs.
#[derive(Debug)]
pub(super) struct Shelf {
    limits: Limits,
    items: BTreeMap<ModuleId, Item>,
    /// In which order the modules are needed: those of the view first.
    order: Vec<ModuleId>,
    /// The other members.
    sources: Vec<NodeId>,
    /// The work under way.
    busy: Option<Work>,
    is_pruned: bool,
}

impl Shelf {
    pub fn new(limits: Limits) -> Shelf {
        Shelf {
            limits,
            items: BTreeMap::new(),
            order: Vec::new(),
            sources: Vec::new(),
            busy: None,
            is_pruned: false,
        }
    }

    pub fn set_sources(&mut self, sources: Vec<NodeId>) {
        self.sources = sources;
    }

    /// Sets which modules are needed, those of the view first. The others go, one after the other.
    pub fn require(&mut self, needs: Vec<Need>) {
        self.order = needs.iter().map(|need| need.module).collect();
        for need in needs {
            let size = need.size;
            let item = self.items.entry(need.module).or_insert_with(|| Item {
                content: Content::of(&need),
                need: need.clone(),
                code: Code::None,
                is_wanted: false,
            });
            item.need = need;
            if let Content::Absent(fetch) = &item.content
                && fetch.size() != size
            {
                // A coordinator was wrong about it.
                item.content = Content::absent(&item.need);
            }
        }
    }

    /// A client has brought the bytes of a module that is needed.
    pub fn give(&mut self, module: &ModuleId, bytes: Bytes) {
        let Some(item) = self.items.get_mut(module) else {
            return;
        };
        if matches!(item.content, Content::Unknown | Content::Absent(_)) {
            item.content = Content::Arrived { bytes, turn: 0 };
        }
    }

    /// A module that could not be compiled or stored is tried again.
    pub fn forget_failure(&mut self, module: &ModuleId) {
        let Some(item) = self.items.get_mut(module) else {
            return;
        };
        if let Code::Failed(_) = item.code {
            item.code = Code::None;
        }
        if let Content::Held { unstored, .. } = &mut item.content
            && let Some(unstored) = unstored
        {
            (unstored.reason, unstored.again_ms) = (None, 0);
        }
    }

    /// An object waits for the code of a module. Whether that will come.
    pub fn want(&mut self, module: &ModuleId) -> bool {
        let Some(item) = self.items.get_mut(module) else {
            return false;
        };
        item.is_wanted = true;
        if let Content::Absent(fetch) = &mut item.content {
            fetch.hurry();
        }
        true
    }

    /// A module's description, or why its code cannot be used; `None` while that is not known.
    pub fn code(&self, module: &ModuleId) -> Option<Result<&ModuleInfo, &str>> {
        match &self.items.get(module)?.code {
            Code::None => None,
            Code::Compiled(info) => Some(Ok(info)),
            Code::Failed(reason) => Some(Err(reason)),
        }
    }

    /// As [`code`](Shelf::code), for a module whose bytes must be on disk.
    pub fn stored_code(&self, module: &ModuleId) -> Option<Result<&ModuleInfo, &str>> {
        match &self.items.get(module)?.content {
            Content::Held { unstored: None, .. } => self.code(module),
            Content::Held {
                unstored: Some(unstored),
                ..
            } => unstored.reason.as_deref().map(Err),
            _ => None,
        }
    }

    /// The verified bytes of a module.
    pub fn bytes(&self, module: &ModuleId) -> Option<&Bytes> {
        match &self.items.get(module)?.content {
            Content::Held { bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// Bytes of the modules that no view has.
    pub fn staged_bytes(&self) -> u64 {
        let items = self.items.values();
        let staged = items.filter(|item| !item.need.is_kept);
        staged.map(|item| item.need.size).sum()
    }

    pub fn has(&self, module: &ModuleId) -> bool {
        self.items.contains_key(module)
    }

    /// Whether something is to be done as time passes.
    pub fn is_waiting(&self) -> bool {
        self.items.values().any(|item| match &item.content {
            Content::Absent(_) => true,
            Content::Held { unstored, .. } => unstored.is_some(),
            _ => false,
        })
    }

    /// Asks others for what is missing.
    pub fn fetch(&mut self, now_ms: u64, out: &mut Outbox) {
        let mut fetches = 0;
        for pass in [true, false] {
            for module in &self.order {
                let Some(item) = self.items.get_mut(module) else {
                    continue;
                };
                let Content::Absent(fetch) = &mut item.content else {
                    continue;
                };
                let is_first = item.is_wanted;
                // One that nobody has does not keep others from their turn.
                if is_first != pass || fetch.is_paused(now_ms) || fetches == self.limits.fetches {
                    continue;
                }
                fetches += 1;
                let sources = in_order(&self.sources, item.need.source);
                for (to, offset) in fetch.tick(&sources, now_ms, &self.limits) {
                    ask(out, to, *module, offset);
                }
            }
        }
    }

    /// A server asks for a piece.
    pub fn serve(&self, to: NodeId, module: ModuleId, offset: u64, out: &mut Outbox) {
        let piece = self.bytes(&module).and_then(|bytes| {
            let rest = bytes.get(usize::try_from(offset).ok()?..)?;
            Some(&rest[..rest.len().min(self.limits.piece_bytes)])
        });
        let message = match piece {
            Some(piece) => ModuleMessage::Piece {
                module,
                offset,
                bytes: ByteBuf::from(piece),
            },
            None => ModuleMessage::Absent { module },
        };
        out.send(to, message);
    }

    pub fn on_piece(
        &mut self,
        from: NodeId,
        (module, offset, bytes): (ModuleId, u64, &[u8]),
        now_ms: u64,
        out: &mut Outbox,
    ) {
        let Some(item) = self.items.get_mut(&module) else {
            return;
        };
        let Content::Absent(fetch) = &mut item.content else {
            return;
        };
        match fetch.on_piece(from, offset, bytes, now_ms, &self.limits) {
            Ok(whole) => {
                let (bytes, turn) = (whole.into(), fetch.turn());
                item.content = Content::Arrived { bytes, turn };
            }
            Err(asked) => {
                for (to, offset) in asked {
                    ask(out, to, module, offset);
                }
            }
        }
    }

    pub fn on_absent(&mut self, from: NodeId, module: &ModuleId, now_ms: u64) {
        let sources = self.sources.len();
        if let Some(item) = self.items.get_mut(module)
            && let Content::Absent(fetch) = &mut item.content
        {
            fetch.on_absent(from, sources, now_ms, &self.limits);
        }
    }

    /// Begins the next work with code, if none is under way. The `pinned` module stays: work with its types is under
    /// way.
    pub fn plan(&mut self, pinned: Option<ModuleId>, now_ms: u64, out: &mut Outbox) {
        if self.busy.is_some() {
            return;
        }
        if let Some(work) = self.next(pinned, now_ms) {
            if let Work::Release { module } = &work {
                self.items.remove(module);
            }
            self.busy = Some(work.clone());
            out.start(work);
        }
    }

    fn next(&mut self, pinned: Option<ModuleId>, now_ms: u64) -> Option<Work> {
        if !self.is_pruned {
            self.is_pruned = true;
            let keep = self.items.keys().copied().collect();
            return Some(Work::Prune { keep });
        }
        let needed = || {
            let items = self.order.iter();
            items.filter_map(|module| Some((*module, self.items.get(module)?)))
        };
        let store = needed().find_map(|(module, item)| item.to_store(module, now_ms));
        let load = || {
            let mut unknown = needed().filter(|(_, item)| matches!(item.content, Content::Unknown));
            unknown.next().map(|(module, _)| Work::Load { module })
        };
        let compile = || {
            let ready = needed()
                .filter_map(|(module, item)| Some((item.is_wanted, item.to_compile(module)?)));
            // The first of those that are wanted, else the first.
            let ready: Vec<_> = ready.collect();
            let wanted = ready.iter().position(|(is_wanted, _)| *is_wanted);
            ready
                .into_iter()
                .nth(wanted.unwrap_or(0))
                .map(|(_, work)| work)
        };
        let release = || {
            let unused =
                |module: &&ModuleId| !self.order.contains(module) && pinned != Some(**module);
            let module = *self.items.keys().find(unused)?;
            Some(Work::Release { module })
        };
        store.or_else(load).or_else(release).or_else(compile)
    }

    /// Work with code has ended.
    pub fn on_done(&mut self, done: Done, now_ms: u64) {
        let work = self.busy.take().expect("work with code was under way");
        let item = work.module().and_then(|module| self.items.get_mut(&module));
        match (work, done) {
            (Work::Load { .. }, Done::Loaded(bytes)) => {
                if let Some(item) = item
                    && let Content::Unknown = item.content
                {
                    item.on_loaded(bytes);
                }
            }
            (Work::Store { bytes, .. }, Done::Stored(result)) => {
                if let Some(item) = item {
                    item.on_stored(bytes, result, now_ms + self.limits.pause_max_ms);
                }
            }
            (Work::Compile { .. }, Done::Compiled(result)) => {
                if let Some(item) = item {
                    item.code = match result {
                        Ok(info) => Code::Compiled(info),
                        Err(reason) => Code::Failed(reason),
                    };
                }
            }
            (Work::Release { .. }, Done::Released) | (Work::Prune { .. }, Done::Pruned) => {}
            (work, done) => panic!("{done:?} is not the end of {work:?}"),
        }
    }

    /// Asserts what always holds.
    pub fn check(&self) {
        for (module, item) in &self.items {
            if let Content::Absent(fetch) = &item.content {
                assert!(fetch.bytes() as u64 <= fetch.size(), "a buffer has a bound");
            }
            if let Code::Compiled(_) = item.code {
                let held = self.bytes(module);
                assert!(held.is_some(), "code comes from verified bytes");
            }
        }
        assert!(self.staged_bytes() <= self.limits.staged_bytes + self.limits.request_bytes);
    }

    /// Whether all that is needed is here, nothing else is, and no work is under way.
    pub fn is_at_rest(&self) -> bool {
        let is_needed = |module: &ModuleId| self.order.contains(module);
        let is_here = |item: &Item| matches!(item.content, Content::Held { unstored: None, .. });
        self.busy.is_none() && self.items.keys().all(is_needed) && self.items.values().all(is_here)
    }
}

impl Content {
    fn of(need: &Need) -> Content {
        match need.is_kept {
            true => Content::Unknown,
            false => Content::absent(need),
        }
    }

    fn absent(need: &Need) -> Content {
        // A coordinator is asked first; else servers that join ask different ones.
        let turn = match need.source {
            Some(_) => 0,
            None => usize::from(need.module[0]),
        };
        Content::Absent(Fetch::new(need.size, turn))
    }
}

impl Item {
    fn to_store(&self, module: ModuleId, now_ms: u64) -> Option<Work> {
        let bytes = match &self.content {
            Content::Arrived { bytes, .. } => bytes.clone(),
            Content::Held {
                bytes,
                unstored: Some(unstored),
            } if now_ms >= unstored.again_ms => bytes.clone(),
            _ => return None,
        };
        Some(Work::Store { module, bytes })
    }

    fn to_compile(&self, module: ModuleId) -> Option<Work> {
        match (&self.content, &self.code) {
            (Content::Held { bytes, .. }, Code::None) => {
                let bytes = bytes.clone();
                Some(Work::Compile { module, bytes })
            }
            _ => None,
        }
    }

    fn on_loaded(&mut self, bytes: Option<Bytes>) {
        self.content = match bytes {
            Some(bytes) => Content::Held {
                bytes,
                unstored: None,
            },
            None => Content::absent(&self.need),
        };
    }

    fn on_stored(&mut self, bytes: Bytes, result: Result<(), StoreError>, again_ms: u64) {
        let turn = match self.content {
            Content::Arrived { turn, .. } => turn,
            Content::Held { .. } => 0,
            // Another item of the same name by now.
            Content::Unknown | Content::Absent(_) => return,
        };
        self.content = match result {
            Ok(()) => Content::Held {
                bytes,
                unstored: None,
            },
            Err(StoreError::Disk(reason)) => Content::Held {
                bytes,
                unstored: Some(Unstored {
                    reason: Some(reason),
                    again_ms,
                }),
            },
            Err(StoreError::Damaged) => Content::Absent(Fetch::new(self.need.size, turn)),
        };
    }
}

fn in_order(sources: &[NodeId], first: Option<NodeId>) -> Vec<NodeId> {
    let mut sources = sources.to_vec();
    sources.sort_by_key(|source| Some(*source) != first);
    sources
}

fn ask(out: &mut Outbox, to: NodeId, module: ModuleId, offset: u64) {
    out.send(to, ModuleMessage::Fetch { module, offset });
}
