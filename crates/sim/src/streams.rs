//! Connections of clients, as TCP has them: frames come in order and none is lost while the connection lasts. What cannot get
//! through is sent again until it can, so a cut only delays, and both ends notice a break each in its own time.

use bytes::Bytes;
use crucial_node::replication::{Incarnation, NodeId};
use crucial_object::SessionId;
use crucial_proto::frame;
use rand::Rng;

use crate::caller::{Ask, WELCOME_MS};
use crate::event::{ClientEvent, Direction, Event};
use crate::events::{MS, Now};
use crate::places::place_of;
use crate::stream::{Pipe, Stream};
use crate::wire::{End, Packet, frames_of};
use crate::world::World;

/// How long a client waits until a host answers.
const CONNECT_MS: u64 = 1_000;

/// What is not acknowledged is sent again after this long.
const RESEND_MS: std::ops::Range<u64> = 200..400;

impl World {
    pub fn on_client(&mut self, id: SessionId, event: ClientEvent) {
        if let ClientEvent::Tick = event {
            return self.tick_client(id);
        }
        let now = self.now();
        let stream = self.next_stream();
        let client = self.clients.get_mut(&id);
        let Some(client) = client.filter(|client| !client.is_dead) else {
            return;
        };
        let caller = &mut client.caller;
        match event {
            ClientEvent::Tick => {}
            ClientEvent::Look(asked_ms) => caller.on_look(asked_ms, now.ms, stream),
            ClientEvent::Redial(attempt) => caller.on_redial(attempt, stream),
            ClientEvent::Dialed(stream, true) => caller.on_dialed(stream),
            ClientEvent::Dialed(stream, false) => caller.on_closed(stream, now.ms),
            ClientEvent::WelcomeDue(stream) => caller.on_welcome_timeout(stream, now.ms),
        }
        self.after_client(id);
    }

    pub fn now(&self) -> Now {
        Now {
            event: self.events.count,
            ms: self.now_us / MS,
        }
    }

    pub fn next_stream(&mut self) -> u64 {
        self.last_stream += 1;
        self.last_stream
    }

    /// Does what a client asks for, after something has happened to it.
    pub fn after_client(&mut self, id: SessionId) {
        let now = self.now();
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let was_dead = client.is_dead;
        client.take_results(now);
        let answered = client.pushes.take_answered();
        let has_expired = std::mem::take(&mut client.caller.has_expired);
        let session = client.caller.session_id();
        let ends = client.is_dead && !was_dead;
        for ask in std::mem::take(&mut client.caller.asks) {
            self.on_ask(id, ask);
        }
        self.on_modules_answered(answered);
        if has_expired {
            self.lapsed.insert(session);
            self.report.resumed += usize::from(!ends);
        }
        if ends {
            self.close_all_of_client(id, true);
        }
    }

