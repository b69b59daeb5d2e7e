//! What comes to a process, and what its node wants done.

use crucial_node::replication::{Command, Incarnation, NodeId};
use crucial_node::{ControlInfo, Input, Output, Outputs, PeerMessage, Work};
use crucial_object::decode;
use crucial_proto::frame::{self, Response};
use rand::Rng;

use crate::control::CLUSTER;
use crate::event::{Event, ProcessEvent};
use crate::events::MS;
use crate::process::{Process, Reply};
use crate::wire::{End, Packet, ToControl, frames_of};
use crate::world::World;

impl World {
    /// Something happens at a node, and what the node wants done is done.
    fn step(&mut self, id: NodeId, act: impl FnOnce(&mut Process, u64, &mut Outputs)) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let now_ms = host.clock.read(self.now_us);
        let Some(mut process) = host.process.take() else {
            return;
        };
        let mut out = std::mem::take(&mut self.outputs);
        act(&mut process, now_ms, &mut out);
        while !out.is_empty() {
            self.execute_jobs(&mut process, now_ms, &mut out);
            self.send_frames(&process, &mut out);
            for output in std::mem::take(&mut out.rest) {
                self.on_output(&process, output, now_ms, &mut out);
            }
        }
        process.node.check();
        if self.settings.has_modules {
            process
                .has_installed
                .extend(process.node.installed_modules());
        }
        self.outputs = out;
        self.set_wake(&mut process);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.process = Some(process);
        }
    }

    /// A packet came.
    pub fn at_node(&mut self, id: NodeId, incarnation: Incarnation, packet: Packet) {
        let process = self.process(id);
        if !process.is_some_and(|process| process.takes(incarnation, &packet)) {
            return self.reply_to_peer(&packet, false);
        }
        self.trace_packet(id, &packet);
        if let Packet::Evicted = packet {
            return self.evict(id);
        }
        let brings_view = packet.is_from_control();
        if brings_view {
            self.hear_of_leader(id, &packet);
        }
        let mut reply = None;
        self.step(id, |process, now, out| {
            reply = process.receive(packet, now, out);
        });
        if let Some(Reply(dial, hello, is_accepted)) = reply {
            self.reply_to_peer(&Packet::PeerHello(dial, hello), is_accepted);
        }
        if brings_view {
            self.look_at_membership(id);
        }
    }

    /// Executes the jobs that have come up. Some take their time.
    fn execute_jobs(&mut self, process: &mut Process, now: u64, out: &mut Outputs) {
        while let Some(job) = out.jobs.pop_front() {
            self.lapsed.extend(job.lapses());
            if let Some(number) = self.delay_job(process, ProcessEvent::Execute) {
                self.trace(|| format!("{:?} job {number} waits: {job:?}", process.node.id()));
                process.jobs.insert(number, job);
                continue;
            }
            self.trace(|| format!("{:?} executes {job:?}", process.node.id()));
            let weakness = self.weakness_of(process.node.id());
            let done = weakness.during(|| process.node.execute(job));
            if let Some(number) = self.delay_job(process, ProcessEvent::Complete) {
                self.trace(|| format!("{:?} job {number} lasts", process.node.id()));
                process.done.insert(number, done);
                continue;
            }
            process.node.complete(done, now, out);
        }
    }

    fn delay_job(&mut self, process: &Process, event: fn(u64) -> ProcessEvent) -> Option<u64> {
        let delay_ms = match self.random.random_range(0..1000) {
            0..2 => self.random.random_range(50..1500),
            2..20 => self.random.random_range(1..50),
            _ => return None,
        };
        self.jobs += 1;
        let event = Event::Process(process.node.id(), process.began, event(self.jobs));
        self.after(delay_ms * MS, event);
        Some(self.jobs)
    }

    /// A job begins that had to wait.
    pub fn execute(&mut self, id: NodeId, number: u64) {
        let weakness = self.weakness_of(id);
        self.step(id, |process, _, _| {
            if let Some(job) = process.jobs.remove(&number) {
                let done = weakness.during(|| process.node.execute(job));
                process.done.insert(number, done);
            }
        });
        self.complete_later(id, number);
    }

    fn complete_later(&mut self, id: NodeId, number: u64) {
        let Some(began) = self.process(id).map(|process| process.began) else {
            return;
        };
        let delay_ms = self.random.random_range(0..20);
        let event = Event::Process(id, began, ProcessEvent::Complete(number));
        self.after(delay_ms * MS, event);
    }

    /// A job is completed that took its time.
    pub fn complete(&mut self, id: NodeId, number: u64) {
        self.trace(|| format!("{id:?} completes job {number}"));
        self.step(id, |process, now, out| {
            if let Some(done) = process.done.remove(&number) {
                process.node.complete(done, now, out);
            }
        });
    }

    /// Work ends that took its time.
    pub fn end_work(&mut self, id: NodeId, work: Work) {
        let done = self.do_work(id, work);
        self.step(id, |process, now, out| {
            process.node.handle(Input::WorkDone(done), now, out);
        });
    }

    fn send_frames(&mut self, process: &Process, out: &mut Outputs) {
        if out.frames.is_empty() {
            return;
        }
        let mut buffers = Vec::new();
        out.frames
            .drain(|to, bytes| buffers.push((to, bytes.to_vec())));
        for (to, bytes) in buffers {
            // What another node says of the handshake is in the packet about it.
            if let Some(End::Client(stream)) = process.end_of(to) {
                self.check_welcome(process, stream, &bytes);
                self.send_to_client(stream, bytes);
            }
        }
    }

    /// A session that was not silent must go on.
    fn check_welcome(&self, process: &Process, stream: u64, bytes: &[u8]) {
        let Some(client) = self.streams.get(&stream).map(|stream| stream.client) else {
            return;
        };
        let first = frames_of(bytes.to_vec()).next().expect("a frame");
        if let Ok(Response::Welcome(welcome)) = frame::decode_response(first) {
            let has_left = self.clients.get(&client).is_none_or(|c| c.is_dead);
            assert!(
                welcome.resumed || process.was_silent(client) || has_left,
                "{client:?} has ended, and was not silent"
            );
        }
    }

    fn on_output(&mut self, process: &Process, output: Output, now: u64, out: &mut Outputs) {
        let id = process.node.id();
        match output {
            Output::Close(connection) => {
                if let Some(end) = process.end_of(connection) {
                    self.break_connection(process, end);
                }
            }
            Output::Greeted(greeted) => {
                process.node.handle(Input::Greeted(greeted), now, out);
            }
            Output::PeerReady(to) => self.drain(process, to),
            Output::Dial {
                dial,
                node,
                incarnation,
                ..
            } => self.dial(process, dial, (node, incarnation.0)),
            Output::Propose(command) => {
                if let Command::Reconfigure { assignments, .. } = &command
                    && assignments
                        .first()
                        .is_some_and(|(first, _)| first.node != id)
                {
                    self.on_hand_over(id);
                }
                self.send_to_leader(id, ToControl::Command(command));
            }
            // The time is asked for after each step.
            Output::Wake => {}
            Output::DescribeControl(query) => {
                let input = Input::ControlInfo(query, ControlInfo::default());
                process.node.handle(input, now, out);
            }
            Output::Start(work) => self.begin_work(process, work, now, out),
            Output::Saved(..) => panic!("nobody asked for {output:?}"),
        }
    }

    fn drain(&mut self, process: &Process, to: NodeId) {
        let Some(incarnation) = self.process(to).map(|other| other.node.incarnation()) else {
            return process.node.drain_peer(to, |_| true, |_, _| ());
        };
        let from = process.node.id();
        let has_room = |_| true;
        process.node.drain_peer(to, has_room, |connection, bytes| {
            if let Some(End::Outgoing(link)) = process.end_of(connection) {
                for mut frame in frames_of(bytes.to_vec()) {
                    // The kind of the frame: there is just one.
                    let messages = frame.split_off(1);
                    let packet = Packet::Messages(link, messages);
                    self.count_message();
                    self.travel(from.0, to.0, Event::ToNode(to, incarnation, packet));
                }
            }
        });
    }

    fn set_wake(&mut self, process: &mut Process) {
        let Some(at) = process.node.next_timeout() else {
            return;
        };
        if process.wakes_at.is_some_and(|wakes_at| wakes_at <= at) {
            return;
        }
        process.wakes_at = Some(at);
        let id = process.node.id();
        let Some(clock) = self.hosts.get(&id).map(|host| host.clock) else {
            return;
        };
        let event = Event::Process(id, process.began, ProcessEvent::Wake(at));
        self.events.add(clock.when(at).max(self.now_us + 1), event);
    }

    /// A node has asked to be called now.
    pub fn wake(&mut self, id: NodeId, at: u64) {
        self.step(id, |process, now, out| {
            if process.wakes_at == Some(at) {
                process.wakes_at = None;
                process.node.handle_timeout(now, out);
            }
        });
    }

    pub fn send_heartbeat(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let Some(process) = host.process.as_ref().filter(|process| !process.is_evicted) else {
            return;
        };
        let heartbeat = ToControl::Heartbeat {
            node: id,
            incarnation: process.node.incarnation(),
            sent_ms: host.clock.read(self.now_us),
            is_leaving: host.is_leaving,
        };
        self.send_to_leader(id, heartbeat);
    }

    pub fn begin_incarnation(&mut self, id: NodeId, incarnation: Incarnation) {
        self.step(id, |process, now, out| {
            process.is_evicted = false;
            process.was_member = false;
            process.node.handle(Input::Cluster(CLUSTER), now, out);
            process
                .node
                .handle(Input::Incarnation(incarnation), now, out);
        });
    }

    /// Looks whether a node was a member of a view that it knows, and is not one in a newer view.
    fn look_at_membership(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let Some(process) = &mut host.process else {
            return;
        };
        let is_member = process.node.is_member();
        let was_member = std::mem::replace(&mut process.was_member, is_member);
        if was_member && !is_member {
            self.evict(id);
        }
    }

    /// A node's incarnation has ended. Its next one begins in the same process or in another one.
    fn evict(&mut self, id: NodeId) {
        self.trace(|| format!("{id:?} is evicted"));
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if host.is_leaving {
            return self.end_process(id);
        }
        if self.random.random() {
            self.end_process(id);
            return self.start(id);
        }
        let Some(process) = &mut host.process else {
            return;
        };
        process.is_evicted = true;
        let began = process.began;
        self.step(id, |process, now, out| {
            process.node.handle(Input::Evicted, now, out);
        });
        let delay_ms = self.random.random_range(0..300);
        let event = Event::Process(id, began, ProcessEvent::Incarnate);
        self.after(delay_ms * MS, event);
    }

    /// A node's process ends, with all that it has in memory.
    pub fn end_process(&mut self, id: NodeId) {
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.take()) else {
            return;
        };
        self.divergences += process.node.status().divergences;
        self.break_links_to(id);
        for stream in self.streams_of(id, process.began) {
            self.close_stream(stream);
        }
    }

    fn trace_packet(&self, id: NodeId, packet: &Packet) {
        self.trace(|| match packet {
            Packet::Messages(link, bytes) => {
                format!("→ {id:?} on link {link}: {:?}", decode_message(bytes))
            }
            Packet::Grant(grant, view) => format!("→ {id:?} {grant:?} {:?}", view.version),
            Packet::View(view) => format!("→ {id:?} {:?}", view.version),
            Packet::Frame(stream, frame) => {
                let request = frame::decode_request(frame.clone());
                format!("stream {stream} → {id:?} {request:?}")
            }
            packet => format!("→ {id:?} {packet:?}"),
        });
    }
}

/// The message that is in a packet.
fn decode_message(bytes: &[u8]) -> PeerMessage {
    decode(bytes).expect("a message of another node")
}
