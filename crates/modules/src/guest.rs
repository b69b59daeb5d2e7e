//! An object whose type is in a module.

use std::sync::Arc;

use crucial_object::guest_abi::{NO_TICKET, Status, exports, unpack};
use crucial_object::{
    Activation, Age, Error, Flow, Instance, Result, SessionId, Ticket, Wake, decode,
};
use wasmtime::{
    Caller, Extern, Global, Memory, Mutability, ResourceLimiter, Store, StoreLimits,
    StoreLimitsBuilder, Trap, TypedFunc, Val,
};

use crate::Module;
use crate::engine::TICK;
use crate::hot::{Place, Room};

/// What the host keeps for one instance of a module.
pub(crate) struct Host {
    limits: StoreLimits,
    /// It asked for more memory than it may have.
    was_refused_memory: bool,
    /// What the module said before it trapped: message and place.
    panic: Option<(String, String)>,
}

/// What a module may export for its host to set right after a trap. `crucial build` sees to it.
const STACK_POINTER: &str = "__stack_pointer";

/// Longest message of a panic that is kept, in bytes.
const PANIC_BYTES_MAX: usize = 64 << 10;

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.limits.memory_growing(current, desired, maximum)?;
        self.was_refused_memory |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// `crucial.panic`.
pub(crate) fn panicked(mut caller: Caller<'_, Host>, place: u32, length: u32) {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return;
    };
    let length = (length as usize).min(PANIC_BYTES_MAX);
    let bytes = memory
        .data(&caller)
        .get(place as usize..place as usize + length);
    let said = bytes.and_then(|bytes| decode(bytes).ok());
    caller.data_mut().panic = said;
}

/// An instance of a module.
pub(crate) struct Guest {
    store: Store<Host>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    dispatch: TypedFunc<(u32, u64, u32), u64>,
    wake: TypedFunc<(), u32>,
    instance: wasmtime::Instance,
    /// The module's stack pointer, and where it begins: a call that traps leaves it where it was.
    stack: Option<(Global, Val)>,
    /// What people call what runs in it.
    name: Arc<str>,
    deadline_ticks: u64,
    reply_bytes_max: usize,
}

