//! Connections to the other servers, for questions.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crucial_cluster::{Incarnation, NodeId};
use crucial_core::frame::{self, peer};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// An address that did not answer is not tried again for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The connections of one server.
pub(crate) struct Links {
    node: NodeId,
    incarnation: AtomicU64,
    cluster: AtomicU64,
    links: Mutex<HashMap<String, Arc<tokio::sync::Mutex<State>>>>,
}

#[derive(Default)]
struct State {
    link: Option<Arc<Link>>,
    /// When it failed last, and why.
    failed: Option<(Instant, String)>,
}

struct Link {
    welcome: peer::Welcome,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    dead: AtomicBool,
}

impl Links {
    pub fn new(node: NodeId) -> Links {
        Links {
            node,
            incarnation: AtomicU64::new(0),
            cluster: AtomicU64::new(0),
            links: Mutex::default(),
        }
    }

    pub fn set_cluster(&self, cluster: u64) {
        self.cluster.store(cluster, Ordering::Release);
    }

    /// A new life begins: what others answered the old one is not for this.
    pub fn begin_life(&self, incarnation: Incarnation) {
        self.incarnation.store(incarnation.0, Ordering::Release);
        self.links.lock().clear();
    }

    /// Who is at an address.
    pub async fn who(&self, address: &str) -> io::Result<peer::Welcome> {
        let link = self.link(address).await?;
        if link.welcome.cluster == 0 {
            // It may be part of one soon, and says so in another welcome.
            link.dead.store(true, Ordering::Release);
        }
        Ok(link.welcome)
    }

    /// Asks; `node`: who must be there.
    pub async fn ask(
        &self,
        address: &str,
        node: Option<u64>,
        question: &[u8],
        timeout: Duration,
    ) -> io::Result<Bytes> {
        let asked = async {
            let link = self.link(address).await?;
            if node.is_some_and(|node| node != link.welcome.node) {
                link.dead.store(true, Ordering::Release);
                return Err(io::Error::other("another server is at this address"));
            }
            link.ask(question).await
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
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
            && !link.dead.load(Ordering::Acquire)
        {
            return Ok(link.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(io::Error::other(why.clone()));
        }
        match self.connect(address).await {
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

    async fn connect(&self, address: &str) -> io::Result<Arc<Link>> {
        let hello = peer::Hello {
            cluster: self.cluster.load(Ordering::Acquire),
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
                if let Some(frame) = split.map_err(|_| no_server())? {
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
            _ => return Err(no_server()),
        };
        let (reader, writer) = stream.into_split();
        let link = Arc::new(Link {
            welcome,
            writer: tokio::sync::Mutex::new(writer),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            dead: AtomicBool::new(false),
        });
        tokio::spawn(read(link.clone(), reader, rest));
        Ok(link)
    }
}

fn no_server() -> io::Error {
    io::Error::other("what answers there is no Crucial server that can be part of a cluster")
}

async fn read(link: Arc<Link>, mut reader: OwnedReadHalf, mut buffer: BytesMut) {
    loop {
        match frame::split(&mut buffer, ANSWER_BYTES_MAX) {
            Ok(Some(frame)) => {
                if let Ok(peer::Frame::Answer { id, body }) = peer::decode_frame(frame)
                    && let Some(waiting) = link.waiting.lock().remove(&id)
                {
                    // Who asked may have stopped waiting.
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
    link.dead.store(true, Ordering::Release);
    // Whoever waits hears that there will be no answer.
    link.waiting.lock().clear();
}

impl Link {
    async fn ask(&self, question: &[u8]) -> io::Result<Bytes> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        let mut asked = Asked {
            link: self,
            id,
            is_written: false,
        };
        let mut bytes = Vec::new();
        peer::write_ask(id, question, &mut bytes).map_err(io::Error::other)?;
        self.writer.lock().await.write_all(&bytes).await?;
        asked.is_written = true;
        if self.dead.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        answer.await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A question, as long as somebody waits for the answer.
struct Asked<'a> {
    link: &'a Link,
    id: u64,
    is_written: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.link.waiting.lock().remove(&self.id);
        if !self.is_written {
            // Half a frame may have been written.
            self.link.dead.store(true, Ordering::Release);
        }
    }
}