    fn on_ask(&mut self, id: SessionId, ask: Ask) {
        match ask {
            Ask::Dial(stream, to) => self.dial_from_client(id, stream, to),
            Ask::Send(stream, frames) => {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.up.frames.extend(frames_of(frames));
                    self.set_moving(stream, Direction::Up);
                }
            }
            Ask::Close(stream) => {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.up.is_ending = true;
                    open.down.has_ended = true;
                    self.set_moving(stream, Direction::Up);
                }
            }
            Ask::Look(at_ms) => {
                let delay_us = (at_ms * MS).saturating_sub(self.now_us);
                self.after(delay_us, Event::Client(id, ClientEvent::Look(at_ms)));
            }
            Ask::Redial(attempt, pause_ms) => {
                let event = Event::Client(id, ClientEvent::Redial(attempt));
                self.after(pause_ms * MS, event);
            }
        }
    }

    fn dial_from_client(&mut self, id: SessionId, stream: u64, to: Option<NodeId>) {
        let nodes: Vec<_> = self.hosts.keys().copied().collect();
        let to = to.unwrap_or_else(|| nodes[self.random.random_range(0..nodes.len())]);
        let place = place_of(id);
        let is_cut = self.is_cut(place, to.0) || self.is_cut(to.0, place) || self.is_off(to);
        let delay_us = match is_cut {
            true => CONNECT_MS * MS,
            false => self.delay(place, to.0),
        };
        let began = self.process(to).map(|process| process.began);
        let connected = began.filter(|_| delay_us < CONNECT_MS * MS);
        if let Some(began) = connected {
            let open = Stream {
                client: id,
                node: to,
                began,
                up: Pipe::default(),
                down: Pipe::default(),
            };
            self.streams.insert(stream, open);
            let event = Event::Client(id, ClientEvent::WelcomeDue(stream));
            self.after(delay_us + WELCOME_MS * MS, event);
        }
        let event = ClientEvent::Dialed(stream, connected.is_some());
        self.after(delay_us.min(CONNECT_MS * MS), Event::Client(id, event));
    }

    /// Sees to it that something arrives, if anything is on its way.
    fn set_moving(&mut self, number: u64, direction: Direction) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let (client, node) = (place_of(stream.client), stream.node.0);
        let (pipe, from, to) = match direction {
            Direction::Up => (&mut stream.up, client, node),
            Direction::Down => (&mut stream.down, node, client),
        };
        let is_something = !pipe.frames.is_empty() || (pipe.is_ending && !pipe.has_ended);
        if is_something && !pipe.is_moving {
            pipe.is_moving = true;
            let delay_us = match self.random.random_range(0..1000) < self.loss_per_mille {
                true => self.random.random_range(RESEND_MS) * MS,
                false => self.delay(from, to),
            };
            self.after(delay_us, Event::Flow(number, direction));
        }
    }

    /// Something arrives at the end of a stream, if it gets through.
    pub fn flow(&mut self, number: u64, direction: Direction) {
        let Some(stream) = self.streams.get(&number) else {
            return;
        };
        let (client, node) = (place_of(stream.client), stream.node);
        let is_cut = match direction {
            Direction::Up => self.is_cut(client, node.0),
            Direction::Down => self.is_cut(node.0, client),
        };
        if is_cut || self.is_off(node) {
            let delay_us = self.random.random_range(RESEND_MS) * MS;
            return self.after(delay_us, Event::Flow(number, direction));
        }
        match direction {
            Direction::Up => self.flow_up(number),
            Direction::Down => self.flow_down(number),
        }
        let is_over = |stream: &Stream| stream.up.has_ended && stream.down.has_ended;
        if self.streams.get(&number).is_some_and(is_over) {
            self.streams.remove(&number);
        }
    }

    fn flow_up(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let (node, began) = (stream.node, stream.began);
        if let Some(until) = self.paused_until(node) {
            return self.after(until - self.now_us, Event::Flow(number, Direction::Up));
        }
        if self
            .process(node)
            .is_none_or(|process| process.began != began)
        {
            return self.reset_stream(number);
        }
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        stream.up.is_moving = false;
        let end = End::Client(number);
        let count = match stream.up.frames.len() {
            0 => 0,
            len => self.random.random_range(1..=len),
        };
        let frames: Vec<Bytes> = stream.up.frames.drain(..count).collect();
        let ends = stream.up.ends();
        for frame in frames {
            self.at_node(node, began, Packet::Frame(number, frame));
        }
        if ends {
            self.at_node(node, began, Packet::Closed(end));
        }
        self.set_moving(number, Direction::Up);
    }

    fn flow_down(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        stream.down.is_moving = false;
        let count = match stream.down.frames.len() {
            0 => 0,
            len => self.random.random_range(1..=len),
        };
        let frames: Vec<Bytes> = stream.down.frames.drain(..count).collect();
        let id = stream.client;
        let is_closed_here = stream.down.has_ended;
        let ends = stream.down.ends();
        self.trace(|| {
            let responses = frames.iter().cloned().map(frame::decode_response);
            let responses: Vec<_> = responses.collect();
            format!(
                "client {} ← stream {number} {responses:?}, end: {ends}",
                id.0
            )
        });
        let now = self.now();
        let client = self.clients.get_mut(&id);
        if let Some(client) = client.filter(|client| !client.is_dead && !is_closed_here) {
            for frame in frames {
                client.caller.on_frame(number, frame, now.ms);
            }
            if ends {
                client.caller.on_closed(number, now.ms);
            }
            self.after_client(id);
        }
        if ends && let Some(stream) = self.streams.get_mut(&number) {
            // The client closes its end as well.
            stream.up.is_ending = true;
            self.set_moving(number, Direction::Up);
        }
        self.set_moving(number, Direction::Down);
    }

    /// A node has frames for a client.
    pub fn send_to_client(&mut self, number: u64, frames: Vec<u8>) {
        if let Some(stream) = self.streams.get_mut(&number)
            && !stream.down.is_ending
        {
            stream.down.frames.extend(frames_of(frames));
            self.set_moving(number, Direction::Down);
        }
    }

    /// A node closes a connection, behind what it has sent on it.
    pub fn close_stream(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.down.is_ending = true;
            self.set_moving(number, Direction::Down);
        }
    }

    /// The process at the other end is gone, and the kernel says so.
    fn reset_stream(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.up.frames.clear();
            stream.up.has_ended = true;
            stream.down.frames.clear();
            stream.down.is_ending = true;
            self.set_moving(number, Direction::Down);
        }
    }

    /// A connection breaks, with all that is on its way. Each end notices it in its own time.
    pub fn break_stream(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number) {
            for pipe in [&mut stream.up, &mut stream.down] {
                pipe.frames.clear();
                pipe.is_ending = true;
            }
            self.set_moving(number, Direction::Up);
            self.set_moving(number, Direction::Down);
        }
    }

    /// All streams of a process.
    pub fn streams_of(&self, node: NodeId, began: Incarnation) -> Vec<u64> {
        let is_its = |stream: &Stream| stream.node == node && stream.began == began;
        let streams = self.streams.iter().filter(|(_, stream)| is_its(stream));
        streams.map(|(number, _)| *number).collect()
    }

    /// All streams of a client.
    pub fn streams_of_client(&self, id: SessionId) -> Vec<u64> {
        let streams = self.streams.iter();
        let streams = streams.filter(|(_, stream)| stream.client == id);
        streams.map(|(number, _)| *number).collect()
    }

    /// A client's process ends. Its kernel says so, unless the machine has gone with it.
    pub fn close_all_of_client(&mut self, id: SessionId, is_said: bool) {
        for number in self.streams_of_client(id) {
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.down.has_ended = true;
                stream.up.is_ending = is_said;
                if !is_said {
                    stream.up.frames.clear();
                }
            }
            self.set_moving(number, Direction::Up);
        }
    }
}
