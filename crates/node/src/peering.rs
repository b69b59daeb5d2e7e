//! Connections to and from other servers.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::{Error, Result};
use crucial_proto::frame::{VERSION, peer};

use crate::catalog::Peer;
use crate::connection::{Connection, PeerConnection};
use crate::ids::{DialId, Millis};
use crate::job::{Job, Todo};
use crate::node::Node;
use crate::outputs::{Output, Outputs};
use crate::peer_message::PeerMessage;
use crate::replication::{Message, PartitionId, ViewVersion};
use crate::types;

impl Node {
    /// The hello of this server when it dials another one.
    pub fn peer_hello(&self, to: (u64, u64)) -> peer::Hello {
        peer::Hello {
            cluster: self.membership.cluster(),
            from: self.id().0,
            incarnation: self.incarnation().0,
            to: Some(to),
        }
    }

    /// Another server says who it is.
    pub(crate) fn on_peer_hello(
        &self,
        connection: &Arc<Connection>,
        (version, hello): (u16, Option<peer::Hello>),
        out: &mut Outputs,
    ) {
        if let Err(error) = self.greet_peer(connection, (version, hello), out) {
            out.refuse(connection.id, &error);
        }
    }

    fn greet_peer(
        &self,
        connection: &Arc<Connection>,
        (version, hello): (u16, Option<peer::Hello>),
        out: &mut Outputs,
    ) -> Result<()> {
        let refuse = |detail: String| Err(Error::Protocol { detail });
        let Some(hello) = hello else {
            return refuse(format!(
                "the other server speaks version {version}, this one version {VERSION}: run the same release on all"
            ));
        };
        if self.is_alone {
            return refuse(
                "this server runs alone, and no other server can join it: start it with --data DIRECTORY"
                    .to_owned(),
            );
        }
        let ours = self.membership.cluster();
        let me = (self.id().0, self.incarnation().0);
        if hello.cluster != 0 && ours != 0 && hello.cluster != ours {
            return refuse(format!(
                "this server belongs to the cluster {ours:016x}, and the other one to {:016x}",
                hello.cluster
            ));
        }
        // Whoever is in no cluster may ask who is here, and nothing else.
        let is_probe = hello.cluster == 0 || ours == 0;
        if hello.to.is_some_and(|to| to != me) {
            return refuse(
                "another server, or another incarnation of it, was here before".to_owned(),
            );
        }
        let peer = PeerConnection {
            hello,
            is_outgoing: false,
        };
        if !is_probe && !connection.set_peer(peer) {
            return refuse("a second hello on one connection".to_owned());
        }
        let welcome = peer::Welcome {
            cluster: ours,
            node: me.0,
            incarnation: me.1,
            frame_bytes_max: self.limits.peer_frame_bytes_max as u64,
        };
        out.frame(connection.id, |bytes| peer::write_welcome(&welcome, bytes));
        if is_probe {
            return Ok(());
        }
        self.peers.on_incoming(connection);
        if self.incarnation().0 != me.1 {
            // A new incarnation has begun meanwhile.
            out.close(connection.id);
        }
        Ok(())
    }

    /// Another server sends messages, which a job decodes.
    pub(crate) fn on_peer_messages(
        &self,
        connection: Arc<Connection>,
        bytes: Bytes,
        out: &mut Outputs,
    ) {
        match connection.peer() {
            Some(_) => out.jobs.push_back(Job(Todo::Message(connection, bytes))),
            None => {
                let error = Error::Protocol {
                    detail: "a peer message before the handshake".to_owned(),
                };
                out.refuse(connection.id, &error);
            }
        }
    }

    /// A message of another server was decoded.
    pub(crate) fn on_peer_message(
        &self,
        connection: &Arc<Connection>,
        message: Result<PeerMessage>,
        now: Millis,
        out: &mut Outputs,
    ) {
        let Some(peer) = connection.peer() else {
            return;
        };
        match message {
            Ok(PeerMessage::Partition(id, heard, message)) => {
                self.on_partition_message(connection, (id, heard, message), now, out);
            }
            Ok(PeerMessage::Types(types)) => {
                self.peers
                    .set_types((peer.node(), peer.incarnation()), types);
            }
            Ok(PeerMessage::Module(message)) => {
                let from = Peer {
                    node: peer.node(),
                    incarnation: peer.incarnation(),
                };
                self.on_module_message(from, message, now, out);
            }
            Err(error) => {
                let error = Error::Protocol {
                    detail: format!("a malformed message of another server: {error}"),
                };
                out.refuse(connection.id, &error);
            }
        }
    }

    fn on_partition_message(
        &self,
        connection: &Arc<Connection>,
        (id, heard, message): (PartitionId, ViewVersion, Message),
        now: Millis,
        out: &mut Outputs,
    ) {
        if id.index() >= self.partitions.len() {
            let error = Error::Protocol {
                detail: format!(
                    "a message about partition {}, where there are {}",
                    id.0,
                    self.partitions.len()
                ),
            };
            return out.refuse(connection.id, &error);
        }
        let Some(peer) = connection.peer() else {
            return;
        };
        if self.needs_module(&message, heard, now, out) {
            // The message comes again, when the view with the module may be here.
            return;
        }
        let mut actions = Vec::new();
        let mut part = self.partitions.lock(id);
        if connection.is_closed() {
            // The message was for an incarnation of this server that has ended: its connections are closed before its
            // partitions go.
            return;
        }
        part.partition
            .receive(peer.node(), message, now, &mut actions);
        self.act(&mut part, actions, now, out);
    }

    /// A server that was dialed has answered on this connection.
    pub(crate) fn on_peer_up(
        &self,
        connection: &Arc<Connection>,
        dial: DialId,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.count_connection(true);
        let Some(peer) = connection.peer() else {
            return;
        };
        let node = peer.node();
        if self.peers.on_up(node, dial, connection.id) {
            self.peers
                .send(node, PeerMessage::Types(types::linked()), out);
            for id in self.partitions.ids() {
                let mut actions = Vec::new();
                let mut part = self.partitions.lock(id);
                part.partition.on_connected(node, now, &mut actions);
                self.act(&mut part, actions, now, out);
            }
            out.push(Output::PeerReady(node));
        } else {
            out.close(connection.id);
        }
    }
}
