//! Outputs of the node: frames to send, jobs to execute, and the rest.

use std::collections::VecDeque;
use std::sync::Arc;

use crucial_object::{Error, Sequence};
use crucial_proto::frame;

use crate::connection::Connection;
use crate::ids::{ConnectionId, DialId};
use crate::job::{Job, Turn};
use crate::objects::RequestContext;
use crate::replication::{Command, Incarnation, NodeId};
use crate::results::Results;
use crate::rounds::RoundKind;
use crate::work::Work;

/// An output besides frames and jobs.
#[derive(Debug)]
pub enum Output {
    /// Close the connection, after its frames are written.
    Close(ConnectionId),
    /// There are messages for another server: [`Node::drain_peer`](crate::Node::drain_peer).
    PeerReady(NodeId),
    /// Connect to another server, and answer with `PeerUp` or `PeerDown`.
    Dial {
        /// The attempt, which the answer names.
        dial: DialId,
        /// The server.
        node: NodeId,
        /// Its incarnation. Another one must not answer.
        incarnation: Incarnation,
        /// Its address.
        address: String,
    },
    /// Answer with `Greeted`, once the frames that were appended before are on their way.
    Greeted(Greeted),
    /// Give the command to the control group. A lost command is proposed again.
    Propose(Command),
    /// Do something that takes long or touches the world, and answer with `WorkDone`.
    Start(Work),
    /// Describe the control group, and answer with `ControlInfo`.
    DescribeControl(ControlQuery),
    /// The encoded state of an object that the shell has asked for; `None`: there is no such object.
    Saved(u64, Option<Result<Vec<u8>, Error>>),
    /// The [next timeout](crate::Node::next_timeout) is earlier than it was before.
    Wake,
}

/// A connection whose welcome is among the frames.
#[derive(Debug)]
pub struct Greeted {
    pub(crate) connection: Arc<Connection>,
    /// The number of the hello in its session.
    pub(crate) hello: u64,
    /// The version of the welcome's routes.
    pub(crate) routes: u64,
}

/// A client's question about the cluster, for which the node lacks what the control group says of itself.
#[derive(Debug)]
pub struct ControlQuery(pub(crate) RequestContext);

/// Information about the control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlInfo {
    /// The leader, if it is known.
    pub leader: Option<NodeId>,
    /// The voters.
    pub voters: Vec<NodeId>,
}

/// Collects what the node wants done. A thread of the shell keeps one and empties it after each step.
#[derive(Default)]
pub struct Outputs {
    /// Frames to send.
    pub frames: Frames,
    /// Jobs to execute, in any order and by any thread.
    pub jobs: VecDeque<Job>,
    /// The rest, in this order.
    pub rest: Vec<Output>,
    /// Objects in hand whose event is not admitted yet; empty between inputs.
    pub(crate) turns: VecDeque<Box<Turn>>,
    /// Rounds without objects, whose ends come behind the partition's lock; empty between inputs.
    pub(crate) ended_rounds: VecDeque<RoundKind>,
    /// Buffers that are used again.
    spare: Vec<Results>,
}

/// Result buffers that are kept for later.
const SPARE_MAX: usize = 8;

impl Outputs {
    /// Nothing to do yet.
    pub fn new() -> Outputs {
        Outputs::default()
    }

