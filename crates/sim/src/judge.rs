//! What must hold at the end.

use crucial_linear::{Checker, Failure, History, Operation};
use crucial_node::replication::Body;
use crucial_object::ObjectId;

use crate::attempt::merge;
use crate::client::Client;
use crate::events::MS;
use crate::model::{Input, Loss, Output, Thing};
use crate::process::LEASE_MS;
use crate::thread::{CloudThread, Perhaps, apply_fences};
use crate::world::{Broken, Report, World};

/// How many messages servers may send each other in a second, all together: whatever goes wrong, none works for nothing.
const MESSAGES_MAX: usize = 300;

impl World {
    pub fn is_finished(&self) -> bool {
        self.clients.values().all(Client::is_done)
            && self.threads.iter().all(CloudThread::is_over)
            && self.faults.is_empty()
            && self.now_us.saturating_sub(self.calm_since) > 3 * LEASE_MS * MS
            && self.is_whole()
            && self.hosts.values().all(|host| match &host.process {
                Some(process) => {
                    let has_jobs = !process.jobs.is_empty() || !process.done.is_empty();
                    (process.node.is_member() || host.is_leaving) && !has_jobs
                }
                None => true,
            })
            && self.events.len() < 10_000
            && self.replicas_agree().is_ok()
            && self.have_settled_modules()
            && !self.dead_hold_something()
    }

    /// Whether a client that has died waits or holds something yet.
    pub fn dead_hold_something(&self) -> bool {
        let view = self.control.view();
        self.objects.iter().any(|object| {
            let primary = view.primary(view.partition(&object.id));
            let process = primary.and_then(|primary| self.process(primary));
            let sessions = process.and_then(|process| {
                process
                    .node
                    .look_at(&object.id, |replica| replica.sessions())
            });
            let mut sessions = sessions.into_iter().flatten();
            sessions.any(|session| self.clients.get(&session).is_some_and(|c| c.is_dead))
        })
    }

