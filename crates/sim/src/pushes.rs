//! Clients that push modules, push others in their place, and remove them.

use crucial_client::session::{Member, Target};
use crucial_object::{Error, Result, Sequence, decode};
use crucial_proto::frame::{Operation, Pushed};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::caller::Caller;
use crate::events::Now;
use crate::modules;

/// A change of the modules that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Push {
        module: usize,
        replace: bool,
        /// The client only asks whether the module would be taken.
        check: bool,
    },
    Remove {
        module: usize,
    },
}

/// An answer to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request was done. Of a removal: whether the module was there.
    Done(bool),
    /// All is as it was.
    Refused,
    /// Nobody knows what was done.
    Unknown,
}

/// A request about a module.
#[derive(Clone, Debug)]
pub struct ModuleRequest {
    pub wish: Wish,
    /// At which event it was made.
    pub called: u64,
    /// At which event the answer came.
    pub answer: Option<(Answer, u64)>,
}

impl ModuleRequest {
    /// Whether it was done before an event, as far as its client knows.
    fn ended_before(&self, event: u64) -> bool {
        let end = self.answer.filter(|(answer, _)| *answer != Answer::Unknown);
        end.is_some_and(|(_, end)| end < event)
    }

    /// Whether it may have removed a module.
    fn may_remove(&self, module: usize) -> bool {
        match self.wish {
            Wish::Remove { module: removed } => removed == module,
            Wish::Push {
                module: pushed,
                replace,
                check,
            } => replace && !check && pushed != module && modules::share_type(pushed, module),
        }
    }

    /// Whether it may have added a module.
    fn may_add(&self, module: usize) -> bool {
        matches!(self.wish, Wish::Push { module: pushed, check: false, .. } if pushed == module)
    }
}

/// A client's requests about modules, one at a time.
#[derive(Default)]
pub struct Pushes {
    current: Option<(ModuleRequest, Sequence)>,
    /// A module that has a type which a server did not know.
    wanted: Option<usize>,
    answered: Vec<ModuleRequest>,
}

impl Pushes {
    /// Whether it waits for no answer.
    pub fn are_done(&self) -> bool {
        self.current.is_none()
    }

    /// A server does not know a type: a module that has it is pushed, as the library's clients do.
    pub fn want(&mut self, type_name: &str) {
        self.wanted = (0..modules::COUNT).find(|module| modules::has_type(*module, type_name));
    }

    /// Makes a request now and then.
    pub fn tick(&mut self, caller: &mut Caller, now: Now, random: &mut ChaCha8Rng) {
        if self.current.is_some() {
            return;
        }
        let wanted = self.wanted.take();
        if wanted.is_none() && random.random_range(0..20) > 0 {
            return;
        }
        let members = caller.members();
        if members.is_empty() {
            return;
        }
        let member = members[random.random_range(0..members.len())];
        let module = wanted.unwrap_or_else(|| random.random_range(0..modules::COUNT));
        let wish = match random.random_range(0..10) {
            _ if wanted.is_some() => Wish::Push {
                module,
                replace: false,
                check: false,
            },
            0..4 => Wish::Remove { module },
            kind => Wish::Push {
                module,
                replace: kind < 8,
                check: random.random_range(0..8) == 0,
            },
        };
        self.send(caller, member, wish, now);
    }

    fn send(&mut self, caller: &mut Caller, member: Member, wish: Wish, now: Now) {
        let operation = match wish {
            Wish::Push {
                module,
                replace,
                check,
            } => Operation::Push {
                replace,
                check,
                module: modules::bytes_of(module),
            },
            Wish::Remove { module } => Operation::RemoveModule(modules::id_of(module)),
        };
        if let Some(sequence) = caller.submit(Target::Member(member), &operation, now.ms) {
            let request = ModuleRequest {
                wish,
                called: now.event,
                answer: None,
            };
            self.current = Some((request, sequence));
        }
    }

    /// Takes a result. `false`: it is another request's.
    ///
    /// # Errors
    ///
    /// If no such request can have it.
    pub fn take(
        &mut self,
        sequence: Sequence,
        result: &Result<Vec<u8>>,
        now: Now,
    ) -> std::result::Result<bool, String> {
        let is_it = |(_, current): &mut (_, Sequence)| *current == sequence;
        let Some((mut request, _)) = self.current.take_if(is_it) else {
            return Ok(false);
        };
        let answer = answer(request.wish, result);
        let answer = answer.map_err(|wrong| format!("{request:?}: {wrong}"))?;
        request.answer = Some((answer, now.event));
        self.answered.push(request);
        Ok(true)
    }

    /// The requests that were answered since the last time.
    pub fn take_answered(&mut self) -> Vec<ModuleRequest> {
        std::mem::take(&mut self.answered)
    }

    /// The request that has no answer yet.
    pub fn open(&self) -> Option<&ModuleRequest> {
        self.current.as_ref().map(|(request, _)| request)
    }
}

fn answer(wish: Wish, result: &Result<Vec<u8>>) -> std::result::Result<Answer, String> {
    match (wish, result) {
        (Wish::Push { module, .. }, Ok(bytes)) => {
            let pushed: Pushed = decode(bytes).map_err(|error| error.to_string())?;
            match pushed.module.id == modules::id_of(module) && modules::is_valid(module) {
                true => Ok(Answer::Done(true)),
                false => Err(format!("{pushed:?}")),
            }
        }
        (Wish::Remove { .. }, Ok(bytes)) => {
            let was_there = decode(bytes).map_err(|error| error.to_string())?;
            Ok(Answer::Done(was_there))
        }
        (_, Err(Error::Refused { .. })) => Ok(Answer::Refused),
        // The server has died or was taken for dead, or the client was.
        (
            _,
            Err(
                Error::Unavailable { .. }
                | Error::SessionExpired
                | Error::LimitExceeded { .. }
                | Error::Cancelled
                | Error::Fenced,
            ),
        ) => Ok(Answer::Unknown),
        (_, Err(error)) => Err(error.to_string()),
    }
}

/// Whether a module has to be there at the end, or may not be; `None`: both may be.
pub fn is_there_at_end(module: usize, requests: &[ModuleRequest]) -> Option<bool> {
    let is_last = |request: &ModuleRequest, undoes: &dyn Fn(&ModuleRequest) -> bool| {
        let mut others = requests.iter().filter(|other| undoes(other));
        matches!(request.answer, Some((Answer::Done(_), _)))
            && others.all(|other| other.ended_before(request.called))
    };
    let removes = |request: &ModuleRequest| request.may_remove(module);
    let adds = |request: &ModuleRequest| request.may_add(module);
    let is_removal = |request: &&ModuleRequest| request.wish == Wish::Remove { module };
    let mut pushes = requests.iter().filter(|request| adds(request));
    let mut removals = requests.iter().filter(is_removal);
    if !requests.iter().any(adds) || removals.any(|request| is_last(request, &adds)) {
        return Some(false);
    }
    pushes
        .any(|request| is_last(request, &removes))
        .then_some(true)
}
