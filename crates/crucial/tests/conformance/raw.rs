//! A client made of nothing but a socket, to say what no well-behaved client says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use crucial::{Error, ObjectId, RunId, SharedType};
use crucial_core::frame::{self, CallFrame, Hello, OpenMode, OpenRequest, Operation, Response};
use crucial_object::{MethodId, Sequence, SessionId};
use libtest_mimic::Failed;

pub struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
    run: RunId,
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect(server: &str) -> Result<Raw, Failed> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Raw {
            stream,
            buffer: BytesMut::new(),
            run: RunId([9; 16]),
        })
    }

    /// Connects, and starts or takes up the session `session`.
    pub fn hello(server: &str, session: u64, resume: bool) -> Result<Raw, Failed> {
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
            // The server is to hear that its routes are known.
            Response::Welcome(welcome) if welcome.resumed || !resume => {
                let mut bytes = Vec::new();
                frame::write_known_routes(welcome.routes.version, &mut bytes)?;
                raw.send(&bytes)?;
                Ok(raw)
            }
            other => Err(format!("no welcome: {other:?}").into()),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// The next response.
    pub fn receive(&mut self) -> Result<Response, Failed> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, frame::FRAME_BYTES_MAX)? {
                return Ok(frame::decode_response(frame)?);
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    /// Whether the server closes the connection, after whatever it still says.
    pub fn is_closed(&mut self) -> bool {
        while self.receive().is_ok() {}
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1..))
    }

    /// The reply to `sequence`.
    pub fn reply(&mut self, sequence: u64) -> Result<Result<Vec<u8>, Error>, Failed> {
        match self.receive()? {
            Response::Reply {
                sequence: answered,
                result,
            } if answered.0 == sequence => Ok(result.map(Into::into)),
            other => Err(format!("no reply to {sequence}: {other:?}").into()),
        }
    }

    /// Opens an object of this run.
    pub fn open(
        &mut self,
        sequence: u64,
        type_name: &str,
        state: &[u8],
    ) -> Result<Result<ObjectId, Error>, Failed> {
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

    /// Makes an object of a library type.
    pub fn make<T: SharedType + serde::Serialize>(
        &mut self,
        sequence: u64,
        value: &T,
    ) -> Result<ObjectId, Failed> {
        Ok(self.open(sequence, T::NAME, &crucial::encode(value)?)??)
    }
}

/// The bytes of a call.
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
    frame::write_call(&call, &mut bytes).expect("it is small");
    bytes
}
