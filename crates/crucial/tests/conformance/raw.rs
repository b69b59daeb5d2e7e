//! A client made of nothing but a socket, to say what no well-behaved client says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use crucial::{Config, Error, ObjectId, RunId, SharedType};
use crucial_object::{MethodId, Sequence, SessionId};
use crucial_proto::frame::{
    self, CallFrame, Hello, OpenMode, OpenRequest, Operation, Response, Routes,
};
use libtest_mimic::Failed;

use crate::place;
use crate::server::Server;

pub struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
    run: RunId,
    /// The server's number in its cluster.
    node: u64,
    /// Whether it is the server that clients name first.
    is_first: bool,
    routes: Option<Routes>,
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect(server: &Server) -> Result<Raw, Failed> {
        let stream = TcpStream::connect(server.last())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Raw {
            stream,
            buffer: BytesMut::new(),
            run: RunId([9; 16]),
            node: 0,
            is_first: server.address.starts_with(server.last()),
            routes: None,
        })
    }

    /// Connects, and starts the session `session`, or takes it up again if the server must `resume` it.
    pub fn hello(server: &Server, session: u64, resume: bool) -> Result<Raw, Failed> {
        let mut raw = Raw::connect(server)?;
        match raw.greet(session)? {
            Response::Welcome(welcome) if welcome.resumed || !resume => {
                raw.node = welcome.node;
                raw.know(welcome.routes)?;
                Ok(raw)
            }
            other => Err(format!("no welcome: {other:?}").into()),
        }
    }

    /// Says hello; the answer.
    pub fn greet(&mut self, session: u64) -> Result<Response, Failed> {
        self.run.0[..8].copy_from_slice(&session.to_le_bytes());
        let hello = Hello {
            session: SessionId(session),
            run: self.run,
            owner: true,
            namespace: "raw".to_owned(),
            attempt: None,
            routes: 0,
            fences: 0,
        };
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes)?;
        self.send(&bytes)?;
        self.receive()
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// Says that it goes by these routes, so that the server executes its calls.
    fn know(&mut self, routes: Routes) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        frame::write_known_routes(routes.version, &mut bytes)?;
        self.routes = Some(routes);
        self.send(&bytes)
    }

    /// Whether the server that it speaks to is the primary of an object.
    fn is_here(&self, object: &ObjectId) -> bool {
        self.routes.as_ref().is_none_or(|routes| {
            let primary = routes.primary(routes.partition(object));
            primary.is_some_and(|server| server.node == self.node)
        })
    }

    /// The next response that is not about routes.
    pub fn receive(&mut self) -> Result<Response, Failed> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, frame::FRAME_BYTES_MAX)? {
                match frame::decode_response(frame)? {
                    Response::Routes(routes) => {
                        // A server that ends does not take this, but what it sent before is still to be read.
                        let _ = self.know(routes);
                        continue;
                    }
                    response => return Ok(response),
                }
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

    /// Opens an object of this run, of which the server is the primary.
    pub fn open(
        &mut self,
        sequence: u64,
        type_name: &str,
        state: &[u8],
    ) -> Result<Result<ObjectId, Error>, Failed> {
        let mut request = OpenRequest {
            type_name: type_name.to_owned(),
            key: String::new(),
            persistent: false,
            mode: OpenMode::FindOrCreate,
            replicas: Config::from_env()?.replicas,
            state: state.to_vec(),
        };
        let keys = (0..).map(|number| format!("raw-{sequence}-{number}"));
        let mut found = keys.filter_map(|key| {
            request.key = key;
            let object = request.object(&self.run, "raw");
            self.is_here(&object).then_some(object)
        });
        let object = found.next().ok_or("no key")?;
        drop(found);
        place::note(format!("{type_name} of a raw client"), self.is_first);
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
        Ok(self.open(sequence, T::NAME, &crucial_object::encode(value)?)??)
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
