//! Bytes at the Runtime API that no worker sends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crucial_platform::{Failure, LocalConfig, Platform};
use libtest_mimic::Trial;

use crate::invoke::{invocation, local, run, start, text};
use crate::meeting::{Guest, Meeting};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        garbage_does_no_harm,
        strangers_are_refused,
        a_busy_worker_gets_nothing_more,
        an_idle_worker_may_ask_again,
        a_result_that_is_no_envelope,
        half_a_result_is_none,
        open_connections_hold_nobody_up,
        errors_in_foreign_words,
    ]
}

/// Sends a whole request, and reads the status of the answer.
pub fn send(host: &str, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.write_all(request).expect("it reads");
    read_status(&mut stream)
}

/// Sends bytes and no more, and reads the status of the answer; `None` if there is none.
fn break_off(host: &str, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(host).expect("it listens");
    // The other end may have had enough before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_status(&mut stream)
}

fn read_status(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer)
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

/// A request that keeps nothing alive.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

impl Guest {
    fn path(&self, operation: &str) -> String {
        format!("{}/2018-06-01/runtime/{operation}", self.api.1)
    }

    fn own(&self, what: &str) -> String {
        self.path(&format!("invocation/{}/{what}", self.request_id))
    }

    /// Gives a result in its place: `for it`.
    pub fn answer_for_it(&self) {
        let document = r#"{"crucial":1,"payload":"Zm9yIGl0"}"#;
        assert_eq!(self.post(&self.own("response"), document), Some(202));
    }

    fn post(&self, path: &str, body: &str) -> Option<u16> {
        send(&self.api.0, &request("POST", path, body))
    }
}

fn garbage_does_no_harm() {
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
        assert!(break_off(host, bytes).is_none_or(|status| status >= 400));
    }
    assert_eq!(text(run(&platform, "echo fine")), "fine");
}

fn strangers_are_refused() {
    let platform = local(LocalConfig::default());
    let meeting = Meeting::new();
    let started = start(&platform, invocation(meeting.payload("meet")));
    let guest = meeting.guest();
    let (id, token) = guest.api.1[1..].split_once('/').unwrap();
    let own = guest.own("response");
    let strange = [
        own.replace(token, &"0".repeat(token.len())),
        own.replace(token, ""),
        own.replace(&format!("/{id}/"), "/9999/"),
        own.replace(&guest.api.1, ""),
        "/".to_owned(),
    ];
    for path in strange {
        assert_eq!(guest.post(&path, "{}"), Some(403), "{path}");
    }
    let others = [
        own.replace("2018-06-01", "2050-01-01"),
        guest.path("restore/next"),
    ];
    for path in others {
        assert_eq!(guest.post(&path, "{}"), Some(404), "{path}");
    }
    let path = own.replace(&guest.request_id, "other");
    assert_eq!(
        guest.post(&path, r#"{"crucial":1,"payload":""}"#),
        Some(400)
    );
    assert!(started.is_waiting());
    guest.release();
    assert_eq!(text(started.wait()), "x");
}

fn a_busy_worker_gets_nothing_more() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    let meeting = Meeting::new();
    let busy = start(&platform, invocation(meeting.payload("meet")));
    let guest = meeting.guest();
    let waiting = start(&platform, invocation("echo later"));
    let next = request("GET", &guest.path("invocation/next"), "");
    assert_eq!(send(&guest.api.0, &next), Some(410));
    assert!(busy.is_waiting() && waiting.is_waiting());
    guest.release();
    assert_eq!(text(busy.wait()), "x");
    assert_eq!(text(waiting.wait()), "later");
}

fn an_idle_worker_may_ask_again() {
    let platform = local(LocalConfig {
        concurrency_max: 1,
        ..LocalConfig::default()
    });
    let meeting = Meeting::new();
    run(&platform, meeting.payload("hold")).unwrap();
    let guest = meeting.guest();
    let host = guest.api.0.clone();
    let next = request("GET", &guest.path("invocation/next"), "");
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(&next).unwrap();
    // The request that came first is refused. If it is that of the worker, the worker ends, and so does
    // the other request.
    assert_eq!(read_status(&mut stream), Some(410));
    assert_eq!(text(run(&platform, "echo the next")), "the next");
}

fn a_result_that_is_no_envelope() {
    let platform = local(LocalConfig::default());
    for body in [
        "",
        "null",
        "{}",
        r#"{"crucial":1,"payload":"?"}"#,
        r#"{"crucial":2,"payload":""}"#,
    ] {
        let meeting = Meeting::new();
        let started = start(&platform, invocation(meeting.payload("meet")));
        let guest = meeting.guest();
        assert_eq!(guest.post(&guest.own("response"), body), Some(202));
        let failure = started.wait().unwrap_err();
        assert!(
            matches!(&failure, Failure::Function { error_type, .. } if error_type == "Envelope"),
            "{failure:?}"
        );
        // What the worker says itself comes too late.
        guest.release();
    }
    assert_eq!(text(run(&platform, "echo fine")), "fine");
}

fn half_a_result_is_none() {
    let platform = local(LocalConfig::default());
    let meeting = Meeting::new();
    let started = start(&platform, invocation(meeting.payload("meet")));
    let guest = meeting.guest();
    let path = guest.own("response");
    let half =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{\"crucial\"");
    break_off(&guest.api.0, half.as_bytes());
    assert!(started.is_waiting());
    guest.release();
    assert_eq!(text(started.wait()), "x");
}

fn open_connections_hold_nobody_up() {
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

fn errors_in_foreign_words() {
    let platform = local(LocalConfig::default());
    let documents = [
        (r#"{"errorType":"E","errorMessage":"m"}"#, "E", "m"),
        (r#"{"errorMessage":"m","stackTrace":["a","b"]}"#, "", "m"),
        ("not JSON", "Unknown", "not JSON"),
    ];
    for (document, kind, words) in documents {
        let meeting = Meeting::new();
        let started = start(&platform, invocation(meeting.payload("meet")));
        let guest = meeting.guest();
        assert_eq!(guest.post(&guest.own("error"), document), Some(202));
        let failure = started.wait().unwrap_err();
        let Failure::Function {
            error_type,
            message,
            ..
        } = failure
        else {
            panic!("{failure:?}");
        };
        assert_eq!((error_type.as_str(), message.as_str()), (kind, words));
        guest.release();
    }
}
