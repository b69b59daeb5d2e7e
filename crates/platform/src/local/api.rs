//! The Lambda Runtime API, over HTTP.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};

use super::pool::Pool;
use super::process_state::Event;
use crate::envelope;
use crate::platform::Failure;
use crate::worker::{API_VERSION, RESULT_TOO_LARGE};

type Reply = Response<Full<Bytes>>;

/// How many connections may wait to be accepted: many workers start at the same time.
const BACKLOG: i32 = 4096;

/// Time limit for the first request with a valid token on a new connection.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest document that is decoded on the platform's own thread, in bytes.
const DECODE_INLINE_BYTES_MAX: usize = 256 << 10;

/// Opens the listening socket of the API.
pub(super) fn bind() -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    // The second `listen` raises the backlog: the standard library's is too small.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Accepts workers' connections for as long as the pool lives.
pub(super) async fn listen(pool: Rc<Pool>, listener: StdTcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen for workers"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(serve(pool.clone(), stream));
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept a worker's connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(pool: Rc<Pool>, stream: TcpStream) {
    // Without this option responses are slower, but correct.
    let _ = stream.set_nodelay(true);
    let authenticated = Rc::new(Cell::new(false));
    let service = {
        let authenticated = authenticated.clone();
        service_fn(move |request| {
            let (pool, authenticated) = (pool.clone(), authenticated.clone());
            async move { Ok::<_, Infallible>(respond(&pool, &authenticated, request).await) }
        })
    };
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // An error only means that the connection ended; the worker's exit status explains why.
        _ = &mut connection => return,
        () = tokio::time::sleep(AUTHENTICATION_TIMEOUT) => {}
    }
    if authenticated.get() {
        let _ = connection.await;
    }
}

async fn respond(pool: &Rc<Pool>, authenticated: &Cell<bool>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    // `/WORKER/TOKEN/VERSION/runtime/…`: the API address of each worker contains its id and its token.
    let mut parts = path.trim_start_matches('/').splitn(4, '/');
    let (worker, token) = (parts.next(), parts.next());
    let version = parts.next();
    let Some(worker) = worker
        .and_then(|text| text.parse().ok())
        .filter(|worker| pool.is_worker(*worker, token.unwrap_or_default()))
    else {
        return status(StatusCode::FORBIDDEN, "not a worker of this platform");
    };
    authenticated.set(true);
    if version != Some(API_VERSION) {
        return status(
            StatusCode::NOT_FOUND,
            "unsupported version of the Runtime API",
        );
    }
    let route: Vec<&str> = parts.next().unwrap_or_default().split('/').collect();
    match (request.method(), &route[..]) {
        (&Method::GET, ["runtime", "invocation", "next"]) => next(pool, worker).await,
        (&Method::POST, ["runtime", "invocation", id, "response"]) => {
            let result = response(request, pool.config.payload_bytes_max).await;
            finish(pool, worker, id, result)
        }
        (&Method::POST, ["runtime", "invocation", id, "error"]) => {
            let result = error(request, pool.config.payload_bytes_max).await;
            finish(pool, worker, id, result.map(Err))
        }
        (&Method::POST, ["runtime", "init", "error"]) => {
            if let Some(failure) = error(request, pool.config.payload_bytes_max).await {
                pool.on_start_failure(worker, &failure);
            }
            status(StatusCode::ACCEPTED, "")
        }
        (method, ["crucial", "invocations", number]) => match number.parse() {
            Ok(number) => invocation(pool, worker, number, method.clone(), request).await,
            Err(_) => status(StatusCode::BAD_REQUEST, "an invocation has a number"),
        },
        (&Method::GET, ["crucial", "outcomes", "next"]) => match pool.next_outcome(worker).await {
            Some(message) => Response::new(Full::new(message.into())),
            None => status(StatusCode::GONE, "the worker is no longer needed"),
        },
        _ => status(StatusCode::NOT_FOUND, "no such operation"),
    }
}

