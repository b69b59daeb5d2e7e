//! Which server a client reaches at a loopback address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crucial_client::{Client, Config};
use crucial_local::tcp;
use crucial_proto::Endpoint;
use crucial_server::Server;

fn server(listen: &str) -> Result<Server, crucial_server::StartError> {
    Server::start(crucial_server::Config {
        listen: vec![listen.parse().unwrap()],
        ..Default::default()
    })
}

fn port(server: &Server) -> u16 {
    match &server.endpoints()[0] {
        Endpoint::Tcp { port, .. } => *port,
        Endpoint::Unix(_) => unreachable!("it listens on TCP"),
    }
}

fn sessions(server: &Server) -> usize {
    server.status().node.sessions
}

/// A server at 127.0.0.2, and what `bind` makes of the same port.
fn beside<T, E>(bind: impl Fn(u16) -> Result<T, E>) -> (Server, T, u16) {
    for _ in 0..100 {
        let first = server("127.0.0.2:0").unwrap();
        let port = port(&first);
        // Another process may have the port there.
        if let Ok(second) = bind(port) {
            return (first, second, port);
        }
    }
    panic!("no port is free at both addresses");
}

fn connect(address: &str) -> std::sync::Arc<Client> {
    Client::connect(Config::new(address.parse().unwrap())).unwrap()
}

#[test]
fn servers_of_one_port_have_clients_of_their_own() {
    let (first, second, port) = beside(|port| server(&format!("127.0.0.1:{port}")));
    let _to_first = connect(&format!("127.0.0.2:{port}"));
    assert_eq!((sessions(&first), sessions(&second)), (1, 0));
    let _to_second = connect(&format!("127.0.0.1:{port}"));
    assert_eq!((sessions(&first), sessions(&second)), (1, 1));
}

/// Passes all connections of a port on to a server.
fn tunnel(listener: TcpListener, to: SocketAddr) {
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else {
                return;
            };
            let pump = |mut from: TcpStream, mut to: TcpStream| {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                })
            };
            pump(near.try_clone().unwrap(), far.try_clone().unwrap());
            pump(far, near);
        }
    });
}

#[test]
fn a_client_reaches_whoever_is_at_its_address() {
    let (first, listener, port) = beside(|port| TcpListener::bind(("127.0.0.1", port)));
    // As if it were on another machine.
    let remote = server("127.0.0.3:0").unwrap();
    tunnel(
        listener,
        format!("127.0.0.3:{}", self::port(&remote))
            .parse()
            .unwrap(),
    );
    let _client = connect(&format!("127.0.0.1:{port}"));
    assert_eq!((sessions(&first), sessions(&remote)), (0, 1));
}

#[test]
fn a_server_is_reached_over_the_socket_of_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let paths = tcp::of_server(address, false).unwrap();
    let socket = UnixListener::bind(&paths[0]).unwrap();
    let is_used = thread::scope(|scope| {
        scope.spawn(|| Client::connect(Config::new(address.to_string().parse().unwrap())));
        loop {
            let (mut stream, _) = socket.accept().unwrap();
            // A server that starts elsewhere looks whether this socket is alive, and says nothing.
            if stream.read(&mut [0; 4]).unwrap() > 0 {
                return stream.write(b"not a server").is_ok();
            }
        }
    });
    std::fs::remove_file(&paths[0]).unwrap();
    assert!(is_used);
    // A server at the unspecified address answers at all of them.
    let server = server("0.0.0.0:0").unwrap();
    let bound = SocketAddr::from(([0, 0, 0, 0], port(&server)));
    assert!(tcp::of_server(bound, false).unwrap()[0].exists());
    let called = SocketAddr::from(([127, 0, 0, 9], port(&server)));
    let there = |path: &std::path::PathBuf| path.exists();
    assert!(tcp::of_address(called).iter().any(there));
}

/// Listens at a path as another user.
const IMPOSTOR: &str = "
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print('ready', flush=True)
sys.stdin.read()
";

#[test]
fn a_socket_of_another_user_is_not_used() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only the superuser can be two users");
    }
    let server = server("127.0.0.1:0").unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port(&server)));
    let path = &tcp::of_server(address, false).unwrap()[0];
    let theirs = Path::new("/tmp").join(format!("impostor-{}", std::process::id()));
    let mut impostor = Command::new("python3")
        .args(["-c", IMPOSTOR])
        .arg(&theirs)
        .uid(65534)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    let mut stdout = impostor.stdout.take().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    std::fs::rename(&theirs, path).unwrap();

    let client = connect(&address.to_string());
    assert_eq!(sessions(&server), 1, "reached over TCP");
    drop(client);
    drop(impostor.stdin.take());
    impostor.wait().unwrap();
    std::fs::remove_file(path).unwrap();
}
