//! An instance of a module in its sandbox, and the calls into it.

use std::sync::Arc;
use std::task::Poll;

use crucial_object::guest_abi::{NO_TICKET, Status, exports, unpack};
use crucial_object::{EncodingVersion, Error, Invocation, Result, SessionId, Ticket, Wake, decode};
use wasmtime::{
    Caller, Extern, Global, InstancePre, Memory, Mutability, ResourceLimiter, Store, StoreLimits,
    StoreLimitsBuilder, Trap, TypedFunc, Val,
};

use crate::engine::{Engine, TICK};

/// The host's data for one instance of a module.
pub(crate) struct Host {
    limits: StoreLimits,
    /// Whether the instance requested more memory than its limit.
    was_refused_memory: bool,
    /// Message and location of a panic that the module reported before it trapped.
    panic: Option<(String, String)>,
}

/// A global that the host resets after a trap, if the module exports it. `crucial build` exports it.
const STACK_POINTER: &str = "__stack_pointer";

/// Longest report of a panic that is read, in bytes.
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

/// The imported function `crucial.panic`, with which a module reports a panic.
pub(crate) fn record_panic(mut caller: Caller<'_, Host>, address: u32, length: u32) {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return;
    };
    let length = (length as usize).min(PANIC_BYTES_MAX);
    let bytes = memory
        .data(&caller)
        .get(address as usize..address as usize + length);
    caller.data_mut().panic = bytes.and_then(|bytes| decode(bytes).ok());
}

/// The parts of a module from which instances are made.
pub(crate) struct GuestTemplate {
    pub engine: Engine,
    pub pre: InstancePre<Host>,
}

/// An instance of a module.
pub(crate) struct Guest {
    store: Store<Host>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    dispatch: TypedFunc<(u32, u64, u32), u64>,
    wake: TypedFunc<(), u32>,
    instance: wasmtime::Instance,
    /// The module's stack pointer and its initial value. A call that traps does not restore it.
    stack: Option<(Global, Val)>,
    /// The name in error messages: the object's type.
    name: Arc<str>,
    deadline_ticks: u64,
    reply_bytes_max: usize,
}

impl Guest {
    /// Makes an instance and starts it.
    pub fn new(template: &GuestTemplate) -> Result<Guest> {
        let limits = &template.engine.limits;
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
        let mut store = Store::new(&template.engine.wasm, host);
        store.limiter(|host| host);
        let ticks = limits
            .method_time_max
            .as_millis()
            .div_ceil(TICK.as_millis());
        // One more tick, since the current tick is partly over.
        let deadline_ticks = u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1);
        store.set_epoch_deadline(deadline_ticks);
        let broken = |error: wasmtime::Error| Error::Other(format!("{error:#}"));
        let instance = template
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
    pub fn with_object(
        template: &GuestTemplate,
        type_name: &str,
        state: &[u8],
        version: EncodingVersion,
    ) -> Result<Guest> {
        let mut guest = Guest::new(template)?;
        guest.name = type_name.into();
        guest.restore(type_name, state, version)?;
        Ok(guest)
    }

    /// The size of the instance's memory, in bytes.
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