impl Guest {
    /// Makes an instance, and starts it.
    pub fn new(module: &Module) -> Result<Guest> {
        let limits = &module.engine().limits;
        let host = Host {
            limits: StoreLimitsBuilder::new()
                .memory_size(limits.instance_bytes_max)
                .table_elements(100_000)
                .instances(1)
                .memories(1)
                .tables(4)
                .build(),
            was_refused_memory: false,
            panic: None,
        };
        let mut store = Store::new(&module.engine().wasm, host);
        store.limiter(|host| host);
        let ticks = limits
            .method_time_max
            .as_millis()
            .div_ceil(TICK.as_millis());
        // The present tick is partly over.
        let deadline_ticks = u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1);
        store.set_epoch_deadline(deadline_ticks);
        let broken = |error: wasmtime::Error| Error::Other(format!("{error:#}"));
        let instance = module
            .pre
            .instantiate(&mut store)
            .map_err(|error| Error::Other(explain(&error)))?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or("the module has no memory")?;
        let buffer = instance
            .get_typed_func(&mut store, exports::BUFFER)
            .map_err(broken)?;
        let dispatch = instance
            .get_typed_func(&mut store, exports::DISPATCH)
            .map_err(broken)?;
        let wake = instance
            .get_typed_func(&mut store, exports::WAKE)
            .map_err(broken)?;
        let stack = instance.get_global(&mut store, STACK_POINTER);
        let stack = stack
            .filter(|global| global.ty(&store).mutability() == Mutability::Var)
            .map(|global| (global, global.get(&mut store)));
        let mut guest = Guest {
            stack,
            store,
            memory,
            buffer,
            dispatch,
            wake,
            instance,
            name: "module".into(),
            deadline_ticks,
            reply_bytes_max: limits.reply_bytes_max,
        };
        let start = guest.function::<(), ()>(exports::START)?;
        guest.run(|store| start.call(store, ()))?;
        Ok(guest)
    }

    pub fn version(&mut self) -> Result<u32> {
        let version = self.function::<(), u32>(exports::ABI)?;
        self.run(|store| version.call(store, ()))
    }

    pub fn types(&mut self) -> Result<Vec<u8>> {
        let types = self.function::<(), u64>(exports::TYPES)?;
        let reply = self.run(|store| types.call(store, ()))?;
        let (_, bytes) = self.reply(reply)?;
        Ok(bytes.to_vec())
    }

    /// Makes an instance with an object in it.
    pub fn restored(module: &Module, type_name: &str, state: &[u8], age: Age) -> Result<Guest> {
        let mut guest = Guest::new(module)?;
        guest.name = type_name.into();
        guest.restore(type_name, state, age)?;
        Ok(guest)
    }

    /// The size of its memory, in bytes.
    pub fn size(&self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Appends the object's encoded state.
    pub fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let save = self.function::<(), u64>(exports::SAVE)?;
        let reply = self.run(|store| save.call(store, ()))?;
        let (_, state) = self.reply(reply)?;
        out.extend_from_slice(state);
        Ok(())
    }

    fn restore(&mut self, name: &str, state: &[u8], age: Age) -> Result<()> {
        let restore = self.function::<(u32, u32), u64>(exports::RESTORE)?;
        self.fill(&[name.as_bytes(), state])?;
        let parameters = (name.len() as u32, u32::from(age == Age::Older));
        let reply = self.run(|store| restore.call(store, parameters))?;
        self.reply(reply).map(drop)
    }

    fn function<P, R>(&mut self, name: &'static str) -> Result<TypedFunc<P, R>>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        self.instance
            .get_typed_func(&mut self.store, name)
            .map_err(|error| Error::Other(format!("the module's {name}: {error:#}")))
    }

    /// Puts bytes into the module's buffer.
    fn fill(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(|_| Error::LimitExceeded {
            limit: "a module's memory".to_owned(),
            max: u32::MAX.into(),
            detail: "send it in parts".to_owned(),
        })?;
        let buffer = self.buffer.clone();
        let place = self.run(|store| buffer.call(store, length))? as usize;
        let data = self.memory.data_mut(&mut self.store);
        let target = data.get_mut(place..place + length as usize);
        let mut target = target.ok_or("the module's buffer is outside of its memory")?;
        for part in parts {
            let (here, rest) = target.split_at_mut(part.len());
            here.copy_from_slice(part);
            target = rest;
        }
        Ok(())
    }

    /// The status of a reply, and what is behind it.
    fn reply(&self, reply: u64) -> Result<(Status, &[u8])> {
        let (place, length) = unpack(reply);
        if length as usize > self.reply_bytes_max {
            return Err(Error::LimitExceeded {
                limit: "reply_bytes_max".to_owned(),
                max: self.reply_bytes_max as u64,
                detail: format!("a method of an uploaded type gives {length} bytes"),
            });
        }
        let data = self.memory.data(&self.store);
        let bytes = data.get(place as usize..place as usize + length as usize);
        let (status, rest) = bytes
            .and_then(<[u8]>::split_first)
            .ok_or("the module's reply is outside of its memory")?;
        match Status::of(*status) {
            Some(Status::Failed) => Err(decode(rest).unwrap_or_else(|_| {
                Error::from("the method failed with an error that this server does not know")
            })),
            Some(status) => Ok((status, rest)),
            None => Err(Error::from("the module's reply has no status")),
        }
    }

    /// Runs a function of the module, within its time. A trap is an [`Error::Panicked`].
    fn run<R>(&mut self, f: impl FnOnce(&mut Store<Host>) -> wasmtime::Result<R>) -> Result<R> {
        self.store.set_epoch_deadline(self.deadline_ticks);
        f(&mut self.store).map_err(|error| self.trapped(&error))
    }

    fn trapped(&mut self, error: &wasmtime::Error) -> Error {
        if let Some((pointer, start)) = &self.stack {
            // It was of this type when it was read.
            let _ = pointer.set(&mut self.store, *start);
        }
        let host = self.store.data_mut();
        let (panic, was_refused) = (host.panic.take(), host.was_refused_memory);
        host.was_refused_memory = false;
        let (message, location) = panic.unwrap_or_else(|| {
            if was_refused {
                let message = "it took more memory than instance_bytes_max allows";
                return (message.to_owned(), "its sandbox".to_owned());
            }
            (explain(error), "its sandbox".to_owned())
        });
        Error::Panicked {
            what: self.name.to_string(),
            message,
            location,
        }
    }
}