    /// Whether all nodes hold the same of each object that is theirs.
    pub fn replicas_agree(&self) -> Result<(), String> {
        let view = self.control.view();
        for object in &self.objects {
            let partition = view.partition(&object.id);
            let mut first = None;
            for assignment in &view.configuration(partition).assignments {
                let Some(process) = self.process(assignment.node) else {
                    return Err(format!("{:?} is not there", assignment.node));
                };
                // Below its rank a node has what a stub says.
                let is_full = assignment.rank < object.replicas;
                let seen = process.node.look_at(&object.id, |replica| {
                    let holding = |rank| replica.holding(object.id, rank);
                    let is_stub = matches!(replica.body, Body::Stub);
                    let lacks = replica.replicas > assignment.rank && is_stub;
                    (holding(0), holding(u8::MAX), lacks)
                });
                if seen.is_some_and(|(_, _, lacks)| lacks) {
                    return Err(format!("{object:?}: a stub at {assignment:?}"));
                }
                let (held, stub) = (seen.map(|seen| seen.0), seen.map(|seen| seen.1));
                let newest = *first.get_or_insert((held, stub));
                let is_same = match is_full {
                    true => newest.0 == held,
                    false => newest.1 == stub,
                };
                if !is_same {
                    return Err(format!(
                        "{object:?} in {partition:?}: {newest:?} and {held:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub fn judge(mut self) -> Result<Report, Broken> {
        let processes = self.hosts.values().filter_map(|host| host.process.as_ref());
        let divergences: usize = processes.map(|p| p.node.status().divergences).sum();
        let divergences = divergences + self.divergences;
        if divergences > 0 {
            return Err(self.broken(format!("backups diverged {divergences} times")));
        }
        if self.report.messages_max > MESSAGES_MAX {
            let max = self.report.messages_max;
            return Err(self.broken(format!(
                "servers have sent each other {max} messages in a second"
            )));
        }
        self.images_agree().map_err(|what| self.broken(what))?;
        self.check_modules().map_err(|what| self.broken(what))?;
        let clients = std::mem::take(&mut self.clients);
        let has_lost = |client: &&Client| client.is_dead || self.lapsed.contains(&client.session);
        let dead = clients.values().filter(has_lost);
        let dead: Vec<_> = dead.map(|client| client.session.0).collect();
        let mut operations = Vec::new();
        for thread in self.threads.iter().filter(|thread| thread.is_exactly_once) {
            let attempts = thread.attempts.iter();
            let attempts = attempts.filter_map(|process| clients.get(process)?.positions());
            let stands_alone = |operation: &Operation<ObjectId, Input, Output>| {
                self.losses.contains_key(&operation.object)
            };
            match merge(attempts.collect(), &stands_alone, thread.cancel_began) {
                Ok(merged) => operations.extend(merged),
                Err(what) => return Err(self.broken(what)),
            }
        }
        for client in clients.into_values() {
            if let Some(wrong) = client.wrong.first() {
                return Err(self.broken(wrong.clone()));
            }
            operations.extend_from_slice(client.into_history().operations());
        }
        for operation in &mut operations {
            // A call that was executed and repeated, when the object was deleted meanwhile, or gone with all of its
            // replicas; or a copy of a call, which was executed when there was room again.
            let is_forgotten = self.losses.get(&operation.object) == Some(&Loss::Forgotten);
            let changes = match operation.input {
                Input::Load | Input::FindCounter => false,
                Input::OpenCounter | Input::OpenQueue | Input::OpenLock => is_forgotten,
                _ => true,
            };
            let output = operation.answer.as_ref().map(|(output, _)| *output);
            let is_unknown = match output {
                Some(Output::Gone) => changes,
                Some(Output::Refused) => true,
                Some(Output::Did(false)) => is_forgotten && operation.input == Input::Delete,
                _ => false,
            };
            if is_unknown {
                operation.answer = None;
            }
        }
        // Executed twice: before all replicas were gone, with the record of it, and after that by the request's repetition.
        let again = operations.iter().filter(|operation| {
            let end = operation.answer.as_ref().map_or(u64::MAX, |(_, end)| *end);
            let moments = (operation.object, operation.called)..(operation.object, end);
            let changes = !matches!(operation.input, Input::Load | Input::FindCounter);
            changes && self.forgotten.range(moments).next().is_some()
        });
        let again: Vec<_> = again.cloned().collect();
        self.report.operations = operations.len();
        self.report.unanswered = operations.iter().filter(|o| o.answer.is_none()).count();
        self.report.views = self.control.view().version.0;
        self.report.time_ms = self.now_us / MS;
        operations.extend(again.into_iter().map(|mut operation| {
            operation.answer = None;
            operation
        }));
        let perhaps = match apply_fences(&self.threads, &mut operations) {
            Ok(perhaps) => perhaps,
            Err(what) => return Err(self.broken(what)),
        };
        for object in &self.objects {
            let mine = operations.iter().filter(|o| o.object == object.id).cloned();
            let mine: Vec<_> = mine.collect();
            let perhaps = perhaps.iter().map(|Perhaps(operation)| operation);
            let perhaps: Vec<_> = perhaps.filter(|o| o.object == object.id).collect();
            let model = Thing {
                dead: dead.clone(),
                loss: self.losses.get(&object.id).copied().unwrap_or(Loss::None),
            };
            match check(&model, &mine, &perhaps) {
                Ok(()) => {}
                Err(Failure::Violation(violation)) => {
                    return Err(self.broken(format!("{object:?}\n{violation}")));
                }
                // Too many orders to look at.
                Err(_) => self.report.undecided += 1,
            }
        }
        Ok(self.report)
    }

    /// Whether the replicas are the same, byte by byte.
    fn images_agree(&mut self) -> Result<(), String> {
        let view = self.control.view().clone();
        for object in self.objects.clone() {
            let mut first = None;
            for assignment in &view.configuration(view.partition(&object.id)).assignments {
                let Some(process) = self.process(assignment.node) else {
                    continue;
                };
                let seen = process.node.look_at(&object.id, |replica| {
                    let image = replica.cell().map(|cell| cell.image());
                    (matches!(replica.body, Body::Lost), image)
                });
                let Some((is_lost, image)) = seen else {
                    continue;
                };
                if is_lost {
                    self.report.lost += 1;
                    break;
                }
                if object.replicas > assignment.rank
                    && let Some(image) = image
                {
                    let image = image.map_err(|error| error.to_string())?;
                    if *first.get_or_insert_with(|| image.clone()) != image {
                        return Err(format!("{object:?} differs: {first:?} and {image:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Calls of fenced attempts that are looked at in each combination, of one object.
const PERHAPS_MAX: usize = 6;

/// Checks a history, in which each of some calls may have taken effect or not.
fn check(
    model: &Thing,
    operations: &[Operation<ObjectId, Input, Output>],
    perhaps: &[&Operation<ObjectId, Input, Output>],
) -> Result<(), Failure> {
    let (perhaps, rest) = perhaps.split_at(perhaps.len().min(PERHAPS_MAX));
    // The rest may have its effect at any time.
    let rest = rest.iter().map(|operation| Operation {
        answer: None,
        ..(*operation).clone()
    });
    let rest: Vec<_> = rest.collect();
    let mut result = Ok(());
    for chosen in 0..1 << perhaps.len() {
        let is_chosen = |index: usize| chosen & (1 << index) != 0;
        let more = perhaps
            .iter()
            .enumerate()
            .filter(|(index, _)| is_chosen(*index));
        let more = more.map(|(_, operation)| (*operation).clone());
        let history: History<_, _, _> = operations
            .iter()
            .chain(&rest)
            .cloned()
            .chain(more)
            .collect();
        let checked = Checker::new(model).steps_max(200_000).check(&history);
        match checked {
            Ok(_) => return Ok(()),
            // Undecided is not broken.
            Err(failure) if result.is_ok() || !matches!(failure, Failure::Violation(_)) => {
                result = Err(failure);
            }
            Err(_) => {}
        }
    }
    result
}
