//! A server without a network: the cells of a real one, with the real objects, behind the scheduler's locks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crucial_node::cell::{Call as CellCall, CallId, Cell, Recording, Turn};
use crucial_object::caller::{Call, Caller, InFlight, Mode, Open, Opened};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, registry};
use shuttle::sync::{Condvar, Mutex, MutexGuard};

/// All calls are those of one process.
const SESSION: SessionId = SessionId(1);

/// How many objects all servers have made: a process knows its objects by their ids, whichever test they are of.
static MADE: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
pub struct Server {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    objects: HashMap<ObjectId, Cell>,
    calls: u64,
    results: HashMap<u64, Result<Vec<u8>>>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Caller for Server {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        assert!(call.timeout.is_none(), "there is no time in a schedule");
        let mut state = self.state();
        state.calls += 1;
        let number = state.calls;
        let Some(cell) = state.objects.get_mut(&call.object) else {
            let object = call.object.to_string();
            return Err(Error::Lost { object });
        };
        let call = CellCall {
            id: CallId {
                session: SESSION,
                sequence: Sequence(number),
            },
            acked: Sequence(0),
            recording: Recording::Changes,
            method: call.method,
            args: call.args,
            attempt: None,
        };
        let (mut replies, mut out) = (Vec::new(), Vec::new());
        cell.call(&call, &mut Turn::new(&mut replies, &mut out));
        let replies = replies
            .into_iter()
            .map(|(call, result)| (call.sequence.0, result));
        state.results.extend(replies);
        self.answered.notify_all();
        loop {
            if let Some(result) = state.results.remove(&number) {
                return result;
            }
            let waited = self.answered.wait(state);
            state = waited.unwrap_or_else(|e| e.into_inner());
        }
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        unreachable!("the primitives wait for each call: {}", call.names)
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        assert!(open.key.is_none() && open.mode == Mode::FindOrCreate);
        let name = open.type_name.split('<').next().expect("a name");
        let cell = Cell::new(registry::find(name).expect("a type"), open.state)?;
        let mut object = [0; 16];
        object[..8].copy_from_slice(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let object = ObjectId(object);
        self.state().objects.insert(object, cell);
        Ok(Opened {
            object,
            created: true,
        })
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        Ok(self.state().objects.remove(&object).is_some())
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        unreachable!("no method panics: {object}")
    }

    fn clear_namespace(&self) -> Result<u64> {
        unreachable!("no object is persistent")
    }
}
