//! TCP proxies between clients and servers, which can cut connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use libtest_mimic::Failed;

/// The kind of a client's first frame: the byte behind its length.
const HELLO: u8 = 1;

/// TCP proxies, one before each server, that can cut the connections of clients. What servers of a cluster send each
/// other is only forwarded.
pub struct Proxies {
    /// Where each listens.
    pub addresses: Vec<String>,
    /// Where each forwards to.
    servers: Vec<Arc<Mutex<String>>>,
    shared: Arc<Shared>,
}

/// What all proxies share.
#[derive(Default)]
struct Shared {
    connections: Mutex<Connections>,
    answered: Condvar,
}

#[derive(Default)]
struct Connections {
    /// Both sides of the connections of clients.
    open: Vec<TcpStream>,
    /// A client that connected since the last cut has received something.
    answered: bool,
}

impl Proxies {
    pub fn start(count: usize) -> Result<Proxies, Failed> {
        let mut proxies = Proxies {
            addresses: Vec::new(),
            servers: Vec::new(),
            shared: Arc::default(),
        };
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            proxies.addresses.push(listener.local_addr()?.to_string());
            let server = Arc::<Mutex<String>>::default();
            proxies.servers.push(server.clone());
            let shared = proxies.shared.clone();
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let (shared, server) = (shared.clone(), server.lock().unwrap().clone());
                    std::thread::spawn(move || {
                        // An error is the end of this one connection.
                        let _ = shared.forward(client, &server);
                    });
                }
            });
        }
        Ok(proxies)
    }

    /// Says where a proxy forwards to from now on.
    pub fn forward_to(&self, index: usize, server: &str) {
        server.clone_into(&mut self.servers[index].lock().unwrap());
    }

    /// Cuts the connections of all clients.
    pub fn cut(&self) {
        let mut connections = self.shared.connections.lock().unwrap();
        connections.answered = false;
        for stream in connections.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until a client has connected again, and has been answered.
    pub fn wait_for_connection(&self) {
        let connections = self.shared.connections.lock().unwrap();
        let is_missing = |connections: &mut Connections| !connections.answered;
        let waited = self.shared.answered.wait_while(connections, is_missing);
        drop(waited.unwrap());
    }
}

impl Shared {
    fn forward(&self, client: TcpStream, server: &str) -> std::io::Result<()> {
        let upstream = TcpStream::connect(server)?;
        let mut beginning = [0; 5];
        (&client).read_exact(&mut beginning)?;
        (&upstream).write_all(&beginning)?;
        let is_client = beginning[4] == HELLO;
        if is_client {
            let mut connections = self.connections.lock().unwrap();
            connections.open.push(client.try_clone()?);
            connections.open.push(upstream.try_clone()?);
        }
        let (mut from_client, mut to_upstream) = (client.try_clone()?, upstream.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_upstream);
            let _ = to_upstream.shutdown(Shutdown::Both);
        });
        let (mut from_upstream, mut to_client) = (upstream, client);
        let mut buffer = [0; 4096];
        while let Ok(count) = from_upstream.read(&mut buffer) {
            if count == 0 || to_client.write_all(&buffer[..count]).is_err() {
                break;
            }
            if is_client {
                self.connections.lock().unwrap().answered = true;
                self.answered.notify_all();
            }
        }
        to_client.shutdown(Shutdown::Both)
    }
}