/// Starts or cancels an invocation by a worker.
async fn invocation(
    pool: &Rc<Pool>,
    worker: u64,
    number: u64,
    method: Method,
    request: Request<Incoming>,
) -> Reply {
    match method {
        Method::POST => match body(request, pool.config.payload_bytes_max).await {
            Some(Ok(message)) if pool.invoke_for(worker, number, &message) => {
                status(StatusCode::ACCEPTED, "")
            }
            Some(Err(_)) => status(StatusCode::PAYLOAD_TOO_LARGE, "the payload is too large"),
            Some(Ok(_)) | None => status(StatusCode::BAD_REQUEST, "no invocation"),
        },
        Method::DELETE => {
            pool.cancel_for(worker, number);
            status(StatusCode::ACCEPTED, "")
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "POST or DELETE is expected"),
    }
}

async fn next(pool: &Rc<Pool>, worker: u64) -> Reply {
    let Ok(event) = pool.next_event(worker).await else {
        return status(StatusCode::GONE, "the worker is no longer needed");
    };
    let Event {
        request_id,
        deadline_ms,
        document,
    } = event;
    Response::builder()
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", request_id)
        .header("Lambda-Runtime-Deadline-Ms", deadline_ms.to_string())
        .header("Lambda-Runtime-Invoked-Function-Arn", "arn:crucial:local")
        .header("Lambda-Runtime-Trace-Id", "Root=local")
        .body(Full::new(document.into()))
        .unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR, ""))
}

/// The end of an invocation as a worker posts it; `None` if the request was incomplete, in which case the worker's
/// exit status explains the failure.
type Posted<T> = Option<T>;

fn finish(
    pool: &Rc<Pool>,
    worker: u64,
    id: &str,
    result: Posted<Result<Vec<u8>, Failure>>,
) -> Reply {
    let Some(result) = result else {
        return status(StatusCode::BAD_REQUEST, "incomplete request");
    };
    if pool.finish(worker, id, result) {
        status(StatusCode::ACCEPTED, "")
    } else {
        status(StatusCode::BAD_REQUEST, "no such invocation")
    }
}

async fn response(
    request: Request<Incoming>,
    bytes_max: usize,
) -> Posted<Result<Vec<u8>, Failure>> {
    let document = match body(request, bytes_max).await? {
        Ok(document) => document,
        Err(failure) => return Some(Err(failure)),
    };
    let payload = if document.len() <= DECODE_INLINE_BYTES_MAX {
        envelope::unwrap(&document)
    } else {
        let decoding = tokio::task::spawn_blocking(move || envelope::unwrap(&document));
        decoding
            .await
            .unwrap_or_else(|error| Err(error.to_string()))
    };
    Some(match payload {
        Ok(payload) if payload.len() > bytes_max => Err(Failure::ResultTooLarge { max: bytes_max }),
        Ok(payload) => Ok(payload),
        Err(message) => Err(Failure::Function {
            error_type: "Envelope".to_owned(),
            message,
            location: None,
        }),
    })
}

async fn body(request: Request<Incoming>, bytes_max: usize) -> Posted<Result<Bytes, Failure>> {
    let limit = envelope::wrapped_len_max(bytes_max);
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(whole) => Some(Ok(whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Some(Err(Failure::ResultTooLarge { max: bytes_max }))
        }
        Err(_) => None,
    }
}

/// An error as the Lambda Runtime API encodes it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ErrorDocument {
    error_type: String,
    error_message: String,
    stack_trace: Vec<String>,
}

async fn error(request: Request<Incoming>, bytes_max: usize) -> Posted<Failure> {
    let document = match body(request, bytes_max).await? {
        Ok(document) => document,
        Err(failure) => return Some(failure),
    };
    let error: ErrorDocument =
        serde_json::from_slice(&document).unwrap_or_else(|_| ErrorDocument {
            error_type: "Unknown".to_owned(),
            error_message: String::from_utf8_lossy(&document).into_owned(),
            stack_trace: Vec::new(),
        });
    if error.error_type == RESULT_TOO_LARGE {
        return Some(Failure::ResultTooLarge { max: bytes_max });
    }
    Some(Failure::Function {
        error_type: error.error_type,
        message: error.error_message,
        location: error.stack_trace.into_iter().next(),
    })
}

fn status(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply
}