/// What a trap is called.
fn explain(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "it took longer than method_time_max allows".to_owned(),
        Some(Trap::StackOverflow) => "the stack overflowed".to_owned(),
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    }
}

/// An object, hot or cold.
pub(crate) struct Uploaded {
    place: Arc<Place>,
    _alive: Arc<()>,
}

impl Uploaded {
    pub fn restore(
        module: &Arc<Module>,
        type_name: &str,
        state: &[u8],
        age: Age,
    ) -> Result<Uploaded> {
        Ok(Uploaded {
            place: Place::new(module, type_name, state, age)?,
            _alive: module.alive(),
        })
    }
}

/// The length of a ticket, as it travels.
fn ticket_length(ticket: &Ticket) -> u32 {
    // A ticket came from a module, where lengths are of this size.
    ticket
        .as_ref()
        .map_or(NO_TICKET, |ticket| ticket.len() as u32)
}

impl Guest {
    fn poll(&mut self, activation: Activation<'_>) -> Result<Flow> {
        let Activation {
            index,
            args,
            caller,
            again: _,
            ticket,
            out,
        } = activation;
        let length = ticket_length(ticket);
        self.fill(&[ticket.as_deref().unwrap_or_default(), args])?;
        let dispatch = self.dispatch.clone();
        let reply = self.run(|store| dispatch.call(store, (index as u32, caller.0, length)))?;
        let (status, reply) = self.reply(reply)?;
        let (length, rest) = reply
            .split_first_chunk::<4>()
            .ok_or("a reply without a ticket")?;
        let length = u32::from_le_bytes(*length);
        let result = if length == NO_TICKET {
            *ticket = None;
            rest
        } else {
            let (kept, result) = rest
                .split_at_checked(length as usize)
                .ok_or("a ticket that is longer than the reply")?;
            *ticket = Some(kept.to_vec());
            result
        };
        out.extend_from_slice(result);
        Ok(match status {
            Status::Pending => Flow::Pending,
            _ => Flow::Ready,
        })
    }

    fn cancel(&mut self, index: usize, ticket: &Ticket) -> Result<()> {
        let cancel = self.function::<(u32, u32), u64>(exports::CANCEL)?;
        self.fill(&[ticket.as_deref().unwrap_or_default()])?;
        let length = ticket_length(ticket);
        let reply = self.run(|store| cancel.call(store, (index as u32, length)))?;
        self.reply(reply).map(drop)
    }

    fn depart(&mut self, session: SessionId) -> Result<()> {
        let depart = self.function::<u64, u64>(exports::DEPART)?;
        let reply = self.run(|store| depart.call(store, session.0))?;
        self.reply(reply).map(drop)
    }

    fn ask_wake(&mut self) -> Result<Wake> {
        let wake = self.wake.clone();
        Ok(match self.run(|store| wake.call(store, ()))? {
            1 => Wake::First,
            2 => Wake::None,
            _ => Wake::All,
        })
    }
}

impl Instance for Uploaded {
    fn dispatch(&mut self, activation: Activation<'_>) -> Result<Flow> {
        let room = if activation.again {
            Room::Owed
        } else {
            Room::Asked
        };
        self.place.with(room, |guest| guest.poll(activation))
    }

    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        self.place
            .with(Room::Owed, |guest| guest.cancel(index, &ticket))
    }

    fn depart(&mut self, session: SessionId) {
        let told = self.place.with(Room::Owed, |guest| guest.depart(session));
        if let Err(error) = told {
            panic_as(&error);
        }
    }

    fn wake(&mut self) -> Wake {
        let woken = self.place.with(Room::Owed, Guest::ask_wake);
        woken.unwrap_or_else(|error| panic_as(&error))
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.place.save(out)
    }
}

/// As a native method, which has no other way to fail here.
fn panic_as(error: &Error) -> ! {
    std::panic::panic_any(error.to_string())
}
