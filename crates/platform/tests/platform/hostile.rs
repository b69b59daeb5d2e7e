//! Requests to the Runtime API that no well-behaved worker sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;

use crate::invocations::{invocation, local, run, start, text};
use crate::rendezvous::{Participant, Rendezvous};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        garbage_is_ignored,
        requests_without_a_valid_token_are_refused,
        a_busy_worker_gets_no_further_event,
        an_idle_worker_may_repeat_its_request,
        a_result_that_is_not_an_envelope_is_an_error,
        an_incomplete_result_is_ignored,
        open_connections_do_not_block_invocations,
        foreign_error_documents_are_understood,
    ]
}

/// Sends a complete request, and reads the status of the response.
pub fn send(host: &str, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(host).expect("the API listens");
    stream.write_all(request).expect("the API reads");
    read_status(&mut stream)
}

/// Sends the bytes and closes the stream for writing. Returns the status of the response, if there is one.
fn send_incomplete(host: &str, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(host).expect("the API listens");
    // Best effort: the server may close the connection before it has read all bytes.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_status(&mut stream)
}

fn read_status(stream: &mut TcpStream) -> Option<u16> {
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response)
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

/// A request that asks for the connection to be closed after the response.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Participant {
    fn path(&self, operation: &str) -> String {
        format!("{}/2018-06-01/runtime/{operation}", self.api.1)
    }

    fn invocation_path(&self, what: &str) -> String {
        self.path(&format!("invocation/{}/{what}", self.request_id))
    }

    /// Posts the result `for it` in place of the worker.
    pub fn respond_in_its_place(&self) {
        let document = r#"{"crucial":1,"payload":"Zm9yIGl0"}"#;
        assert_eq!(
            self.post(&self.invocation_path("response"), document),
            Some(202)
        );
    }

    fn post(&self, path: &str, body: &str) -> Option<u16> {
        send(&self.api.0, &request("POST", path, body))
    }
}

fn garbage_is_ignored() {
    let platform = local(LocalConfig::default());
    let api = text(run(&platform, "variable AWS_LAMBDA_RUNTIME_API"));
    let host = api.split('/').next().unwrap();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let noise: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for bytes in [
        &b""[..],
        b"\0\0\0\0",
        b"GET",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
        &noise,
    ] {
        assert!(send_incomplete(host, bytes).is_none_or(|status| status >= 400));
    }
    assert_eq!(text(run(&platform, "echo fine")), "fine");
}

fn requests_without_a_valid_token_are_refused() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let started = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    let (id, token) = participant.api.1[1..].split_once('/').unwrap();
    let own = participant.invocation_path("response");
    let strange = [
        own.replace(token, &"0".repeat(token.len())),
        own.replace(token, ""),
        own.replace(&format!("/{id}/"), "/9999/"),
        own.replace(&participant.api.1, ""),
        "/".to_owned(),
    ];
    for path in strange {
        assert_eq!(participant.post(&path, "{}"), Some(403), "{path}");
    }
    let others = [
        own.replace("2018-06-01", "2050-01-01"),
        participant.path("restore/next"),
    ];
    for path in others {
        assert_eq!(participant.post(&path, "{}"), Some(404), "{path}");
    }
    let path = own.replace(&participant.request_id, "other");
    assert_eq!(
        participant.post(&path, r#"{"crucial":1,"payload":""}"#),
        Some(400)
    );
    assert!(started.is_waiting());
    participant.release();
    assert_eq!(text(started.wait()), "x");
}

fn a_busy_worker_gets_no_further_event() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let busy = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    let waiting = start(&platform, invocation("echo later"));
    let next = request("GET", &participant.path("invocation/next"), "");
    assert_eq!(send(&participant.api.0, &next), Some(410));
    assert!(busy.is_waiting() && waiting.is_waiting());
    participant.release();
    assert_eq!(text(busy.wait()), "x");
    assert_eq!(text(waiting.wait()), "later");
}

fn an_idle_worker_may_repeat_its_request() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    run(&platform, rendezvous.payload("connect")).unwrap();
    let participant = rendezvous.participant();
    let host = participant.api.0.clone();
    let next = request("GET", &participant.path("invocation/next"), "");
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(&next).unwrap();
    // The earlier request is refused. If that is the worker's own request, the worker ends, and the other request
    // is refused as well.
    assert_eq!(read_status(&mut stream), Some(410));
    assert_eq!(text(run(&platform, "echo the next")), "the next");
}

/// How an invocation fails for which this was posted before the worker's own result.
fn failure_of(platform: &dyn Platform, path: &str, body: &str) -> Failure {
    let rendezvous = Rendezvous::new();
    let started = start(platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    assert_eq!(
        participant.post(&participant.invocation_path(path), body),
        Some(202)
    );
    let failure = started.wait().unwrap_err();
    // The worker's own result comes too late.
    participant.release();
    failure
}

fn a_result_that_is_not_an_envelope_is_an_error() {
    let platform = local(LocalConfig::default());
    for body in [
        "",
        "null",
        "{}",
        r#"{"crucial":1,"payload":"?"}"#,
        r#"{"crucial":2,"payload":""}"#,
    ] {
        let failure = failure_of(&platform, "response", body);
        assert!(
            matches!(&failure, Failure::Function { error_type, .. } if error_type == "Envelope"),
            "{failure:?}"
        );
    }
    assert_eq!(text(run(&platform, "echo fine")), "fine");
}

fn an_incomplete_result_is_ignored() {
    let platform = local(LocalConfig::default());
    let rendezvous = Rendezvous::new();
    let started = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    let path = participant.invocation_path("response");
    let half =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{\"crucial\"");
    send_incomplete(&participant.api.0, half.as_bytes());
    assert!(started.is_waiting());
    participant.release();
    assert_eq!(text(started.wait()), "x");
}

fn open_connections_do_not_block_invocations() {
    let platform = local(LocalConfig::default());
    let api = text(run(&platform, "variable AWS_LAMBDA_RUNTIME_API"));
    let host = api.split('/').next().unwrap();
    let mut open = Vec::new();
    for bytes in [
        &b""[..],
        b"GET",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(host).unwrap();
            stream.write_all(bytes).unwrap();
            open.push(stream);
        }
    }
    assert_eq!(text(run(&platform, "echo fine")), "fine");
    platform.shutdown();
    drop(open);
}

fn foreign_error_documents_are_understood() {
    let platform = local(LocalConfig::default());
    let documents = [
        (r#"{"errorType":"E","errorMessage":"m"}"#, "E", "m"),
        (r#"{"errorMessage":"m","stackTrace":["a","b"]}"#, "", "m"),
        ("not JSON", "Unknown", "not JSON"),
    ];
    for (document, kind, words) in documents {
        let failure = failure_of(&platform, "error", document);
        let Failure::Function {
            error_type,
            message,
            ..
        } = failure
        else {
            panic!("{failure:?}");
        };
        assert_eq!((error_type.as_str(), message.as_str()), (kind, words));
    }
}
