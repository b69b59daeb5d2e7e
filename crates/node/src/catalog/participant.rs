//! The steps that operations of other servers, and of this one, have asked this member to prepare.

use std::collections::BTreeMap;

use super::action::Outbox;
use super::message::{ModuleMessage, OperationId, Peer, Ready, Step};
use super::mutant::CatalogMutant;
use crate::ids::ModuleId;
use crate::replication::{NodeId, View, ViewVersion};

/// A step that a coordinator has asked for.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub seen: ViewVersion,
    pub module: ModuleId,
    pub size: u64,
    pub step: Step,
    pub answer: Option<Result<Ready, String>>,
    /// The coordinator waits until the module is installed that is in the view since then.
    pub confirm: Option<ViewVersion>,
}

/// The last operation of a coordinator.
#[derive(Debug)]
struct Part {
    operation: OperationId,
    /// `None` when the operation is over. Delayed messages of it are recognized by its number.
    task: Option<Task>,
    /// The coordinator waits until this module, which the operation may have retired, is as it was.
    restoring: Option<ModuleId>,
}

/// The steps that all coordinators have asked for. Each runs one operation at a time.
#[derive(Debug, Default)]
pub(super) struct Participant {
    parts: BTreeMap<NodeId, Part>,
}

impl Participant {
    /// Forgets the operations of servers that are no members any more: their commands have no effect from then on.
    pub fn on_view(&mut self, view: &View) {
        self.parts.retain(|node, part| {
            let coordinator = part.operation.coordinator;
            view.has(*node, coordinator.incarnation)
        });
    }

    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// A coordinator asks for a step. Whether that is a new operation.
    pub fn on_prepare(&mut self, operation: OperationId, task: Task, out: &mut Outbox) -> bool {
        let node = operation.coordinator.node;
        let Some(part) = self
            .parts
            .get_mut(&node)
            .filter(|part| part.operation >= operation)
        else {
            let part = Part {
                operation,
                task: Some(task),
                restoring: None,
            };
            self.parts.insert(node, part);
            return true;
        };
        if part.operation > operation {
            return false;
        }
        let Some(known) = &mut part.task else {
            return false;
        };
        if known.seen < task.seen {
            *known = task;
        } else if known.seen == task.seen {
            known.send_answer(operation, out);
        }
        false
    }

    /// A coordinator waits for the installation of what was prepared.
    pub fn on_confirm(&mut self, operation: OperationId, since: ViewVersion) {
        if let Some(task) = self.task_mut(operation) {
            task.confirm = Some(since);
        }
    }

    /// An operation is over.
    pub fn on_release(&mut self, operation: OperationId, out: &mut Outbox) {
        let node = operation.coordinator.node;
        let part = self.parts.entry(node).or_insert(Part {
            operation,
            task: None,
            restoring: None,
        });
        if part.operation > operation {
            return send_released(operation, out);
        }
        if part.operation < operation {
            // The step that was prepared for an earlier operation is forgotten with it.
            part.operation = operation;
        }
        let task = part.task.take();
        match task {
            Some(task) if matches!(task.step, Step::Remove { .. }) => {
                part.restoring = Some(task.module);
            }
            _ if part.restoring.is_some() => {}
            _ => send_released(operation, out),
        }
    }

    /// Tells coordinators that have released a module which is as it was: one that `is_settled`.
    pub fn send_released(&mut self, is_settled: impl Fn(&ModuleId) -> bool, out: &mut Outbox) {
        for part in self.parts.values_mut() {
            let is_early = CatalogMutant::NoRestore.is_planted();
            if part
                .restoring
                .is_some_and(|module| is_early || is_settled(&module))
            {
                part.restoring = None;
                send_released(part.operation, out);
            }
        }
    }

    /// The steps that are asked for.
    pub fn tasks(&self) -> impl Iterator<Item = (OperationId, &Task)> {
        let parts = self.parts.values();
        parts.filter_map(|part| Some((part.operation, part.task.as_ref()?)))
    }

    fn task_mut(&mut self, operation: OperationId) -> Option<&mut Task> {
        let part = self.parts.get_mut(&operation.coordinator.node)?;
        part.task.as_mut().filter(|_| part.operation == operation)
    }

    /// A step is prepared, or refused.
    pub fn set_answer(
        &mut self,
        operation: OperationId,
        seen: ViewVersion,
        answer: Result<Ready, String>,
        out: &mut Outbox,
    ) {
        if let Some(task) = self.task_mut(operation)
            && task.seen == seen
        {
            task.answer = Some(answer);
            task.send_answer(operation, out);
        }
    }

    /// Tells coordinators of installations; `find` gives what became of one.
    pub fn send_installed(
        &mut self,
        find: impl Fn(&ModuleId, ViewVersion) -> Option<Option<crucial_proto::frame::Pushed>>,
        out: &mut Outbox,
    ) {
        for part in self.parts.values_mut() {
            let Some(task) = &mut part.task else { continue };
            let Some(since) = task.confirm else { continue };
            if let Some(outcome) = find(&task.module, since) {
                task.confirm = None;
                let operation = part.operation;
                let message = ModuleMessage::Installed { operation, outcome };
                out.send(operation.coordinator.node, message);
            }
        }
    }

    /// Whether somebody has retired a module that is in the view since then.
    pub fn retires(&self, module: &ModuleId, present: Option<ViewVersion>) -> bool {
        if CatalogMutant::NoRestore.is_planted() {
            return present.is_some();
        }
        self.tasks().any(|(_, task)| {
            let Step::Remove { since } = task.step else {
                return false;
            };
            task.module == *module && Some(since) == present && matches!(task.answer, Some(Ok(_)))
        })
    }

    /// Whether no operation is under way.
    pub fn is_idle(&self) -> bool {
        self.tasks().next().is_none()
    }

    /// Asserts what always holds.
    pub fn check(&self, view: Option<&View>) {
        for (node, part) in &self.parts {
            let Peer {
                node: coordinator,
                incarnation,
            } = part.operation.coordinator;
            assert_eq!(*node, coordinator);
            let is_member = view.is_some_and(|view| view.has(coordinator, incarnation));
            assert!(is_member, "operations are those of members");
        }
    }
}

impl Task {
    fn send_answer(&self, operation: OperationId, out: &mut Outbox) {
        if let Some(answer) = &self.answer {
            let message = ModuleMessage::Prepared {
                operation,
                seen: self.seen,
                answer: answer.clone(),
            };
            out.send(operation.coordinator.node, message);
        }
    }
}

fn send_released(operation: OperationId, out: &mut Outbox) {
    let to = operation.coordinator.node;
    out.send(to, ModuleMessage::Released { operation });
}