    fn restore(&mut self, name: &str, state: &[u8], version: EncodingVersion) -> Result<()> {
        let restore = self.function::<(u32, u32), u64>(exports::RESTORE)?;
        self.write_buffer(&[name.as_bytes(), state])?;
        let version = match version {
            EncodingVersion::Same => 0,
            EncodingVersion::Older => 1,
            EncodingVersion::Initial => 2,
        };
        let parameters = (name.len() as u32, version);
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

    /// Writes bytes to the module's argument buffer.
    fn write_buffer(&mut self, parts: &[&[u8]]) -> Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).map_err(|_| Error::LimitExceeded {
            limit: "a module's memory".to_owned(),
            max: u32::MAX.into(),
            detail: "send the data in parts".to_owned(),
        })?;
        let buffer = self.buffer.clone();
        let address = self.run(|store| buffer.call(store, length))? as usize;
        let data = self.memory.data_mut(&mut self.store);
        let target = data.get_mut(address..address + length as usize);
        let mut target = target.ok_or("the module's buffer is outside of its memory")?;
        for part in parts {
            let (here, rest) = target.split_at_mut(part.len());
            here.copy_from_slice(part);
            target = rest;
        }
        Ok(())
    }

    /// The status of a reply, and the bytes that follow it.
    fn reply(&self, reply: u64) -> Result<(Status, &[u8])> {
        let (address, length) = unpack(reply);
        if length as usize > self.reply_bytes_max {
            return Err(Error::LimitExceeded {
                limit: "reply_bytes_max".to_owned(),
                max: self.reply_bytes_max as u64,
                detail: format!("a method of an uploaded type returned {length} bytes"),
            });
        }
        let data = self.memory.data(&self.store);
        let bytes = data.get(address as usize..address as usize + length as usize);
        let (status, rest) = bytes
            .and_then(<[u8]>::split_first)
            .ok_or("the module's reply is outside of its memory")?;
        match Status::of(*status) {
            Some(Status::Failed) => Err(decode(rest).unwrap_or_else(|_| {
                Error::from("the method failed with an error that this server cannot decode")
            })),
            Some(status) => Ok((status, rest)),
            None => Err(Error::from("the module's reply has no valid status")),
        }
    }

    /// Runs a function of the module with the time limit of methods. A trap becomes an [`Error::Panicked`].
    fn run<R>(&mut self, f: impl FnOnce(&mut Store<Host>) -> wasmtime::Result<R>) -> Result<R> {
        self.store.set_epoch_deadline(self.deadline_ticks);
        f(&mut self.store).map_err(|error| self.on_trap(&error))
    }

    /// Makes the instance usable again after a trap, and returns the error.
    fn on_trap(&mut self, error: &wasmtime::Error) -> Error {
        if let Some((pointer, start)) = &self.stack {
            // Setting cannot fail: the value was read from the same mutable global.
            let _ = pointer.set(&mut self.store, *start);
        }
        let host = self.store.data_mut();
        let (panic, was_refused) = (host.panic.take(), host.was_refused_memory);
        host.was_refused_memory = false;
        let (message, location) = panic.unwrap_or_else(|| {
            if was_refused {
                let message = "the object took more memory than instance_bytes_max allows";
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

/// Describes a trap for people.
fn explain(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "the method took longer than method_time_max allows".to_owned(),
        Some(Trap::StackOverflow) => "the stack overflowed".to_owned(),
        Some(trap) => trap.to_string(),
        None => format!("{error:#}"),
    }
}

/// The length of a ticket as the module interface encodes it.
fn ticket_length(ticket: &Ticket) -> u32 {
    // The length fits: the ticket came from a module, where lengths have 32 bits.
    ticket
        .as_ref()
        .map_or(NO_TICKET, |ticket| ticket.len() as u32)
}

impl Guest {
    /// Polls a call of a method, and replaces the call's ticket.
    pub fn poll(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>> {
        let Invocation {
            index,
            args,
            caller,
            again: _,
            ticket,
            out,
        } = invocation;
        let length = ticket_length(ticket);
        self.write_buffer(&[ticket.as_deref().unwrap_or_default(), args])?;
        let dispatch = self.dispatch.clone();
        let reply = self.run(|store| dispatch.call(store, (index as u32, caller.0, length)))?;
        let (status, reply) = self.reply(reply)?;
        let (length, rest) = reply
            .split_first_chunk::<4>()
            .ok_or("the module's reply is too short for a ticket")?;
        let length = u32::from_le_bytes(*length);
        let result = if length == NO_TICKET {
            *ticket = None;
            rest
        } else {
            let (kept, result) = rest
                .split_at_checked(length as usize)
                .ok_or("the ticket is longer than the module's reply")?;
            *ticket = Some(kept.to_vec());
            result
        };
        out.extend_from_slice(result);
        Ok(match status {
            Status::Pending => Poll::Pending,
            _ => Poll::Ready(()),
        })
    }

    pub fn cancel(&mut self, index: usize, ticket: &Ticket) -> Result<()> {
        let cancel = self.function::<(u32, u32), u64>(exports::CANCEL)?;
        self.write_buffer(&[ticket.as_deref().unwrap_or_default()])?;
        let length = ticket_length(ticket);
        let reply = self.run(|store| cancel.call(store, (index as u32, length)))?;
        self.reply(reply).map(drop)
    }

    pub fn on_session_end(&mut self, session: SessionId) -> Result<()> {
        let depart = self.function::<u64, u64>(exports::DEPART)?;
        let reply = self.run(|store| depart.call(store, session.0))?;
        self.reply(reply).map(drop)
    }

    /// Which parked calls the last change may wake.
    pub fn wake_policy(&mut self) -> Result<Wake> {
        let wake = self.wake.clone();
        Ok(match self.run(|store| wake.call(store, ()))? {
            1 => Wake::First,
            2 => Wake::None,
            _ => Wake::All,
        })
    }
}