    /// Whether everything was done.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.jobs.is_empty() && self.rest.is_empty()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.rest.push(output);
    }

    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.push(Output::Close(connection));
    }

    /// Appends a frame to those of a connection.
    pub(crate) fn frame(
        &mut self,
        to: ConnectionId,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) {
        if let Err(error) = self.frames.append(to, write) {
            tracing::error!(%error, "a frame could not be encoded");
        }
    }

    /// Appends a reply. A result that is too large for a frame becomes an error.
    pub(crate) fn reply(
        &mut self,
        to: ConnectionId,
        sequence: Sequence,
        result: Result<&[u8], &Error>,
        frame_bytes_max: usize,
    ) {
        /// More than what a reply has besides its result.
        const HEADER_BYTES: usize = 16;
        if let Ok(bytes) = result
            && bytes.len() + HEADER_BYTES > frame_bytes_max
        {
            let error = Error::LimitExceeded {
                limit: "frame_bytes_max".to_owned(),
                max: frame_bytes_max as u64,
                detail: format!(
                    "the call was executed, but its result of {} bytes cannot be sent: read it in parts",
                    bytes.len()
                ),
            };
            return self.frame(to, |out| frame::write_reply(sequence, Err(&error), out));
        }
        self.frame(to, |out| frame::write_reply(sequence, result, out));
    }

    /// Appends a last frame, behind which the connection closes.
    pub(crate) fn refuse(&mut self, to: ConnectionId, error: &Error) {
        tracing::debug!(%error, "connection refused");
        self.frame(to, |out| frame::write_refused(error, out));
        self.close(to);
    }

    /// A buffer for the results of a job.
    pub(crate) fn results(&mut self) -> Results {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, mut results: Results) {
        if self.spare.len() < SPARE_MAX {
            results.clear();
            self.spare.push(results);
        }
    }
}

/// Frames by connection, in the order in which they were appended for each.
#[derive(Default)]
pub struct Frames {
    buffers: Vec<(ConnectionId, Vec<u8>)>,
    /// For each index of a connection the place of its buffer, plus one.
    places: Vec<u32>,
    /// The bytes of all of them.
    len: usize,
    spare: Vec<Vec<u8>>,
}

/// Buffers that are kept for later, and the size above which one is given back.
const SPARE_BUFFERS_MAX: usize = 256;
const SPARE_BYTES_MAX: usize = 64 << 10;

impl Frames {
    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends a frame to those of a connection.
    fn append(
        &mut self,
        to: ConnectionId,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let buffer = self.buffer(to);
        let before = buffer.len();
        let written = write(buffer);
        let appended = buffer.len() - before;
        self.len += appended;
        written
    }

    /// Where the frames of a connection are appended.
    fn buffer(&mut self, to: ConnectionId) -> &mut Vec<u8> {
        let index = to.index as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        let place = self.places[index] as usize;
        let is_there = place > 0 && self.buffers[place - 1].0 == to;
        let place = match is_there {
            true => place,
            false => {
                let buffer = self.spare.pop().unwrap_or_default();
                self.buffers.push((to, buffer));
                self.places[index] = self.buffers.len() as u32;
                self.buffers.len()
            }
        };
        &mut self.buffers[place - 1].1
    }

    /// Takes all frames out.
    pub fn drain(&mut self, mut send: impl FnMut(ConnectionId, &[u8])) {
        self.len = 0;
        for (to, bytes) in self.buffers.drain(..) {
            self.places[to.index as usize] = 0;
            send(to, &bytes);
            give_back(&mut self.spare, bytes);
        }
    }
}

fn give_back(spare: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if spare.len() < SPARE_BUFFERS_MAX
        && buffer.capacity() > 0
        && buffer.capacity() <= SPARE_BYTES_MAX
    {
        buffer.clear();
        spare.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32, generation: u32) -> ConnectionId {
        ConnectionId { index, generation }
    }

    #[test]
    fn frames_of_a_connection_are_together_and_in_order() {
        let mut frames = Frames::default();
        frames.buffer(id(3, 0)).push(1);
        frames.buffer(id(1, 0)).push(2);
        frames.buffer(id(3, 0)).push(3);
        // The same slot, used by another connection.
        frames.buffer(id(3, 1)).push(4);
        let all = |frames: &mut Frames| {
            let mut all = Vec::new();
            frames.drain(|to, bytes| all.push((to, bytes.to_vec())));
            all
        };
        let expected = [
            (id(3, 0), vec![1, 3]),
            (id(1, 0), vec![2]),
            (id(3, 1), vec![4]),
        ];
        assert_eq!(all(&mut frames), expected);
        frames.buffer(id(3, 0)).push(7);
        assert_eq!(all(&mut frames), [(id(3, 0), vec![7])]);
    }
}
