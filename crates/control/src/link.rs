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
use tokio::task::AbortHandle;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// An address that did not answer is not tried again for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// What a frame has besides the question: kind and number.
const ASK_BYTES: usize = 9;

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
    answers: Arc<Answers>,
    /// Takes in the answers.
    reader: AbortHandle,
}

/// What is awaited on a connection.
#[derive(Default)]
struct Answers {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
    /// Nothing more comes.
    dead: AtomicBool,
}

impl Drop for Link {
    fn drop(&mut self) {
        // With both halves the connection is closed.
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

    /// Who is at an address, whichever cluster it is part of. It may be part of one soon, so the connection is not kept.
    pub async fn who(&self, address: &str) -> io::Result<peer::Welcome> {
        Ok(self.connect(address, 0).await?.welcome)
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
                link.answers.dead.store(true, Ordering::Release);
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
            && !link.answers.dead.load(Ordering::Acquire)
        {
            return Ok(link.clone());
        }
        if let Some((at, why)) = &state.failed
            && at.elapsed() < PAUSE
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
        let answers = Arc::new(Answers::default());
        let reading = tokio::spawn(read(answers.clone(), reader, rest));
        Ok(Arc::new(Link {
            welcome,
            writer: tokio::sync::Mutex::new(writer),
            next: AtomicU64::new(0),
            answers,
            reader: reading.abort_handle(),
        }))
    }
}

fn no_server() -> io::Error {
    io::Error::other("what answers there is no Crucial server that can be part of a cluster")
}

async fn read(answers: Arc<Answers>, mut reader: OwnedReadHalf, mut buffer: BytesMut) {
    loop {
        match frame::split(&mut buffer, ANSWER_BYTES_MAX) {
            Ok(Some(frame)) => {
                if let Ok(peer::Frame::Answer { id, body }) = peer::decode_frame(frame)
                    && let Some(waiting) = answers.waiting.lock().remove(&id)
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
    answers.dead.store(true, Ordering::Release);
    // Whoever waits hears that there will be no answer.
    answers.waiting.lock().clear();
}

impl Link {
    async fn ask(&self, question: &[u8]) -> io::Result<Bytes> {
        let (bytes_max, bytes) = (self.welcome.frame_bytes_max, question.len() + ASK_BYTES);
        if bytes as u64 > bytes_max {
            return Err(io::Error::other(format!(
                "a question of {bytes} bytes, where {bytes_max} (frame_bytes_max) are allowed there"
            )));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mut bytes = Vec::with_capacity(bytes);
        peer::write_ask(id, question, &mut bytes).map_err(io::Error::other)?;
        self.answers.waiting.lock().insert(id, sender);
        let asked = Asked {
            answers: &self.answers,
            id,
        };
        // Behind a question that does not get through this one does not either: who asked stops waiting.
        let mut writer = self.writer.lock().await;
        let written = Written {
            answers: &self.answers,
            is_whole: false,
        };
        writer.write_all(&bytes).await?;
        written.whole();
        drop(writer);
        if self.answers.dead.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let answer = answer.await;
        drop(asked);
        answer.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A question, as long as somebody waits for the answer.
struct Asked<'a> {
    answers: &'a Answers,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.answers.waiting.lock().remove(&self.id);
    }
}

/// A frame that is being written. If that is given up, nothing can follow on the connection.
struct Written<'a> {
    answers: &'a Answers,
    is_whole: bool,
}

impl Written<'_> {
    fn whole(mut self) {
        self.is_whole = true;
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.answers.dead.store(true, Ordering::Release);
        }
    }
}
