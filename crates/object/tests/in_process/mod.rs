//! A `Caller` whose objects are cells in this process: no clock runs, and a session ends when it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use crucial_node::cell::{self, CallId, Cell, Disposition, Replies, Turn};
use crucial_object::caller::{Call, Caller, InFlight, Mode, Open, Opened};
use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId, decode, registry};
use crucial_proto::frame::{base_name, object_id};

/// A process that is its own server.
#[derive(Clone)]
pub struct InProcess {
    shared: Arc<(Mutex<Objects>, Condvar)>,
    session: SessionId,
}

impl Default for InProcess {
    fn default() -> Self {
        InProcess {
            shared: Arc::default(),
            session: SessionId(1),
        }
    }
}

#[derive(Default)]
struct Objects {
    cells: HashMap<ObjectId, Cell>,
    answers: Answers,
    last: u64,
}

/// What was answered and not yet taken, and who waits for it.
#[derive(Default)]
struct Answers {
    results: HashMap<CallId, Result<Vec<u8>>>,
    wakers: HashMap<CallId, Waker>,
}

impl Replies for Answers {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        let result = result.map(<[u8]>::to_vec).map_err(Clone::clone);
        let earlier = self.results.insert(call, result);
        assert!(earlier.is_none(), "{call:?} was answered twice");
        if let Some(waker) = self.wakers.remove(&call) {
            waker.wake();
        }
    }
}

impl Objects {
    fn next(&mut self, session: SessionId) -> CallId {
        self.last += 1;
        CallId {
            session,
            sequence: Sequence(self.last),
        }
    }

    fn send(&mut self, session: SessionId, call: &Call<'_>) -> CallId {
        let id = self.next(session);
        let Some(cell) = self.cells.get_mut(&call.object) else {
            self.answers.reply(id, Err(&lost(call.object)));
            return id;
        };
        let mut out = Vec::new();
        let turn = &mut Turn::new(&mut self.answers, &mut out);
        let sent = cell::Call {
            id,
            acked: Sequence(0),
            recording: cell::Recording::Changes,
            method: call.method,
            args: call.args,
            attempt: None,
        };
        let disposition = cell.call(&sent, turn);
        // Time passes at once for a caller that cannot wait for ever.
        if let (Disposition::Parked, Some(after)) = (disposition, call.timeout) {
            cell.cancel(id, &Error::TimedOut { after }, turn);
        }
        id
    }

    fn end(&mut self, object: ObjectId) -> bool {
        let Some(mut cell) = self.cells.remove(&object) else {
            return false;
        };
        let mut out = Vec::new();
        cell.end_parked(&lost(object), &mut Turn::new(&mut self.answers, &mut out));
        true
    }
}

fn lost(object: ObjectId) -> Error {
    Error::Lost {
        object: object.to_string(),
    }
}

impl InProcess {
    /// The same objects, as another client sees them.
    #[allow(dead_code)] // Not every test has several clients.
    pub fn as_session(&self, session: SessionId) -> InProcess {
        InProcess {
            shared: self.shared.clone(),
            session,
        }
    }

    /// The lease of this client has lapsed. Its calls that wait are never answered.
    #[allow(dead_code)]
    pub fn end_session(&self) {
        self.change(|objects| {
            for cell in objects.cells.values_mut() {
                let mut out = Vec::new();
                let turn = &mut Turn::new(&mut objects.answers, &mut out);
                cell.end_session(self.session, turn);
            }
        });
    }

    fn change<R>(&self, change: impl FnOnce(&mut Objects) -> R) -> R {
        let result = change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
        result
    }
}

impl Caller for InProcess {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        self.start(call)?.wait()
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        Ok(Box::new(Sent {
            process: self.clone(),
            object: call.object,
            call: self.change(|objects| objects.send(self.session, call)),
        }))
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        self.change(|objects| {
            let anonymous = format!("anonymous {}", objects.next(self.session).sequence.0);
            let key = open.key.unwrap_or(&anonymous);
            let id = object_id(open.lifetime, &RunId([0; 16]), "test", open.type_name, key);
            let there = objects.cells.contains_key(&id);
            match open.mode {
                Mode::Find if !there => {
                    return Err(Error::NotFound {
                        type_name: open.type_name.to_owned(),
                        key: key.to_owned(),
                    });
                }
                Mode::Find | Mode::FindOrCreate if there => {}
                _ => {
                    let info =
                        registry::find(base_name(open.type_name)).expect("linked into this test");
                    let cell = Cell::new(info, open.state)?;
                    objects.end(id);
                    objects.cells.insert(id, cell);
                }
            }
            Ok(Opened {
                object: id,
                created: open.mode == Mode::Recreate || !there,
            })
        })
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        Ok(self.change(|objects| objects.end(object)))
    }

    fn clear_namespace(&self) -> Result<u64> {
        Err(Error::from("there are no namespaces here"))
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        self.change(|objects| {
            let id = objects.next(self.session);
            let cell = objects.cells.get_mut(&object).ok_or_else(|| lost(object))?;
            let mut out = Vec::new();
            cell.clear_poison(
                id,
                Sequence(0),
                &mut Turn::new(&mut objects.answers, &mut out),
            );
            let answer = objects.answers.results.remove(&id);
            decode(&answer.expect("it does not wait")?)
        })
    }
}

/// A call that was sent.
struct Sent {
    process: InProcess,
    object: ObjectId,
    call: CallId,
}

impl InFlight for Sent {
    fn wait(&mut self) -> Result<Vec<u8>> {
        let (objects, changed) = &*self.process.shared;
        let mut objects = objects.lock().unwrap();
        loop {
            if let Some(result) = objects.answers.results.remove(&self.call) {
                return result;
            }
            objects = changed.wait(objects).unwrap();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        self.process.change(|objects| {
            if let Some(result) = objects.answers.results.remove(&self.call) {
                return Poll::Ready(result);
            }
            let waker = context.waker().clone();
            objects.answers.wakers.insert(self.call, waker);
            Poll::Pending
        })
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.process.change(|objects| {
            if let Some(cell) = objects.cells.get_mut(&self.object) {
                let mut out = Vec::new();
                let mut turn = Turn::new(&mut objects.answers, &mut out);
                cell.cancel(self.call, &Error::Cancelled, &mut turn);
            }
        });
    }
}
