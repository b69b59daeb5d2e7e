//! Uploaded modules without WebAssembly: the bytes of a module name types of the library, which are executed in its name.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use bytes::Bytes;
use crucial_node::{Module, ModuleId, module_id};
use crucial_object::{
    EncodingVersion, Error, Instance, Invocation, Result, SessionId, Ticket, TypeInfo, Wake,
    registry,
};
use crucial_proto::frame::ModuleInfo;

/// The uploaded counter.
pub const COUNTER: &str = "uploaded::Counter";

/// The uploaded queue.
pub const QUEUE: &str = "uploaded::Queue";

/// The modules that clients push, by their types. The last one is damaged, and has none.
const MODULES: [&[&str]; 5] = [&[COUNTER], &[COUNTER], &[QUEUE], &[COUNTER, QUEUE], &[]];

/// The number of modules that clients push.
pub const COUNT: usize = MODULES.len();

/// The library's type that does an uploaded type's work.
fn linked(name: &str) -> &'static str {
    match name {
        COUNTER => "crucial::AtomicI64",
        _ => "crucial::Queue",
    }
}

/// The bytes of a module.
pub fn bytes_of(module: usize) -> Bytes {
    Bytes::from(format!("module {module}"))
}

/// The id of a module.
pub fn id_of(module: usize) -> ModuleId {
    module_id(&bytes_of(module))
}

/// Which module has an id.
pub fn of_id(id: &ModuleId) -> Option<usize> {
    (0..COUNT).find(|module| id_of(*module) == *id)
}

/// Whether a module has a type.
pub fn has_type(module: usize, name: &str) -> bool {
    MODULES[module].contains(&name)
}

/// Whether two modules have a type in common.
pub fn share_type(one: usize, other: usize) -> bool {
    MODULES[one].iter().any(|name| has_type(other, name))
}

/// Whether a module can be compiled.
pub fn is_valid(module: usize) -> bool {
    !MODULES[module].is_empty()
}

/// Compiles a module for one process.
///
/// # Errors
///
/// If it is damaged.
pub fn compile(bytes: &[u8]) -> Result<Arc<dyn Module>> {
    let index = of_id(&module_id(bytes)).filter(|index| is_valid(*index));
    let Some(index) = index else {
        let reason = "the module is damaged".to_owned();
        return Err(Error::Refused { reason });
    };
    let alive = Arc::new(());
    let types = POOL.with_borrow_mut(|pool| pool.take(index, &alive));
    Ok(Arc::new(Code {
        id: id_of(index),
        types,
        alive,
    }))
}

/// A run begins: nothing is compiled.
pub fn forget_all() {
    POOL.with_borrow_mut(|pool| pool.used = [0; COUNT]);
}

/// The code of a module in one process.
struct Code {
    id: ModuleId,
    types: Vec<&'static TypeInfo>,
    /// Each object of the module has a clone.
    alive: Arc<()>,
}

impl Module for Code {
    fn id(&self) -> ModuleId {
        self.id
    }

    fn types(&self) -> &[&'static TypeInfo] {
        &self.types
    }

    fn objects(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    fn describe(&self) -> ModuleInfo {
        ModuleInfo {
            objects: self.objects() as u64,
            ..ModuleInfo::unused(self.id, 1)
        }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// Descriptions of types, which live as long as the process: each run uses those of the runs before it again, though never
/// one description for two compilations of a run.
#[derive(Default)]
struct Pool {
    compiled: [Vec<Compiled>; COUNT],
    used: [usize; COUNT],
}

/// The descriptions that one compilation has made.
struct Compiled {
    types: Vec<&'static TypeInfo>,
    /// The code that the descriptions belong to now, until its process lets it go.
    code: Arc<Mutex<Weak<()>>>,
}

impl Pool {
    fn take(&mut self, index: usize, alive: &Arc<()>) -> Vec<&'static TypeInfo> {
        let place = self.used[index];
        self.used[index] += 1;
        if self.compiled[index].len() == place {
            self.compiled[index].push(Compiled::new(index));
        }
        let compiled = &self.compiled[index][place];
        let mut code = compiled.code.lock().unwrap_or_else(PoisonError::into_inner);
        *code = Arc::downgrade(alive);
        compiled.types.clone()
    }
}

impl Compiled {
    fn new(index: usize) -> Compiled {
        let code = Arc::new(Mutex::new(Weak::new()));
        let describe = |name: &&'static str| -> &'static TypeInfo {
            let (name, code) = (*name, code.clone());
            let linked = registry::find(linked(name)).expect("a type of the library");
            let restore = move |state: &[u8], version: EncodingVersion| {
                let code = code.lock().unwrap_or_else(PoisonError::into_inner);
                let alive = code.upgrade().ok_or_else(|| Error::UnknownType {
                    type_name: name.to_owned(),
                })?;
                restore((linked, index as u8), state, version, alive)
            };
            let info = TypeInfo::uploaded(
                name,
                linked.methods,
                linked.tracks_sessions,
                id_of(index),
                Box::new(restore),
            );
            Box::leak(Box::new(info))
        };
        let types = MODULES[index].iter().map(describe).collect();
        Compiled { types, code }
    }
}

/// Makes an instance. A state ends with the number of the module that has encoded it, but for one that comes from a client:
/// no module takes another one's state for its own.
fn restore(
    (linked, module): (&'static TypeInfo, u8),
    state: &[u8],
    version: EncodingVersion,
    alive: Arc<()>,
) -> Result<Box<dyn Instance>> {
    let state = match (version, state.split_last()) {
        (EncodingVersion::Initial, _) => state,
        (EncodingVersion::Same, Some((of, state))) if *of == module => state,
        (EncodingVersion::Older, Some((_, state))) => state,
        (_, of) => {
            return Err(Error::BadArguments {
                what: format!("an object of module {module}"),
                detail: format!("its state is of another module: {of:?}"),
            });
        }
    };
    Ok(Box::new(Uploaded {
        inner: linked.restore(state, EncodingVersion::Same)?,
        module,
        _alive: alive,
    }))
}

/// An object of an uploaded type.
struct Uploaded {
    inner: Box<dyn Instance>,
    module: u8,
    _alive: Arc<()>,
}

impl Instance for Uploaded {
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>> {
        self.inner.dispatch(invocation)
    }

    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        self.inner.cancel(index, ticket)
    }

    fn on_session_end(&mut self, session: SessionId) {
        self.inner.on_session_end(session);
    }

    fn wake(&mut self) -> Wake {
        self.inner.wake()
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.inner.save(out)?;
        out.push(self.module);
        Ok(())
    }
}
