//! Objects with a call that was answered "moved": nothing of such an object is sent until the call is sent again, so
//! that the object's calls keep their order.

use std::collections::BTreeMap;

use crucial_object::ObjectId;

/// A call that was not executed, though its server is the right one, is sent again after a pause: each is twice
/// the one before, from the first to the last.
const PAUSE_FIRST_MS: u64 = 5;
const PAUSE_LAST_MS: u64 = 100;

#[derive(Default)]
pub(super) struct Holds(BTreeMap<ObjectId, Hold>);

struct Hold {
    /// Until then, or until newer routes come. `None`: the call was sent again.
    due_ms: Option<u64>,
    pause_ms: u64,
    /// Routes of this version are to come.
    needs: u64,
}

impl Hold {
    fn is_due(&self, now_ms: u64) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }
}

impl Holds {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether calls of the object must not be sent now.
    pub fn holds(&self, object: &ObjectId) -> bool {
        let hold = self.0.get(object);
        hold.is_some_and(|hold| hold.due_ms.is_some())
    }

    /// A call of the object was not executed. The server has routes of version `needs`, the client of `version`.
    pub fn hold(&mut self, object: ObjectId, needs: u64, version: u64, now_ms: u64) {
        let hold = self.0.entry(object).or_insert(Hold {
            due_ms: None,
            pause_ms: PAUSE_FIRST_MS,
            needs,
        });
        hold.needs = hold.needs.max(needs);
        if hold.due_ms.is_none() {
            let pause_ms = match needs > version {
                true => PAUSE_LAST_MS,
                false => hold.pause_ms,
            };
            hold.due_ms = Some(now_ms + pause_ms);
            hold.pause_ms = (2 * pause_ms).min(PAUSE_LAST_MS);
        }
    }

    /// A call of the object was answered: the next pause is the first again.
    pub fn on_answered(&mut self, object: &ObjectId) {
        if self.0.get(object).is_some_and(|hold| hold.due_ms.is_none()) {
            self.0.remove(object);
        }
    }

    /// When calls are to be sent again next.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.0.values().filter_map(|hold| hold.due_ms).min()
    }

    /// Objects with calls that are to be sent again now, in rising order.
    pub fn due(&self, now_ms: u64) -> Vec<ObjectId> {
        let due = self.0.iter().filter(|(_, hold)| hold.is_due(now_ms));
        due.map(|(object, _)| *object).collect()
    }

    /// Whether calls of one of these objects wait for newer routes than those of `version`.
    pub fn lacks_routes(&self, objects: &[ObjectId], version: u64) -> bool {
        let mut holds = objects.iter().filter_map(|object| self.0.get(object));
        holds.any(|hold| hold.needs > version)
    }

    /// All calls of the object were sent again.
    pub fn on_sent_again(&mut self, object: &ObjectId) {
        if let Some(hold) = self.0.get_mut(object) {
            hold.due_ms = None;
        }
    }

    /// Calls that are due and could not be sent again wait on.
    pub fn postpone(&mut self, now_ms: u64) {
        for hold in self.0.values_mut().filter(|hold| hold.is_due(now_ms)) {
            hold.due_ms = Some(now_ms + PAUSE_LAST_MS);
        }
    }

    /// Routes of this version have come. Gives the objects, in rising order, that waited for them and are held no more.
    pub fn release(&mut self, version: u64) -> Vec<ObjectId> {
        let settled = self.0.extract_if(.., |_, hold| hold.needs <= version);
        settled.map(|(object, _)| object).collect()
    }

    /// Forgets objects that `has_calls` does not name: their calls have failed, or were answered.
    pub fn keep(&mut self, has_calls: impl Fn(&ObjectId) -> bool) {
        self.0.retain(|object, _| has_calls(object));
    }

    /// Ends the holds of objects that `which` names.
    pub fn end(&mut self, mut which: impl FnMut(&ObjectId) -> bool) {
        self.0
            .retain(|object, hold| hold.due_ms.is_none() || !which(object));
    }
}
