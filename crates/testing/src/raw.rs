//! A client made of nothing but a socket, which also sends what no correct client sends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use crucial_core::frame::{self, CallFrame, Hello, OpenMode, OpenRequest, Operation, Response};
use crucial_object::{
    Error as CallError, MethodId, ObjectId, RunId, Sequence, SessionId, SharedType, encode,
};

use crate::error::{Error, Result, io};

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a server.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
    run: RunId,
}

impl Raw {
    /// Connects, and sends nothing.
    pub fn connect(server: &str) -> Result<Raw> {
        let stream = TcpStream::connect(server).map_err(io("connect"))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(io("set a time-out"))?;
        Ok(Raw {
            stream,
            buffer: BytesMut::new(),
            run: RunId([9; 16]),
        })
    }

    /// Connects, and begins or resumes the session `session`.
    pub fn hello(server: &str, session: u64, resume: bool) -> Result<Raw> {
        let mut raw = Raw::connect(server)?;
        raw.run.0[..8].copy_from_slice(&session.to_le_bytes());
        let mut bytes = Vec::new();
        frame::write_hello(
            &Hello {
                session: SessionId(session),
                resume,
                run: raw.run,
                owner: true,
                namespace: "raw".to_owned(),
                attempt: None,
                routes: 0,
                fences: 0,
            },
            &mut bytes,
        )?;
        raw.send(&bytes)?;
        match raw.receive()? {
            // A server of a cluster accepts a session that it does not know, and expects to be told which routes the client
            // knows.
            Response::Welcome(welcome) if welcome.node != 0 => {
                let known = welcome.routes.map_or(0, |routes| routes.version);
                let mut bytes = Vec::new();
                frame::write_known_routes(known, &mut bytes)?;
                raw.send(&bytes)?;
                Ok(raw)
            }
            Response::Welcome(welcome) if welcome.resumed == resume => Ok(raw),
            other => Err(Error::Wrong(format!("not a welcome: {other:?}"))),
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(io("send"))
    }

    /// The next response.
    pub fn receive(&mut self) -> Result<Response> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, frame::FRAME_BYTES_MAX)? {
                return Ok(frame::decode_response(frame)?);
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).map_err(io("receive"))?;
            if count == 0 {
                return Err(Error::Wrong(
                    "the server has closed the connection".to_owned(),
                ));
            }
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    /// Whether the server closes the connection, after any further responses.
    pub fn is_closed(&mut self) -> bool {
        while self.receive().is_ok() {}
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1..))
    }

    /// The reply to `sequence`.
    pub fn reply(&mut self, sequence: u64) -> Result<Result<Vec<u8>, CallError>> {
        match self.receive()? {
            Response::Reply {
                sequence: answered,
                result,
            } if answered.0 == sequence => Ok(result.map(Into::into)),
            other => Err(Error::Wrong(format!(
                "not the reply to {sequence}: {other:?}"
            ))),
        }
    }

    /// Opens an object of this run.
    pub fn open(
        &mut self,
        sequence: u64,
        type_name: &str,
        state: &[u8],
    ) -> Result<Result<ObjectId, CallError>> {
        let request = OpenRequest {
            type_name: type_name.to_owned(),
            key: format!("raw-{sequence}"),
            persistent: false,
            mode: OpenMode::FindOrCreate,
            replicas: 0,
            state: state.to_vec(),
        };
        let object = request.object(&self.run, "raw");
        let mut bytes = Vec::new();
        let operation = Operation::Open(request);
        frame::write_operation(
            Sequence(sequence),
            Sequence(sequence),
            &operation,
            &mut bytes,
        )?;
        self.send(&bytes)?;
        Ok(self.reply(sequence)?.map(|_| object))
    }

    /// Creates an object of a library type.
    pub fn make<T: SharedType + serde::Serialize>(
        &mut self,
        sequence: u64,
        value: &T,
    ) -> Result<ObjectId> {
        Ok(self.open(sequence, T::NAME, &encode(value)?)??)
    }
}

/// The bytes of a call, whose arguments are encoded already.
pub fn call(sequence: u64, object: ObjectId, method: &str, args: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let call = CallFrame {
        sequence: Sequence(sequence),
        acked: Sequence(1),
        object,
        method: MethodId::of(method),
        timeout_ms: 0,
        args,
    };
    frame::write_call(&call, &mut bytes).expect("the call is small");
    bytes
}
