//! Connections to the other servers, for requests.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crucial_node::replication::{Incarnation, NodeId};
use crucial_proto::frame::{self, peer};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// Time limit for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// Pause after a failed connection before the same address is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Longest response, in bytes.
const RESPONSE_BYTES_MAX: usize = 1 << 30;

/// The size of a request frame without its body: kind and id.
const REQUEST_HEADER_BYTES: usize = 9;

/// The connections of one server.
pub(crate) struct Links {
    node: NodeId,
    incarnation: AtomicU64,
    cluster: AtomicU64,
    links: Mutex<HashMap<String, Arc<tokio::sync::Mutex<AddressState>>>>,
    /// When each server, in this incarnation, last responded.
    responded: Mutex<HashMap<(u64, u64), Instant>>,
}

#[derive(Default)]
struct AddressState {
    link: Option<Arc<Link>>,
    /// The time and the cause of the last failure.
    failed: Option<(Instant, String)>,
}

struct Link {
    welcome: peer::Welcome,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    next: AtomicU64,
    pending: Arc<PendingRequests>,
    /// The task that reads responses.
    reader: AbortHandle,
}

/// The requests of a connection that wait for a response.
#[derive(Default)]
struct PendingRequests {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    /// The connection can no longer be used.
    dead: AtomicBool,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The task holds the other half of the connection, which closes when both halves are dropped.
        self.reader.abort();
    }
}

impl Links {
    pub fn new(node: NodeId, incarnation: Incarnation) -> Links {
        Links {
            node,
            incarnation: AtomicU64::new(incarnation.0),
            cluster: AtomicU64::new(0),
            links: Mutex::default(),
            responded: Mutex::default(),
        }
    }

    pub fn set_cluster(&self, cluster: u64) {
        self.cluster.store(cluster, Ordering::Release);
    }

    /// Begins a new incarnation. Responses to earlier incarnations are dropped with their connections.
    pub fn begin_incarnation(&self, incarnation: Incarnation) {
        self.incarnation.store(incarnation.0, Ordering::Release);
        self.links.lock().clear();
    }

    /// Asks the server at an address for its identity, in whatever cluster it is. The connection is not kept, since the
    /// server may join another cluster soon.
    pub async fn identify(&self, address: &str) -> io::Result<peer::Welcome> {
        Ok(self.connect(address, 0).await?.welcome)
    }

