//! Work of a process that takes its time: bytes of modules on the disk of its machine, and their code.

use crucial_node::catalog::StoreError;
use crucial_node::replication::NodeId;
use crucial_node::{Input, Outputs, Work, WorkDone, module_id};
use rand::Rng;

use crate::event::{Event, ProcessEvent};
use crate::events::MS;
use crate::modules;
use crate::process::Process;
use crate::world::World;

impl World {
    /// A node wants work done.
    pub fn begin_work(&mut self, process: &Process, work: Work, now: u64, out: &mut Outputs) {
        let id = process.node.id();
        if !self.settings.has_modules {
            let done = self.do_work(id, work);
            return process.node.handle(Input::WorkDone(done), now, out);
        }
        let delay_ms = match self.random.random_range(0..100) {
            0 => self.random.random_range(100..2_000),
            1..10 => self.random.random_range(5..300),
            10..60 => self.random.random_range(1..5),
            _ => 0,
        };
        if delay_ms > 0 {
            self.jobs += 1;
            let event = ProcessEvent::Work(self.jobs, work);
            return self.after(delay_ms * MS, Event::Process(id, process.began, event));
        }
        let done = self.do_work(id, work);
        process.node.handle(Input::WorkDone(done), now, out);
    }

    /// Does some work, at once.
    pub fn do_work(&mut self, id: NodeId, work: Work) -> WorkDone {
        let is_full = self.settings.has_modules && self.random.random_range(0..50) == 0;
        let Some(host) = self.hosts.get_mut(&id) else {
            return WorkDone::Removed;
        };
        let disk = &mut host.disk;
        match work {
            Work::Load(module) => WorkDone::Loaded(disk.get(&module).cloned()),
            Work::Store(module, bytes) if module_id(&bytes) == module => match is_full {
                true => WorkDone::Stored(Err(StoreError::Disk("the disk is full".to_owned()))),
                false => {
                    disk.insert(module, bytes);
                    WorkDone::Stored(Ok(()))
                }
            },
            Work::Store(..) => WorkDone::Stored(Err(StoreError::Damaged)),
            Work::Remove(module) => {
                disk.remove(&module);
                WorkDone::Removed
            }
            Work::Prune(kept) => {
                disk.retain(|module, _| kept.contains(module));
                WorkDone::Pruned
            }
            Work::Compile(bytes) => WorkDone::Compiled(modules::compile(&bytes)),
        }
    }
}