    /// Sends a request and waits for the response. If `node` is given, the server at the address must have this id.
    pub async fn request(
        &self,
        address: &str,
        node: Option<u64>,
        request: &[u8],
        timeout: Duration,
    ) -> io::Result<Bytes> {
        let response = async {
            let link = self.link(address).await?;
            if node.is_some_and(|node| node != link.welcome.node) {
                link.pending.dead.store(true, Ordering::Release);
                return Err(io::Error::other("another server is at this address"));
            }
            let response = link.request(request).await?;
            let instance = (link.welcome.node, link.welcome.incarnation);
            self.responded.lock().insert(instance, Instant::now());
            Ok(response)
        };
        match tokio::time::timeout(timeout, response).await {
            Ok(response) => response,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Whether this incarnation of a server has responded to a request within the last `within`. Forgets those that have
    /// not.
    pub fn has_responded(&self, node: NodeId, incarnation: Incarnation, within: Duration) -> bool {
        let mut responded = self.responded.lock();
        responded.retain(|_, at| at.elapsed() <= within);
        responded.contains_key(&(node.0, incarnation.0))
    }

    async fn link(&self, address: &str) -> io::Result<Arc<Link>> {
        let state = self
            .links
            .lock()
            .entry(address.to_owned())
            .or_default()
            .clone();
        let mut state = state.lock().await;
        if let Some(link) = &state.link
            && !link.pending.dead.load(Ordering::Acquire)
        {
            return Ok(link.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(io::Error::other(why.clone()));
        }
        let cluster = self.cluster.load(Ordering::Acquire);
        match self.connect(address, cluster).await {
            Ok(link) => {
                state.link = Some(link.clone());
                state.failed = None;
                Ok(link)
            }
            Err(error) => {
                state.link = None;
                state.failed = Some((Instant::now(), error.to_string()));
                Err(error)
            }
        }
    }

    async fn connect(&self, address: &str, cluster: u64) -> io::Result<Arc<Link>> {
        let hello = peer::Hello {
            cluster,
            from: self.node.0,
            incarnation: self.incarnation.load(Ordering::Acquire),
            to: None,
        };
        let connected = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut bytes = Vec::new();
            peer::write_hello(&hello, &mut bytes).map_err(io::Error::other)?;
            stream.write_all(&bytes).await?;
            let mut buffer = BytesMut::new();
            loop {
                let split = frame::split(&mut buffer, frame::HELLO_BYTES_MAX);
                if let Some(frame) = split.map_err(|_| not_a_server())? {
                    return io::Result::Ok((stream, buffer, frame));
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
        let (stream, rest, frame) =
            connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let welcome = match peer::decode_frame(frame) {
            Ok(peer::Frame::Welcome(welcome)) => welcome,
            Ok(peer::Frame::Refused(error)) => return Err(io::Error::other(error)),
            _ => return Err(not_a_server()),
        };
        let (reader, writer) = stream.into_split();
        let pending = Arc::new(PendingRequests::default());
        let reading = tokio::spawn(read_responses(pending.clone(), reader, rest));
        Ok(Arc::new(Link {
            welcome,
            writer: tokio::sync::Mutex::new(writer),
            next: AtomicU64::new(0),
            pending,
            reader: reading.abort_handle(),
        }))
    }
}

fn not_a_server() -> io::Error {
    io::Error::other("not a Crucial server that supports clusters")
}

/// Reads responses until the connection ends.
async fn read_responses(
    pending: Arc<PendingRequests>,
    mut reader: OwnedReadHalf,
    mut buffer: BytesMut,
) {
    loop {
        match frame::split(&mut buffer, RESPONSE_BYTES_MAX) {
            Ok(Some(frame)) => {
                if let Ok(peer::Frame::Answer { id, body }) = peer::decode_frame(frame)
                    && let Some(waiting) = pending.waiting.lock().remove(&id)
                {
                    // The sender of the request may have stopped waiting.
                    let _ = waiting.send(body);
                }
                continue;
            }
            Ok(None) => {}
            Err(_) => break,
        }
        match reader.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => break,
        }
    }
    pending.dead.store(true, Ordering::Release);
    // Dropping the senders fails all pending requests.
    pending.waiting.lock().clear();
}

impl Link {
    async fn request(&self, request: &[u8]) -> io::Result<Bytes> {
        let (bytes_max, bytes) = (
            self.welcome.frame_bytes_max,
            request.len() + REQUEST_HEADER_BYTES,
        );
        if bytes as u64 > bytes_max {
            return Err(io::Error::other(format!(
                "the request has {bytes} bytes, the other server's limit is {bytes_max} (frame_bytes_max)"
            )));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, response) = oneshot::channel();
        let mut bytes = Vec::with_capacity(bytes);
        peer::write_ask(id, request, &mut bytes).map_err(io::Error::other)?;
        self.pending.waiting.lock().insert(id, sender);
        let guard = PendingGuard {
            pending: &self.pending,
            id,
        };
        // If an earlier request is stuck in the socket, this one waits behind it until its own time limit.
        let mut writer = self.writer.lock().await;
        let write_guard = WriteGuard {
            pending: &self.pending,
            is_complete: false,
        };
        writer.write_all(&bytes).await?;
        write_guard.complete();
        drop(writer);
        if self.pending.dead.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let response = response.await;
        drop(guard);
        response.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Removes a request from the pending requests when its sender stops waiting.
struct PendingGuard<'a> {
    pending: &'a PendingRequests,
    id: u64,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.pending.waiting.lock().remove(&self.id);
    }
}

/// Marks the connection as dead if the write of a frame is abandoned, since no other frame can follow a partial one.
struct WriteGuard<'a> {
    pending: &'a PendingRequests,
    is_complete: bool,
}

impl WriteGuard<'_> {
    fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.pending.dead.store(true, Ordering::Release);
        }
    }
}
